"""Repositories on a real file: what they keep, replace, count and refuse."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from tests.support.store import (
    NOW,
    TENANT,
    add_subjects,
    any_database_at,
    count,
    key_of,
    mac_of,
    subject_of,
    value_of,
)
from vault.domain.errors import (
    InvalidArgumentError,
    NotFoundError,
    StoreUnavailableError,
    VersionMismatchError,
)
from vault.domain.protocols import TenantKeyRow
from vault.domain.types import Subject
from vault.store.bundles import BundleRepository
from vault.store.database import Database
from vault.store.quotas import QuotaRepository
from vault.store.requests import KEPT_MICROSECONDS, RequestRepository, StoredRequest
from vault.store.subjects import NewSubject, SubjectRepository
from vault.store.tenant_keys import SqlTenantKeyRepository
from vault.store.values import VersionState

SUBJECTS = SubjectRepository()
REQUESTS = RequestRepository()
ONE, TWO = subject_of(1).id, subject_of(2).id


@pytest.fixture
def database(tmp_path: Path, every_store: str) -> Iterator[Database]:
    with any_database_at(tmp_path / "vault.db") as opened:
        with opened.write() as connection:
            add_subjects(connection, 1, 2)
        yield opened


def found(database: Database, number: int = 1) -> Subject:
    with database.read() as connection:
        return SUBJECTS.find(connection, TENANT, [mac_of(number)])[mac_of(number)]


def versions(database: Database, *attributes: str) -> dict[bytes, dict[str, VersionState]]:
    with database.read() as connection:
        return SUBJECTS.versions(connection, TENANT, [ONE, TWO], attributes or None)


def test_a_subject_is_found_by_its_mac(database: Database) -> None:
    """find gives the subject as it was inserted, and leaves out unknown MACs and other tenants."""
    assert found(database) == subject_of(1)
    with database.read() as connection:
        assert SUBJECTS.find(connection, TENANT, [mac_of(9)]) == {}
        assert SUBJECTS.find(connection, "wholesale", [mac_of(1)]) == {}


def test_a_second_mac_leads_to_the_same_subject(database: Database) -> None:
    """While lookup keys rotate a subject has a MAC under each version."""
    with database.write() as connection:
        SUBJECTS.add_lookups(connection, TENANT, [(mac_of(77), 2, ONE)])
    assert found(database, 77) == found(database, 1)


def test_create_inserts_one_subject(database: Database) -> None:
    """create puts subject and lookup row together."""
    with database.write() as connection:
        SUBJECTS.create(connection, TENANT, mac_of(3), 1, subject_of(3), NOW)
    assert found(database, 3) == subject_of(3)


def test_one_customer_number_has_one_subject(database: Database) -> None:
    """A second subject under a MAC is refused, and nothing of it stays."""
    with pytest.raises(StoreUnavailableError), database.write() as connection:
        SUBJECTS.create(connection, TENANT, mac_of(1), 1, subject_of(3), NOW)
    with database.read() as connection:
        assert count(connection, "subject") == 2


def test_jurisdictions_are_a_sorted_set(database: Database) -> None:
    """They come back sorted and each once, however they were given."""
    with database.write() as connection:
        SUBJECTS.set_jurisdictions(connection, TENANT, ONE, ["US-CA", "EU", "US-CA"])
    assert found(database).jurisdictions == ("EU", "US-CA")
    assert found(database, 2).jurisdictions == ("EU",)


def test_a_subject_needs_a_jurisdiction(database: Database) -> None:
    """Neither a new nor a known subject can be without one."""
    bare = NewSubject(mac_of(3), 1, subject_of(3)._replace(jurisdictions=()), NOW)
    with database.write() as connection:
        with pytest.raises(InvalidArgumentError):
            SUBJECTS.insert(connection, TENANT, [bare])
        with pytest.raises(InvalidArgumentError):
            SUBJECTS.set_jurisdictions(connection, TENANT, ONE, [])


def test_what_is_not_there_is_not_changed(database: Database) -> None:
    """Changing an unknown subject is an error, never silence."""
    unknown = subject_of(9).id
    with database.write() as connection:
        assert SUBJECTS.lock(connection, TENANT, [unknown]) == {}
        with pytest.raises(NotFoundError):
            SUBJECTS.set_jurisdictions(connection, TENANT, unknown, ["EU"])
        with pytest.raises(NotFoundError):
            SUBJECTS.restrict(connection, TENANT, unknown)
        with pytest.raises(NotFoundError):
            SUBJECTS.lift(connection, "wholesale", ONE)


def test_a_restriction_has_a_seq_of_the_ledger(database: Database) -> None:
    """Restricting takes the next seq, and doing it again keeps that one."""
    with database.write() as connection:
        assert SUBJECTS.restrict(connection, TENANT, ONE) == 1
        assert SUBJECTS.restrict(connection, TENANT, ONE) == 1
    assert (found(database).restricted_seq, found(database).last_seq) == (1, 1)


def test_lifting_takes_a_seq_too(database: Database) -> None:
    """After lifting, the subject is not restricted and the next restriction comes later."""
    with database.write() as connection:
        assert SUBJECTS.lift(connection, TENANT, ONE) == 0
        SUBJECTS.restrict(connection, TENANT, ONE)
        assert SUBJECTS.lift(connection, TENANT, ONE) == 2
        assert SUBJECTS.restrict(connection, TENANT, ONE) == 3


def test_keys_come_back_newest_last(database: Database) -> None:
    """A subject's DEKs are in order of their making."""
    with database.write() as connection:
        SUBJECTS.put_keys(connection, TENANT, [(ONE, key_of(5))], NOW + 1)
        SUBJECTS.put_keys(connection, TENANT, [(ONE, key_of(6)), (TWO, key_of(7))], NOW)
        assert SUBJECTS.keys(connection, TENANT, [ONE, TWO]) == {
            ONE: [key_of(6), key_of(5)],
            TWO: [key_of(7)],
        }


def test_rows_need_their_subject(database: Database) -> None:
    """Foreign keys are on: a key or value of no subject is refused."""
    with pytest.raises(StoreUnavailableError), database.write() as connection:
        SUBJECTS.put_keys(connection, TENANT, [(subject_of(9).id, key_of(5))], NOW)
    with pytest.raises(StoreUnavailableError), database.write() as connection:
        SUBJECTS.put_values(connection, TENANT, [value_of(subject_of(9).id, "email")])


def test_a_value_is_replaced_by_its_next_version(database: Database) -> None:
    """put_values inserts the first version and replaces it by a later one."""
    with database.write() as connection:
        SUBJECTS.put_values(connection, TENANT, [value_of(ONE, "email", 1), value_of(TWO, "email", 1)])
        SUBJECTS.put_values(connection, TENANT, [value_of(ONE, "email", 2)])
    assert versions(database) == {
        ONE: {"email": VersionState(2, True)},
        TWO: {"email": VersionState(1, True)},
    }


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_is_never_written_twice(database: Database, version: int) -> None:
    """A version that is stored, or an older one, is refused, and the whole transaction with it."""
    with database.write() as connection:
        SUBJECTS.put_values(connection, TENANT, [value_of(ONE, "email", 2)])
    with pytest.raises(VersionMismatchError), database.write() as connection:
        SUBJECTS.put_values(connection, TENANT, [value_of(ONE, "phone", 1), value_of(ONE, "email", version)])
    assert versions(database) == {ONE: {"email": VersionState(2, True)}}


def test_clearing_keeps_counting_versions(database: Database) -> None:
    """A cleared attribute keeps its row, and its next value gets the version after."""
    with database.write() as connection:
        SUBJECTS.put_values(connection, TENANT, [value_of(ONE, "email", 1), value_of(ONE, "phone", 1)])
        SUBJECTS.put_values(connection, TENANT, [value_of(ONE, "email", 2, ciphertext=None)])
    assert versions(database)[ONE]["email"] == VersionState(2, False)
    with database.write() as connection:
        SUBJECTS.put_values(connection, TENANT, [value_of(ONE, "email", 2, ciphertext=None)])
        SUBJECTS.put_values(connection, TENANT, [value_of(ONE, "email", 3)])
    assert versions(database, "email") == {ONE: {"email": VersionState(3, True)}}


def test_clearing_by_name_takes_the_next_version_of_those_set(database: Database) -> None:
    """clear_values leaves what was never set or is cleared already."""
    with database.write() as connection:
        SUBJECTS.put_values(connection, TENANT, [value_of(ONE, "email", 4)])
        for _ in range(2):
            SUBJECTS.clear_values(connection, TENANT, ONE, ["email", "phone"], NOW)
    assert versions(database) == {ONE: {"email": VersionState(5, False)}}


def test_a_thousand_subjects_are_a_handful_of_statements(database: Database) -> None:
    """A chunk of subjects with keys and values goes in by executemany, not by a statement each."""
    numbers = range(10, 1_010)
    ids = [subject_of(n).id for n in numbers]
    with database.write() as connection:
        calls = _count_executions(connection)
        add_subjects(connection, *numbers)
        SUBJECTS.put_keys(connection, TENANT, [(subject, key_of(5)) for subject in ids], NOW)
        SUBJECTS.put_values(connection, TENANT, [value_of(s, a) for s in ids for a in ("email", "phone")])
        assert len(SUBJECTS.lock(connection, TENANT, ids)) == 1_000
        assert len(SUBJECTS.versions(connection, TENANT, ids)) == 1_000
    assert len(calls) == 6


def _count_executions(connection: Connection) -> list[str]:
    calls: list[str] = []

    def seen(_1: object, _2: object, statement: str, _3: object, _4: object, _5: object) -> None:
        calls.append(statement)

    event.listen(connection, "before_cursor_execute", seen)
    return calls


def test_kept_requests_come_back(database: Database) -> None:
    """A kept answer is found by (tenant, caller, request id) alone."""
    stored = StoredRequest("r-1", "record-1", b"f" * 32, b"{}", NOW)
    with database.write() as connection:
        REQUESTS.put(connection, TENANT, "portal", stored)
        assert REQUESTS.get(connection, TENANT, "portal", "r-1") == stored
        assert REQUESTS.get(connection, TENANT, "importer", "r-1") is None
        assert REQUESTS.get_many(connection, "wholesale", "portal", ["r-1"]) == {}


def test_requests_are_forgotten_after_seven_days(database: Database) -> None:
    """purge removes what is older than 7 days and nothing younger."""
    old = StoredRequest("old", "record-1", b"f", b"{}", NOW - KEPT_MICROSECONDS - 1)
    young = StoredRequest("young", "record-2", b"f", b"{}", NOW - KEPT_MICROSECONDS)
    with database.write() as connection:
        REQUESTS.put_many(connection, TENANT, "portal", [old, young])
        assert REQUESTS.purge(connection, NOW, 10) == 1
        assert set(REQUESTS.get_many(connection, TENANT, "portal", ["old", "young"])) == {"young"}


def test_every_bundle_that_served_is_kept(database: Database) -> None:
    """A bundle is kept as it first served, and is listed in that order."""
    bundles = BundleRepository()
    with database.write() as connection:
        bundles.keep(connection, "b", b"files of b", NOW)
        bundles.keep(connection, "a", b"files of a", NOW + 1)
        bundles.keep(connection, "b", b"something else", NOW + 2)
        assert bundles.load(connection, "b") == b"files of b"
        assert bundles.load(connection, "c") is None
        assert bundles.served(connection) == [("b", NOW), ("a", NOW + 1)]


def test_quotas_add_up_within_their_hour(database: Database) -> None:
    """Each (caller, purpose, hour) has its own counter, and add returns where it stands."""
    quotas = QuotaRepository()
    with database.write() as connection:
        assert quotas.add(connection, TENANT, "engine", "offers", 7, 3) == 3
        assert quotas.add(connection, TENANT, "engine", "offers", 7, 4) == 7
        assert quotas.add(connection, TENANT, "engine", "offers", 8, 1) == 1
        assert quotas.used(connection, TENANT, "engine", "offers", 7) == 7
        assert quotas.used(connection, TENANT, "other", "offers", 7) == 0
        assert quotas.purge(connection, 8, 10) == 1
        assert quotas.used(connection, TENANT, "engine", "offers", 7) == 0


def test_the_first_tenant_key_wins(database: Database) -> None:
    """Of two first inserts the earlier stays, and both callers get it."""
    keys = SqlTenantKeyRepository(database)
    assert keys.load(TENANT, "lookup") == []
    first = TenantKeyRow(1, b"first")
    assert keys.insert_first(TENANT, "lookup", 1, b"first") == [first]
    assert keys.insert_first(TENANT, "lookup", 1, b"second") == [first]
    assert keys.insert_first(TENANT, "lookup", 2, b"next") == [first, TenantKeyRow(2, b"next")]
    assert keys.load(TENANT, "pseudonym") == []
