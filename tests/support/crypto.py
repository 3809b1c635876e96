"""Doubles of the crypto room: a provider that counts, fails and waits on demand, a repository in memory."""

import threading
from collections.abc import Sequence
from pathlib import Path

from vault.crypto.local import LocalKeyProvider
from vault.domain.errors import DatavaultError
from vault.domain.protocols import KeyHealth, KeyInfo, PublicKey, UnwrapItem, WrapItem
from vault.domain.system import SystemRandomness
from vault.domain.types import KeyScope, ValueScope

SUBJECT = bytes(range(16))
KEY_SCOPE = KeyScope("retail", SUBJECT, "contact")
VALUE_SCOPE = ValueScope("retail", SUBJECT, "email", 1, 3)


def local_provider(folder: Path) -> LocalKeyProvider:
    """A real local provider with a key file of its own, made where it is missing."""
    return LocalKeyProvider(
        folder / "keys.json", environment="development", randomness=SystemRandomness(), create=True
    )


class ObservedProvider:
    """A real local provider whose calls are counted, and can fail or wait.

    `failing` maps a key to the error its calls raise; `answers` replaces what an unwrap gives for a wrapped
    text; while `gate` is clear, unwraps wait (`arrived` is set when one does).
    """

    name = "local"

    def __init__(self, inner: LocalKeyProvider) -> None:
        self.inner = inner
        self.wraps: list[tuple[str, int]] = []
        self.unwraps: list[tuple[str, int]] = []
        self.failing: dict[str, Exception] = {}
        self.answers: dict[bytes, bytes | DatavaultError] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()

    def wrap(self, key: str, items: Sequence[WrapItem]) -> list[bytes]:
        self.wraps.append((key, len(items)))
        self._fail(key)
        return self.inner.wrap(key, items)

    def unwrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        self.unwraps.append((key, len(items)))
        self.arrived.set()
        assert self.gate.wait(30)
        self._fail(key)
        opened = self.inner.unwrap(key, items)
        return [self.answers.get(item.wrapped, raw) for item, raw in zip(items, opened, strict=True)]

    def rewrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        return self.inner.rewrap(key, items)

    def rotate(self, key: str) -> int:
        return self.inner.rotate(key)

    def sign(self, key: str, message: bytes) -> bytes:
        self._fail(key)
        return self.inner.sign(key, message)

    def public_key(self, key: str) -> PublicKey:
        self._fail(key)
        return self.inner.public_key(key)

    def info(self, key: str) -> KeyInfo:
        return self.inner.info(key)

    def health(self) -> KeyHealth:
        return self.inner.health()

    def _fail(self, key: str) -> None:
        if key in self.failing:
            raise self.failing[key]


class MemoryTenantKeys:
    """A TenantKeyRepository in memory. `rival` is inserted just before the next insert, as by a replica."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[int, bytes]] = {}
        self.rival: bytes | None = None
        self.loads = 0

    def load(self, tenant: str, use: str) -> list[tuple[int, bytes]]:
        self.loads += 1
        return sorted(self.rows.get((tenant, use), {}).items())

    def insert_first(self, tenant: str, use: str, version: int, wrapped: bytes) -> list[tuple[int, bytes]]:
        versions = self.rows.setdefault((tenant, use), {})
        if self.rival is not None:
            versions.setdefault(version, self.rival)
        versions.setdefault(version, wrapped)
        return sorted(versions.items())
