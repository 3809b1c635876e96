"""What a subject's DEKs seal, sealed again under new ones: nothing here touches the database."""

from collections.abc import Mapping
from dataclasses import dataclass

from vault.crypto.envelope import DataKey, dek_id_of
from vault.crypto.keyring import Keyring
from vault.domain.errors import DatavaultError, IntegrityError
from vault.domain.protocols import Clock, Randomness
from vault.domain.types import KeyScope, ValueScope
from vault.store.rekeying import HeldKey, Sealed

_Lineage = tuple[str, int]
"""What has one DEK in the end: a key class in use (0), or what one erasure left of it."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """Old DEKs, opened, and the new ones in their place."""

    opened: Mapping[bytes, DataKey]
    """By id; those that seal nothing are left out."""
    made: Mapping[_Lineage, tuple[HeldKey, DataKey]]

    @property
    def rows(self) -> tuple[HeldKey, ...]:
        """The new DEKs, as they are stored."""
        return tuple(row for row, _ in self.made.values())


class Resealer:
    """Changes the DEKs of subjects."""

    def __init__(self, keyring: Keyring, clock: Clock, randomness: Randomness) -> None:
        self._keyring = keyring
        self._clock = clock
        self._randomness = randomness

    def prepare(self, tenant: str, subject: bytes, old: Sealed) -> KeyChange:
        """Open the old DEKs and make the new ones. Waits for the KMS: not inside a transaction.

        Raises:
            KeyTooOldError: an old DEK is wrapped by a retired version. KeysUnavailableError.
            IntegrityError: an old DEK does not open, or is not there.
        """
        return KeyChange(self._open(tenant, subject, old), self._make(tenant, subject, old))

    def reseal(self, tenant: str, subject: bytes, now: Sealed, change: KeyChange) -> list[bytes] | None:
        """Every value opened and sealed again, as the same version of the same value; in order. Takes no
        longer than reading it. None: one is under a DEK that was not opened.

        Raises:
            IntegrityError: a value does not open.
        """
        lineages = {held.key.dek_id: _lineage(held) for held in now.keys}
        ciphertexts = []
        for row in now.values:
            dek_id = dek_id_of(row.ciphertext)
            old = change.opened.get(dek_id)
            if old is None:
                return None
            scope = ValueScope(tenant, subject, row.attribute, row.type_version, row.version)
            _, key = change.made[lineages[dek_id]]
            ciphertexts.append(key.seal(scope, old.open(scope, row.ciphertext), self._randomness))
        return ciphertexts

    def forget(self, tenant: str, subject: bytes, old: Sealed) -> None:
        """Drop the old DEKs from memory, once they are destroyed."""
        self._keyring.forget({_scope(tenant, subject, held) for held in old.keys})

    def _open(self, tenant: str, subject: bytes, old: Sealed) -> Mapping[bytes, DataKey]:
        """The old DEKs that seal something, by id."""
        used = {dek_id_of(row.ciphertext) for row in old.values}
        wanted = [held for held in old.keys if held.key.dek_id in used]
        if len(wanted) < len(used):
            raise IntegrityError("a value names a key that the customer does not have")
        fetched = self._keyring.unwrap([(_scope(tenant, subject, held), held.key) for held in wanted])
        opened: dict[bytes, DataKey] = {}
        for held, key in zip(wanted, fetched, strict=True):
            if isinstance(key, DatavaultError):
                raise key
            opened[held.key.dek_id] = key
        return opened

    def _make(self, tenant: str, subject: bytes, old: Sealed) -> dict[_Lineage, tuple[HeldKey, DataKey]]:
        now = self._clock.now()
        oldest: dict[_Lineage, HeldKey] = {}
        for held in old.keys:
            oldest.setdefault(_lineage(held), held)
        made = self._keyring.create([_scope(tenant, subject, held) for held in oldest.values()])
        return {
            lineage: (
                HeldKey(row, held.created_at if held.retained_since else now, held.retained_since),
                key,
            )
            for (lineage, held), (row, key) in zip(oldest.items(), made, strict=True)
        }


def _scope(tenant: str, subject: bytes, held: HeldKey) -> KeyScope:
    return KeyScope(tenant, subject, held.key.key_class)


def _lineage(held: HeldKey) -> _Lineage:
    return held.key.key_class, held.retained_since
