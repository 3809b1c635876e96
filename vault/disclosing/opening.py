"""Step 4 of a disclosure: unwrap keys, decrypt, apply the form, write the part of the answer.

Only what step 3 allowed is ever decrypted.
"""

from collections.abc import Callable
from typing import Final

import structlog

from vault.audit.record import AttributeEntry
from vault.crypto.encoding import owner_binding
from vault.crypto.envelope import DataKey, dek_id_of
from vault.crypto.keyring import Keyring
from vault.crypto.tenant_keys import TenantKeys
from vault.disclosing.decisions import Decided, Decisions
from vault.disclosing.item import Item, Opened
from vault.domain.errors import DatavaultError, IntegrityError, ValueFormatError
from vault.domain.types import Attribute, Form, KeyScope, Reason, StoredValue, SubjectSnapshot
from vault.domain.values import decode_value
from vault.reads import AnswerWriter, Read

log = structlog.get_logger("datavault.disclosure")

_SECOND_MICROSECONDS: Final = 1_000_000


class Opener:
    """Opens what was decided. Reads whose keys are not cached have `missing` afterwards."""

    def __init__(self, keyring: Keyring, tenant_keys: TenantKeys, writer: AnswerWriter) -> None:
        self._keyring = keyring
        self._tenant_keys = tenant_keys
        self._writer = writer

    def open(self, item: Item, decisions: Decisions, now: int) -> Opened:
        """`now` is in microseconds since 1970 UTC: values past their retention are not set."""
        snapshot = item.snapshot
        if snapshot is None:
            return Opened([each.denial for each in decisions.each], decisions.entries, decisions.denials)
        owner = owner_binding(item.read.caller.tenant, snapshot.subject.id)
        parts: list[bytes] = []
        refused: dict[str, AttributeEntry] = {}
        for decided in decisions.each:
            if decided.attribute is None:
                parts.append(decided.denial)
                continue
            part = self._part(item, snapshot, owner, decided, decided.attribute, now)
            if isinstance(part, Reason):
                refused[decided.name] = decisions.refused(decided, part)
                part = self._writer.denied(decided.name, part)
            parts.append(part)
        self._keyring.count(len(item.wanted) - len(item.missing), len(item.missing))
        if not refused:
            return Opened(parts, decisions.entries, decisions.denials)
        entries = {**decisions.entries, **refused}
        return Opened(parts, entries, tuple([entry.reason for entry in entries.values() if entry.reason]))

    def _part(
        self,
        item: Item,
        snapshot: SubjectSnapshot,
        owner: bytes,
        decided: Decided,
        attribute: Attribute,
        now: int,
    ) -> bytes | Reason:
        """The part of the answer, or why the value cannot be shown."""
        form = decided.form or Form.EXISTS
        stored = snapshot.values.get(decided.name)
        if stored is None or not _current(attribute, stored, now):
            return Reason.NOT_SET
        if form is Form.EXISTS:
            return decided.write(None, stored.version)
        try:
            key = self._key(item, snapshot, stored)
            if key is None:
                return Reason.KEY_UNAVAILABLE
            field = owner + decided.binding
            plain = key.open_at(field, stored.type_version, stored.version, stored.ciphertext)
            value = decode_value(attribute.type, plain)
            show = decided.show
            shown = show(value, self._pseudonymiser(item.read, attribute, form)) if show else value
        except (IntegrityError, ValueFormatError) as error:
            log.error("integrity_failure", attribute=decided.name, kind=type(error).__name__)
            return Reason.INTEGRITY
        return decided.write(shown, stored.version)

    def _key(self, item: Item, snapshot: SubjectSnapshot, stored: StoredValue) -> DataKey | None:
        """The DEK of a value, or None: it cannot be had, or the item has to leave the group for it."""
        tenant, subject = item.read.caller.tenant, snapshot.subject.id
        dek_id = dek_id_of(stored.ciphertext)
        if item.keys is None:
            item.keys = self._keyring.cached_of(tenant, subject, snapshot.keys.values())
        item.wanted.add(dek_id)
        known = item.keys.get(dek_id)
        if known is not None and not item.attempt.keys:
            return known
        wrapped = snapshot.keys.get(dek_id)
        if wrapped is None:
            raise IntegrityError("no key of this subject has the id that the value names")
        fetched = item.attempt.keys.get(wrapped) or known
        if isinstance(fetched, IntegrityError):
            raise fetched
        if isinstance(fetched, DatavaultError):
            return None
        if fetched is None:
            item.missing[wrapped] = (KeyScope(tenant, subject, wrapped.key_class), wrapped)
        return fetched

    def _pseudonymiser(self, read: Read, attribute: Attribute, form: Form) -> Callable[[bytes], bytes]:
        spec = attribute.spec(form) if form is Form.PSEUDONYMISE else None
        if spec is None:
            return _no_pseudonym
        purpose = read.purpose if spec.parameters.get("scope") == "caller-purpose" else None
        caller = read.caller
        key = self._tenant_keys.pseudonym_key(caller.tenant, caller.id, attribute.id, purpose)
        return key.pseudonym


def _no_pseudonym(_: bytes) -> bytes:
    raise IntegrityError("this form makes no pseudonym")


def _current(attribute: Attribute, stored: StoredValue, now: int) -> bool:
    """Whether the value is of the declared type version and within its retention."""
    if stored.type_version != attribute.type_version:
        return False
    seconds = attribute.retention_seconds
    return not seconds or now < stored.written_at + seconds * _SECOND_MICROSECONDS
