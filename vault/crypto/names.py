"""The names of the provider's keys (keys.md)."""

from collections.abc import Iterable
from typing import Final

from vault.domain.errors import ConfigurationError
from vault.domain.types import NAME

LOOKUP: Final = "datavault-lookup"
"""Wraps the lookup keys, per tenant."""
INDEX: Final = "datavault-index"
"""Wraps the blind-index keys, per (tenant, attribute)."""
PSEUDONYM: Final = "datavault-pseudonym"
"""Wraps the pseudonym roots, per tenant."""
LOG: Final = "datavault-log"
"""Signs log checkpoints, nothing else."""
RECEIPT: Final = "datavault-receipt"
"""Signs receipts."""

WRAPPING: Final = (LOOKUP, INDEX, PSEUDONYM)
SIGNING: Final = (LOG, RECEIPT)
STANDARD_CLASSES: Final = ("identity", "contact", "financial", "behaviour", "special", "evidence")

WRAPPING_KIND: Final = "aes256-gcm96"
SIGNING_KIND: Final = "ed25519"


def class_key(key_class: str) -> str:
    """The key that wraps the DEKs of a key class: `datavault-<class>`.

    Raises:
        ConfigurationError: the class is no name, or its key would be one of the keys above.
    """
    name = f"datavault-{key_class}"
    if not NAME.fullmatch(key_class) or name in WRAPPING + SIGNING:
        raise ConfigurationError(f"{key_class!r} cannot be a key class: its key has another use")
    return name


def all_keys(classes: Iterable[str]) -> dict[str, str]:
    """Every key that the product needs, by name, with its kind.

    Raises:
        ConfigurationError: see `class_key`.
    """
    wrapping = [class_key(key_class) for key_class in classes]
    return dict.fromkeys([*wrapping, *WRAPPING], WRAPPING_KIND) | dict.fromkeys(SIGNING, SIGNING_KIND)
