"""One signing key of the provider, as the rooms that sign know it."""

import threading

from vault.domain.protocols import KeyProvider


class KeySigner:
    """Implements `vault.domain.protocols.Signer`. The public key is asked for once.

    A rotated signing key is a new signer: the log announces a new key by an entry and a checkpoint signed by
    both (audit.md), never by changing under a running one.
    """

    def __init__(self, provider: KeyProvider, key: str) -> None:
        self._provider = provider
        self._key = key
        self._lock = threading.Lock()
        self._public_key: bytes | None = None

    def sign(self, message: bytes) -> bytes:
        """64-byte Ed25519 signature over the raw message.

        Raises:
            KeysUnavailableError: the provider does not answer, or refuses.
        """
        return self._provider.sign(self._key, message)

    def public_key(self) -> bytes:
        """32 raw bytes.

        Raises:
            KeysUnavailableError: at the first call only.
        """
        with self._lock:
            if self._public_key is None:
                self._public_key = self._provider.public_key(self._key).raw
            return self._public_key
