"""The load of a read: what it returns, and what it leaves out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from tests.support.store import (
    NOW,
    TENANT,
    add_subjects,
    any_database_at,
    key_of,
    mac_of,
    state_entry,
    subject_of,
    value_of,
)
from vault.domain.errors import DatavaultError
from vault.domain.types import ConsentEvent, ConsentState, Lane, StoredValue, SubjectSnapshot
from vault.store.consents import SqlConsentRepository
from vault.store.database import Database
from vault.store.reader import SubjectReader
from vault.store.subjects import SubjectRepository

READER = SubjectReader()
SUBJECTS = SubjectRepository()


@pytest.fixture
def database(tmp_path: Path, every_store: str) -> Iterator[Database]:
    with any_database_at(tmp_path / "vault.db") as opened:
        yield opened


def load(
    database: Database, *numbers: int, attributes: tuple[str, ...] = ("email",), tenant: str = TENANT
) -> dict[bytes, SubjectSnapshot]:
    with database.read() as connection:
        found = READER.load(connection, tenant, [mac_of(number) for number in numbers], attributes)
    return {mac: each for mac, each in found.items() if isinstance(each, SubjectSnapshot)}


def fill(connection: Connection) -> None:
    """Subject 1 with two keys, three values and two consents; subject 2 with nothing."""
    add_subjects(connection, 1, 2)
    one = subject_of(1).id
    SUBJECTS.put_keys(connection, TENANT, [(one, key_of(7)), (one, key_of(8, "financial"))], NOW)
    SUBJECTS.put_values(
        connection, TENANT, [value_of(one, name, version=3) for name in ("email", "phone", "income")]
    )
    consents = SqlConsentRepository()
    for seq, entry in enumerate(
        (
            state_entry(
                "offers",
                ConsentState.GIVEN,
                1,
                notice="offers",
                notice_version=2,
                expires_at=NOW,
                categories=frozenset({"pd:Income", "pd:Email"}),
            ),
            state_entry("marketing", ConsentState.OBJECTED, 2),
        ),
        start=1,
    ):
        event = ConsentEvent(
            f"event-{seq}",
            seq,
            entry.purpose,
            entry.state,
            "",
            0,
            "",
            "",
            "",
            {},
            "app",
            "",
            NOW,
            0,
            "portal",
            NOW,
        )
        consents.append_event(connection, TENANT, one, event, [entry])


def test_a_snapshot_has_all_a_read_needs(database: Database) -> None:
    """Subject row, all keys, the attributes asked for and all consent rows come back as they were put."""
    with database.write() as connection:
        fill(connection)
    snapshot = load(database, 1, attributes=("email", "income"))[mac_of(1)]
    assert snapshot.subject == subject_of(1, last_seq=2)
    assert snapshot.keys == {key.dek_id: key for key in (key_of(7), key_of(8, "financial"))}
    assert snapshot.values == {name: StoredValue(name, 3, 1, b"sealed", NOW) for name in ("email", "income")}
    with database.read() as connection:
        stored = SqlConsentRepository().state(connection, TENANT, subject_of(1).id)
    assert sorted(snapshot.consents, key=lambda entry: entry.seq) == sorted(
        stored, key=lambda entry: entry.seq
    )
    assert {entry.notice for entry in snapshot.consents} == {"offers", ""}


def test_a_bare_subject_has_an_empty_snapshot(database: Database) -> None:
    """A subject without keys, values and consents is known all the same."""
    with database.write() as connection:
        fill(connection)
    assert load(database, 2)[mac_of(2)] == SubjectSnapshot(subject_of(2), {}, {}, ())


def test_an_unknown_mac_is_left_out(database: Database) -> None:
    """What is not in the store has no entry."""
    with database.write() as connection:
        fill(connection)
    assert set(load(database, 9, 1)) == {mac_of(1)}


def test_another_tenant_sees_nothing(database: Database) -> None:
    """The same MAC in another tenant is unknown."""
    with database.write() as connection:
        fill(connection)
    assert load(database, 1, tenant="wholesale") == {}


def test_two_tenants_with_one_mac_are_apart(database: Database) -> None:
    """Each tenant gets its own subject, values and all."""
    with database.write() as connection:
        fill(connection)
        add_subjects(connection, 1, tenant="wholesale")
    assert load(database, 1, tenant="wholesale")[mac_of(1)].values == {}


def test_a_cleared_value_is_left_out(database: Database) -> None:
    """An attribute without ciphertext is not there, though its row counts versions."""
    with database.write() as connection:
        fill(connection)
        SUBJECTS.clear_values(connection, TENANT, subject_of(1).id, ["email"], NOW)
    assert load(database, 1, attributes=("email", "phone"))[mac_of(1)].values.keys() == {"phone"}


def test_no_attributes_give_no_values(database: Database) -> None:
    """A load for no attributes still has subject, keys and consents."""
    with database.write() as connection:
        fill(connection)
    snapshot = load(database, 1, attributes=())[mac_of(1)]
    assert (snapshot.values, len(snapshot.keys), len(snapshot.consents)) == ({}, 2, 2)


def test_no_subjects_give_nothing(database: Database) -> None:
    """An empty group is loaded without a statement."""
    assert load(database) == {}


@pytest.mark.parametrize("many", [1, 2, 255, 256, 257, 1_000])
def test_any_number_of_subjects_is_loaded_at_once(database: Database, many: int) -> None:
    """From one subject to a whole chunk, each gets its own rows."""
    numbers = range(1, many + 1)
    with database.write() as connection:
        add_subjects(connection, *numbers)
        SUBJECTS.put_values(
            connection, TENANT, [value_of(subject_of(n).id, "email", ciphertext=b"%d" % n) for n in numbers]
        )
    found = load(database, *numbers)
    assert {mac: snapshot.values["email"].ciphertext for mac, snapshot in found.items()} == {
        mac_of(n): b"%d" % n for n in numbers
    }


def test_a_repeated_mac_is_loaded_once(database: Database) -> None:
    """Two reads of one customer in a group do not double its rows."""
    with database.write() as connection:
        fill(connection)
    assert len(load(database, 1, 1)[mac_of(1)].consents) == 2


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "ünï", "'; DROP TABLE subject; --", "%"])
def test_attribute_names_are_data(database: Database, name: str) -> None:
    """Whatever an attribute is called, it is compared and never run."""
    with database.write() as connection:
        add_subjects(connection, 1)
        SUBJECTS.put_values(connection, TENANT, [value_of(subject_of(1).id, name)])
    assert load(database, 1, attributes=(name,))[mac_of(1)].values.keys() == {name}


def test_a_mac_of_another_length_is_refused(database: Database) -> None:
    """MACs are cut at 32 bytes, so one of another length would shift its neighbours."""
    with database.read() as connection, pytest.raises(DatavaultError):
        READER.load(connection, TENANT, [b"short", mac_of(1)], [])


@pytest.mark.parametrize(
    ("purpose", "lane", "state", "expected"),
    [
        ("offers", "consent", "delegated", ConsentState.INVALIDATED),
        ("offers", "consent", "objected", ConsentState.INVALIDATED),
        ("marketing", "objection", "postponed", ConsentState.OBJECTED),
    ],
)
def test_a_state_of_a_newer_release_is_read_as_negative(
    database: Database, purpose: str, lane: str, state: str, expected: ConsentState
) -> None:
    """A state that is not known, or not of its lane, can only take away."""
    with database.write() as connection:
        fill(connection)
        connection.execute(
            text("UPDATE consent_state SET state = :state WHERE purpose = :purpose AND lane = :lane"),
            {"state": state, "purpose": purpose, "lane": lane},
        )
    found = {(entry.purpose, entry.lane): entry.state for entry in load(database, 1)[mac_of(1)].consents}
    assert found[purpose, Lane(lane)] is expected
