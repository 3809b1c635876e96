"""The words of datavault: types, errors, limits and the Protocols that the rooms need of each other."""
