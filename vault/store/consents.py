"""The consent ledger and its state table: implements `ConsentRepository` (domain/protocols.py)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Connection, bindparam, insert, select, update

from vault.domain.canonical import canonical_json
from vault.domain.errors import NotFoundError
from vault.domain.types import ConsentEntry, ConsentEvent, Subject
from vault.store.codec import event_state, joined, lane_and_state, name_set
from vault.store.statements import upsert
from vault.store.subjects import SubjectRepository
from vault.store.tables import consent_event, consent_state
from vault.store.tables import subject as subject_table

_PLAIN: Final = tuple(
    column for column in consent_event.columns if column.name not in ("tenant", "subject", "scope", "state")
)
_EVENTS: Final = (
    select(consent_event.c.scope, consent_event.c.state, *_PLAIN)
    .where(consent_event.c.tenant == bindparam("tenant"))
    .where(consent_event.c.subject == bindparam("subject"))
    .where(consent_event.c.seq > bindparam("after"))
    .order_by(consent_event.c.seq)
    .limit(bindparam("most"))
)
_STATE: Final = (
    select(
        consent_state.c.purpose,
        consent_state.c.lane,
        consent_state.c.seq,
        consent_state.c.event_id,
        consent_state.c.state,
        consent_state.c.notice_version,
        consent_state.c.expires_at,
        consent_state.c.categories,
        consent_state.c.notice,
    )
    .where(consent_state.c.tenant == bindparam("tenant"))
    .where(consent_state.c.subject == bindparam("subject"))
)
_RAISE_SEQ: Final = (
    update(subject_table)
    .where(subject_table.c.tenant == bindparam("of_tenant"))
    .where(subject_table.c.subject == bindparam("of_subject"))
    .where(subject_table.c.last_seq < bindparam("seq"))
    .values(last_seq=bindparam("seq"))
)
_REPLACE: Final = upsert(consent_state, only_if="excluded.seq > consent_state.seq")


class SqlConsentRepository:
    """In the caller's transaction. Errors of the database become StoreUnavailableError where it ends."""

    def __init__(self) -> None:
        self._subjects = SubjectRepository()

    def lock_subject(self, connection: Connection, tenant: str, subject: bytes) -> Subject | None:
        """Lock the subject's row for this transaction and return it."""
        return self._subjects.lock(connection, tenant, [subject]).get(subject)

    def append_event(
        self,
        connection: Connection,
        tenant: str,
        subject: bytes,
        event: ConsentEvent,
        rows: Sequence[ConsentEntry],
    ) -> None:
        """Insert the event, raise the subject's last_seq to `event.seq`, replace the state `rows` whole.

        Raises:
            NotFoundError: no such subject, or its last_seq is not below `event.seq`: roll back.
        """
        parameters = {"of_tenant": tenant, "of_subject": subject, "seq": event.seq}
        if connection.execute(_RAISE_SEQ, parameters).rowcount != 1:
            raise NotFoundError("no such subject, or a later event is recorded already")
        connection.execute(insert(consent_event), _event_columns(tenant, subject, event))
        if rows:
            connection.execute(_REPLACE, [_entry_columns(tenant, subject, row) for row in rows])

    def state(self, connection: Connection, tenant: str, subject: bytes) -> tuple[ConsentEntry, ...]:
        """All rows of consent_state of the subject."""
        return tuple(
            _entry(tuple(row)) for row in connection.execute(_STATE, {"tenant": tenant, "subject": subject})
        )

    def events(
        self, connection: Connection, tenant: str, subject: bytes, after_seq: int, limit: int
    ) -> list[ConsentEvent]:
        """Events with seq > after_seq, in order of seq.

        Raises:
            IntegrityError: one has a state that this release does not know.
        """
        parameters = {"tenant": tenant, "subject": subject, "after": after_seq, "most": limit}
        return [_event(row._mapping) for row in connection.execute(_EVENTS, parameters)]


def _entry(row: Sequence[Any]) -> ConsentEntry:
    purpose, lane, seq, event_id, state, version, expires_at, categories, notice = row
    known_lane, known_state = lane_and_state(lane, state)
    return ConsentEntry(
        purpose, known_lane, seq, event_id, known_state, version, expires_at, name_set(categories), notice
    )


def _event(row: Mapping[Any, Any]) -> ConsentEvent:
    fields = {column.name: row[column] for column in _PLAIN}
    scope = {leaf: frozenset(categories) for leaf, categories in orjson.loads(row["scope"]).items()}
    return ConsentEvent(state=event_state(row["state"]), scope=scope, **fields)


def _event_columns(tenant: str, subject: bytes, event: ConsentEvent) -> dict[str, object]:
    scope = {leaf: sorted(categories) for leaf, categories in event.scope.items()}
    return {
        "tenant": tenant,
        "subject": subject,
        "scope": canonical_json(scope).decode("ascii"),
        "state": event.state.value,
        **{column.name: getattr(event, column.name) for column in _PLAIN},
    }


def _entry_columns(tenant: str, subject: bytes, row: ConsentEntry) -> dict[str, object]:
    return {
        "tenant": tenant,
        "subject": subject,
        "purpose": row.purpose,
        "lane": row.lane.value,
        "seq": row.seq,
        "event_id": row.event_id,
        "state": row.state.value,
        "notice": row.notice,
        "notice_version": row.notice_version,
        "expires_at": row.expires_at,
        "categories": joined(row.categories),
    }
