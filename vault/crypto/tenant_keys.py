"""Keys of a tenant: lookup (customer number -> subject id) and pseudonyms (keys.md; policy.md, "Pseudonyms").

Each is 32 random bytes, wrapped by the provider and kept by the store. Every secret use of one has a key of
its own, derived by HKDF with an info string of its own, so no output of one use means anything in another.
"""

import hmac
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from vault.crypto.encoding import lp
from vault.crypto.lookup_keys import LookupKey, LookupKeys, utf8
from vault.crypto.names import LOOKUP, PSEUDONYM
from vault.crypto.opaque import KEY_BYTES, Opaque, derive
from vault.domain.errors import DatavaultError, IntegrityError
from vault.domain.protocols import (
    KeyProvider,
    Randomness,
    TenantKeyRepository,
    TenantKeyRow,
    UnwrapItem,
    WrapItem,
)

_PSEUDONYM_INFO: Final = b"datavault pseudonym key v1"
_FIRST_VERSION: Final = 1
LOOKUP_USE: Final = "lookup"
PSEUDONYM_USE: Final = "pseudonym"
_KEYS: Final = {LOOKUP_USE: LOOKUP, PSEUDONYM_USE: PSEUDONYM}


class PseudonymKey(Opaque):
    """The key of one (tenant, caller, attribute) or (tenant, caller, attribute, purpose)."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def pseudonym(self, stored: bytes) -> bytes:
        """32 bytes: HMAC-SHA-256 of the value's stored bytes. Equal values have equal pseudonyms here."""
        return hmac.digest(self._raw, stored, "sha256")


class TenantKeys:
    """Thread-safe. A tenant's keys are made on first use and held in memory until they are retired.

    The first use and `refresh` block on the provider and the store, so neither must happen inside a
    transaction.
    """

    def __init__(
        self, provider: KeyProvider, repository: TenantKeyRepository, randomness: Randomness
    ) -> None:
        self._provider = provider
        self._repository = repository
        self._randomness = randomness
        self._lock = threading.Lock()
        self._lookups: dict[str, LookupKeys] = {}
        self._roots: dict[str, bytes] = {}
        self._pseudonyms: dict[tuple[str, str, str, str | None], PseudonymKey] = {}

    def lookup(self, tenant: str) -> LookupKeys:
        """The lookup keys of the tenant, as they were read last.

        Raises:
            KeysUnavailableError, StoreUnavailableError: on first use.
            IntegrityError: a stored key does not open for this tenant.
        """
        return self._lookups.get(tenant) or self._first_lookup(tenant)

    def refresh(self, tenant: str) -> LookupKeys:
        """Read the tenant's lookup keys again; asks the provider only for those not in memory yet.

        Raises:
            KeysUnavailableError, StoreUnavailableError, IntegrityError: those read before stay.
        """
        with self._lock:
            held = self._lookups.get(tenant)
            rows = self._load(tenant, LOOKUP_USE)
            if held is None or held.rows != tuple(rows):
                held = self._lookups[tenant] = self._open(tenant, rows, held)
            return held

    def refresh_all(self) -> None:
        """`refresh` every tenant in memory, so that what was retired is forgotten.

        Raises: as `refresh`, at the first tenant that cannot be read.
        """
        for tenant in list(self._lookups):
            self.refresh(tenant)

    def draft_lookup(self, tenant: str) -> TenantKeyRow:
        """The next version of the tenant's lookup key: random, wrapped, in no table yet.

        Raises:
            KeysUnavailableError, StoreUnavailableError.
            IntegrityError: what the provider wrapped does not open again.
        """
        context = _context(tenant, LOOKUP_USE)
        raw = self._randomness.token(KEY_BYTES)
        wrapped = self._provider.wrap(LOOKUP, [WrapItem(raw, context)])[0]
        # once it is in the table every replica depends on it
        [opened] = self._unwrap(LOOKUP_USE, [wrapped], context)
        if not isinstance(opened, bytes) or not hmac.compare_digest(opened, raw):
            raise IntegrityError("a new lookup key does not open again")
        return TenantKeyRow(self.refresh(tenant).rows[-1].version + 1, wrapped)

    def warm(self, tenant: str) -> None:
        """Make or fetch all keys of a tenant now, so that no read waits for the provider.

        Raises: as `lookup`.
        """
        self.lookup(tenant)
        self._root(tenant)

    def pseudonym_key(self, tenant: str, caller: str, attribute: str, purpose: str | None) -> PseudonymKey:
        """The key for one caller and attribute, and for one purpose where the form's scope says so.

        Raises: as `lookup`.
        """
        at = (tenant, caller, attribute, purpose)
        found = self._pseudonyms.get(at)
        if found is None:
            parts = [utf8("name", part) for part in at if part is not None]
            found = PseudonymKey(derive(self._root(tenant), lp(_PSEUDONYM_INFO, *parts)))
            found = self._pseudonyms.setdefault(at, found)
        return found

    def _first_lookup(self, tenant: str) -> LookupKeys:
        with self._lock:
            found = self._lookups.get(tenant)
            if found is None:
                found = self._lookups[tenant] = self._open(tenant, self._load(tenant, LOOKUP_USE), None)
            return found

    def _open(self, tenant: str, rows: Sequence[TenantKeyRow], held: LookupKeys | None) -> LookupKeys:
        """
        Raises:
            IntegrityError: a version in force does not open. A retired one is left out: a request from before
                the rotation that is repeated now is then refused, not carried out again.
        """
        keys = _still_good(rows, held)
        lacking = [row for row in rows if row.version not in keys]
        raws = self._unwrap(LOOKUP_USE, [row.wrapped for row in lacking], _context(tenant, LOOKUP_USE))
        for row, raw in zip(lacking, raws, strict=True):
            if isinstance(raw, bytes):
                keys[row.version] = LookupKey(tenant, row.version, raw)
            elif not row.retired_at or not isinstance(raw, IntegrityError):
                raise raw
        return LookupKeys(tenant, rows, keys)

    def _root(self, tenant: str) -> bytes:
        root = self._roots.get(tenant)
        if root is not None:
            return root
        with self._lock:
            root = self._roots.get(tenant)
            if root is None:
                newest = self._load(tenant, PSEUDONYM_USE)[-1]
                [opened] = self._unwrap(PSEUDONYM_USE, [newest.wrapped], _context(tenant, PSEUDONYM_USE))
                if isinstance(opened, DatavaultError):
                    raise opened
                root = self._roots[tenant] = opened
            return root

    def _load(self, tenant: str, use: str) -> list[TenantKeyRow]:
        """The versions in the table; the first is made where there is none."""
        rows = self._repository.load(tenant, use)
        if not rows:
            raw = self._randomness.token(KEY_BYTES)
            wrapped = self._provider.wrap(_KEYS[use], [WrapItem(raw, _context(tenant, use))])[0]
            # also when this process made it: what serves is what the table holds and the provider opens again
            rows = self._repository.insert_first(tenant, use, _FIRST_VERSION, wrapped)
        return rows

    def _unwrap(self, use: str, wrapped: Sequence[bytes], context: bytes) -> list[bytes | DatavaultError]:
        if not wrapped:
            return []
        raws = self._provider.unwrap(_KEYS[use], [UnwrapItem(each, context) for each in wrapped])
        return [_checked(use, raw) for raw in raws]


def _still_good(rows: Sequence[TenantKeyRow], held: LookupKeys | None) -> dict[int, LookupKey]:
    """What memory holds of the rows, by version: a version that is wrapped otherwise now is opened again, as
    the table may have been put back to an older state and gone another way since."""
    if held is None:
        return {}
    known: Mapping[int, bytes] = {row.version: row.wrapped for row in held.rows}
    wrapped = {row.version: row.wrapped for row in rows}
    return {key.version: key for key in held.kept if wrapped.get(key.version) == known.get(key.version)}


def _context(tenant: str, use: str) -> bytes:
    return lp(utf8("tenant", tenant), use.encode())


def _checked(use: str, raw: bytes | DatavaultError) -> bytes | DatavaultError:
    if isinstance(raw, bytes) and len(raw) != KEY_BYTES:
        return IntegrityError(f"the {use} key of a tenant is not 32 bytes long")
    return raw
