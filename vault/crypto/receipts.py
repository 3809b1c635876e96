"""Signatures on receipts (keys.md): Ed25519 (RFC 8032) by `datavault-receipt`.

What is signed is a prefix that names the kind of the document, and its bytes: a signature on one kind means
nothing on another.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vault.crypto.names import RECEIPT
from vault.domain.errors import IntegrityError
from vault.domain.protocols import KeyProvider

ERASURE_PREFIX: Final = b"datavault erasure receipt v1\n"


@dataclass(frozen=True, slots=True)
class ReceiptSignature:
    """64 bytes, and the 32-byte public key that verifies them."""

    signature: bytes
    public_key: bytes


class ReceiptSigner:
    """Signs with the newest version of the receipt key."""

    def __init__(self, provider: KeyProvider) -> None:
        self._provider = provider

    def sign(self, receipt: bytes) -> ReceiptSignature:
        """The signature of an erasure receipt.

        Raises:
            KeysUnavailableError: the provider does not answer, or refuses.
        """
        # the version is named: a rotation between the two calls must not part key and signature
        key = self._provider.public_key(RECEIPT)
        signature = self._provider.sign(RECEIPT, ERASURE_PREFIX + receipt, key.version)
        return ReceiptSignature(signature, key.raw)


def verify_receipt(receipt: bytes, signature: bytes, public_key: bytes) -> None:
    """Return where `signature` is that of an erasure receipt by the owner of `public_key` (32 raw bytes).

    Raises:
        IntegrityError: it is not.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, ERASURE_PREFIX + receipt)
    except (InvalidSignature, ValueError):
        raise IntegrityError("the signature is not that of this receipt by this key") from None
