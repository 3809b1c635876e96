"""Who is calling: client certificates (`certificates`) and JSON Web Tokens (`jwt`, `bearer`) -> caller.

`authority` is the embedded CA, for those who have no PKI at hand.
"""
