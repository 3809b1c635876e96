"""datavault: customer attributes, disclosed by purpose and consent, with every access on record."""

__version__ = "0.1.0"
