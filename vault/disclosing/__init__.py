"""The steps of a disclosure; vault/disclosure.py takes reads through them."""
