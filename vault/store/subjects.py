"""Subjects: the row that every change locks, and how a customer number's MAC leads to it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from vault.domain.errors import IntegrityError, InvalidArgumentError, NotFoundError
from vault.domain.types import Subject
from vault.store.codec import joined, names
from vault.store.tables import subject as subject_table
from vault.store.tables import subject_lookup
from vault.store.values import ValueRepository


@dataclass(frozen=True, slots=True)
class NewSubject:
    """A subject that is not in the store yet, under the MAC of its customer number.

    `key_version` is that of the newest lookup key, `older` are (MAC, version) under the others in force;
    `created_at` in microseconds since 1970 UTC.
    """

    mac: bytes
    key_version: int
    subject: Subject
    created_at: int
    older: tuple[tuple[bytes, int], ...] = ()

    @property
    def lookups(self) -> Iterable[tuple[bytes, int, bytes]]:
        """(MAC, lookup key version, subject id) rows."""
        for mac, version in ((self.mac, self.key_version), *self.older):
            yield mac, version, self.subject.id


_COLUMNS: Final = (
    subject_table.c.subject,
    subject_table.c.audit_pseudonym,
    subject_table.c.jurisdictions,
    subject_table.c.restricted_seq,
    subject_table.c.last_seq,
    subject_table.c.legal_hold,
)
_FIND: Final = (
    select(subject_lookup.c.mac, *_COLUMNS)
    .select_from(
        subject_lookup.join(
            subject_table,
            (subject_lookup.c.tenant == subject_table.c.tenant)
            & (subject_lookup.c.subject == subject_table.c.subject),
        )
    )
    .where(subject_lookup.c.tenant == bindparam("tenant"))
    .where(subject_lookup.c.mac.in_(bindparam("macs", expanding=True)))
)
_GET: Final = (
    select(*_COLUMNS)
    .where(subject_table.c.tenant == bindparam("tenant"))
    .where(subject_table.c.subject.in_(bindparam("subjects", expanding=True)))
)
# one order for all changes, so two of them cannot wait for each other
_LOCK: Final = _GET.order_by(subject_table.c.subject).with_for_update()


class SubjectRepository(ValueRepository):
    """Subjects with their keys and values, in the caller's transaction.

    Errors of the database become StoreUnavailableError where the transaction ends (`Database.write`).
    """

    def find(self, connection: Connection, tenant: str, macs: Collection[bytes]) -> dict[bytes, Subject]:
        """Subjects by MAC; an unknown MAC is left out."""
        if not macs:
            return {}
        rows = connection.execute(_FIND, {"tenant": tenant, "macs": list(macs)})
        return {mac: _subject(columns) for mac, *columns in rows}

    def create(
        self,
        connection: Connection,
        tenant: str,
        mac: bytes,
        key_version: int,
        subject: Subject,
        created_at: int,
    ) -> None:
        """Insert one subject and its lookup row."""
        self.insert(connection, tenant, [NewSubject(mac, key_version, subject, created_at)])

    def insert(self, connection: Connection, tenant: str, rows: Sequence[NewSubject]) -> None:
        """Insert subjects and their lookup rows.

        Raises:
            InvalidArgumentError: one has no jurisdictions.
        """
        if not rows:
            return
        connection.execute(insert(subject_table), [_columns(tenant, row) for row in rows])
        self.add_lookups(connection, tenant, [lookup for row in rows for lookup in row.lookups])

    def add_lookups(
        self, connection: Connection, tenant: str, rows: Iterable[tuple[bytes, int, bytes]]
    ) -> None:
        """Insert (MAC, lookup key version, subject id) rows: a second version while lookup keys rotate."""
        columns = [
            {"tenant": tenant, "mac": mac, "key_version": version, "subject": subject}
            for mac, version, subject in rows
        ]
        if columns:
            connection.execute(insert(subject_lookup), columns)

    def get(self, connection: Connection, tenant: str, subjects: Collection[bytes]) -> dict[bytes, Subject]:
        """Subjects by id, without a lock; an unknown id is left out."""
        if not subjects:
            return {}
        rows = connection.execute(_GET, {"tenant": tenant, "subjects": list(subjects)})
        return {columns[0]: _subject(columns) for columns in map(tuple, rows)}

    def lock(self, connection: Connection, tenant: str, subjects: Collection[bytes]) -> dict[bytes, Subject]:
        """Lock the rows of subjects, in order of their ids, and return what they hold now."""
        if not subjects:
            return {}
        rows = connection.execute(_LOCK, {"tenant": tenant, "subjects": sorted(set(subjects))})
        return {columns[0]: _subject(columns) for columns in map(tuple, rows)}

    def set_jurisdictions(
        self, connection: Connection, tenant: str, subject: bytes, jurisdictions: Collection[str]
    ) -> None:
        """Replace the jurisdictions.

        Raises:
            InvalidArgumentError: none are given.
            NotFoundError: no such subject.
        """
        self._change(connection, tenant, subject, {"jurisdictions": _jurisdictions(jurisdictions)})

    def restrict(self, connection: Connection, tenant: str, subject: bytes) -> int:
        """Restrict the processing (GDPR 18) and return the seq of the restriction.

        A restriction in force keeps its seq: consent given since then goes on counting.

        Raises:
            NotFoundError: no such subject.
        """
        found = self._locked(connection, tenant, subject)
        if found.restricted_seq:
            return found.restricted_seq
        seq = found.last_seq + 1
        self._change(connection, tenant, subject, {"restricted_seq": seq, "last_seq": seq})
        return seq

    def lift(self, connection: Connection, tenant: str, subject: bytes) -> int:
        """Lift the restriction and return the seq of that; 0 when there was none.

        Raises:
            NotFoundError: no such subject.
        """
        found = self._locked(connection, tenant, subject)
        if not found.restricted_seq:
            return 0
        seq = found.last_seq + 1
        self._change(connection, tenant, subject, {"restricted_seq": 0, "last_seq": seq})
        return seq

    def _locked(self, connection: Connection, tenant: str, subject: bytes) -> Subject:
        found = self.lock(connection, tenant, [subject]).get(subject)
        if found is None:
            raise NotFoundError("no such subject")
        return found

    def _change(
        self, connection: Connection, tenant: str, subject: bytes, columns: dict[str, object]
    ) -> None:
        table = subject_table
        statement = update(table).where(table.c.tenant == tenant, table.c.subject == subject)
        if connection.execute(statement.values(columns)).rowcount != 1:
            raise NotFoundError("no such subject")


def one_of(found: Mapping[bytes, Subject], macs: Collection[bytes]) -> Subject | None:
    """The one subject that the MACs of a customer number lead to in what `find` gave; None when none does.

    Raises:
        IntegrityError: they lead to different subjects.
    """
    subjects = {subject.id: subject for mac in macs if (subject := found.get(mac)) is not None}
    if len(subjects) > 1:
        raise IntegrityError("a customer number leads to two records; operators have been told")
    return next(iter(subjects.values()), None)


def _subject(row: Sequence[Any]) -> Subject:
    subject, pseudonym, jurisdictions, restricted_seq, last_seq, legal_hold = row
    return Subject(subject, pseudonym, names(jurisdictions), restricted_seq, last_seq, legal_hold)


def _jurisdictions(jurisdictions: Collection[str]) -> str:
    if not jurisdictions:
        raise InvalidArgumentError.of("jurisdictions", "must hold at least one")
    return joined(set(jurisdictions))


def _columns(tenant: str, row: NewSubject) -> dict[str, object]:
    subject = row.subject
    return {
        "tenant": tenant,
        "subject": subject.id,
        "audit_pseudonym": subject.audit_pseudonym,
        "jurisdictions": _jurisdictions(subject.jurisdictions),
        "restricted_seq": subject.restricted_seq,
        "last_seq": subject.last_seq,
        "created_at": row.created_at,
        "relationship_ended_on": None,
        "legal_hold": subject.legal_hold,
    }
