"""Erasure of customers: retention, shredding, receipts, evidence, and the sweep of what ran out."""
