"""What operators do with keys: status, rotation, rewrapping, rekeying, moving to another provider."""
