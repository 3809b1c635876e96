"""The crypto room: envelopes, DEKs, tenant keys, and the providers that wrap them."""
