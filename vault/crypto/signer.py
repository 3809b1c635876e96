"""The signing keys of a provider, as the rooms that sign know them."""

import threading
from typing import Final

from vault.crypto.names import LOG
from vault.domain.errors import KeysUnavailableError
from vault.domain.protocols import KeyProvider, PublicKey


class KeySigner:
    """Implements `vault.domain.protocols.Signer` with one version of a key (0: whichever is the newest).

    The public key is asked for once.
    """

    def __init__(self, provider: KeyProvider, key: str, version: int = 0) -> None:
        self._provider = provider
        self._key = key
        self._version = version
        self._lock = threading.Lock()
        self._public_key: bytes | None = None

    def sign(self, message: bytes) -> bytes:
        """64-byte Ed25519 signature over the raw message.

        Raises:
            KeysUnavailableError: the provider does not answer, or refuses.
        """
        return self._provider.sign(self._key, message, self._version)

    def public_key(self) -> bytes:
        """32 raw bytes.

        Raises:
            KeysUnavailableError: at the first call only.
        """
        with self._lock:
            if self._public_key is None:
                self._public_key = self._provider.public_key(self._key, self._version).raw
            return self._public_key


class ProviderLogSigners:
    """Implements `vault.domain.protocols.LogSigners` over the provider in use, and over a second one while
    keys move between the two. Thread-safe.

    A version that was made by hand signs nothing: the log names the version that signs (log_keys.py).
    """

    def __init__(self, *providers: KeyProvider) -> None:
        self._providers: Final = {provider.name: provider for provider in providers}
        self._first: Final = providers[0]
        self._lock = threading.Lock()
        self._signers: dict[tuple[str, int], KeySigner] = {}

    @property
    def providers(self) -> tuple[str, ...]:
        """See LogSigners."""
        return tuple(self._providers)

    def newest(self) -> PublicKey:
        """See LogSigners."""
        return self._first.public_key(LOG)

    def versions(self) -> list[PublicKey]:
        """See LogSigners."""
        info = self._first.info(LOG)
        oldest = max(1, info.min_decryption_version)
        return [self._first.public_key(LOG, version) for version in range(oldest, info.latest_version + 1)]

    def signer(self, provider: str, version: int) -> KeySigner:
        """See LogSigners."""
        found = self._providers.get(provider)
        if found is None:
            raise KeysUnavailableError("the log key is at another key provider than the one in use")
        with self._lock:
            return self._signers.setdefault((provider, version), KeySigner(found, LOG, version))
