"""Measured side by side: `make bench` (performance.md)."""
