"""Doubles of the crypto room: a provider that counts, fails and waits on demand, a repository in memory."""

import threading
from collections.abc import Sequence
from pathlib import Path

from vault.crypto.local import LocalKeyProvider
from vault.domain.errors import DatavaultError
from vault.domain.protocols import (
    KeyHealth,
    KeyInfo,
    PublicKey,
    TenantKeyRow,
    UnwrapItem,
    WrapItem,
)
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

    def retire(self, key: str, before: int) -> None:
        self.inner.retire(key, before)

    def wrapped_version(self, wrapped: bytes) -> int:
        return self.inner.wrapped_version(wrapped)

    def sign(self, key: str, message: bytes, version: int = 0) -> bytes:
        self._fail(key)
        return self.inner.sign(key, message, version)

    def public_key(self, key: str, version: int = 0) -> PublicKey:
        self._fail(key)
        return self.inner.public_key(key, version)

    def info(self, key: str) -> KeyInfo:
        return self.inner.info(key)

    def health(self) -> KeyHealth:
        return self.inner.health()

    def close(self) -> None:
        self.inner.close()

    def _fail(self, key: str) -> None:
        if key in self.failing:
            raise self.failing[key]


class MemoryTenantKeys:
    """A TenantKeyRepository in memory. `rival` is inserted just before the next insert, as by a replica."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[int, bytes]] = {}
        self.retired: dict[tuple[str, int], int] = {}
        self.rival: bytes | None = None
        self.loads = 0

    def load(self, tenant: str, use: str) -> list[TenantKeyRow]:
        self.loads += 1
        return self._rows(tenant, use)

    def insert_first(self, tenant: str, use: str, version: int, wrapped: bytes) -> list[TenantKeyRow]:
        versions = self.rows.setdefault((tenant, use), {})
        if self.rival is not None:
            versions.setdefault(version, self.rival)
        versions.setdefault(version, wrapped)
        return self._rows(tenant, use)

    def _rows(self, tenant: str, use: str) -> list[TenantKeyRow]:
        versions = sorted(self.rows.get((tenant, use), {}).items())
        return [
            TenantKeyRow(version, wrapped, self.retired.get((tenant, version), 0))
            for version, wrapped in versions
        ]
