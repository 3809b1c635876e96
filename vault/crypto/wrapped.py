"""Which provider wrapped a key: its text begins with a word of the provider's own."""

from collections.abc import Mapping
from typing import Final

_PROVIDERS: Final[Mapping[bytes, str]] = {b"local": "local", b"vault": "transit"}
"""The word before the first colon -> the provider's name."""


def wrapping_provider(wrapped: bytes) -> str:
    """`local`, `transit`, or '' for what no provider of the product wraps."""
    return _PROVIDERS.get(wrapped.partition(b":")[0], "")
