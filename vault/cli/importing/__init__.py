"""Import of a bank's own files: read, map, check, send, and account for every row (`subject import`)."""
