"""One file per revision, in order: expand first, contract in a later release."""
