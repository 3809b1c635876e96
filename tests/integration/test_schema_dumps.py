"""What every release left in a database is served by this one: dumps with data in them, raised and read."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.identity import FAKES_ARE_FINE
from tests.support.pipelines import House, open_house
from tests.support.postgres import METADATAS, PostgresServer
from tests.support.schema_dump import FOLDER, KEYS, VALUES
from vault.client import DenialReason
from vault.store import schema
from vault.store.postgres_database import PostgresDatabase
from vault.testing import FakeClock

pytestmark = FAKES_ARE_FINE

DUMPS = sorted(FOLDER.iterdir())
AFTER = 1_795_600_000_000_000
"""Microseconds: 2026-11-25, the day after they were made, before a consent in them runs out."""


@pytest.fixture(params=DUMPS, ids=lambda dump: dump.name)
def house(request: pytest.FixtureRequest, tmp_path: Path, postgres_server: PostgresServer) -> Iterator[House]:
    """A home on what an earlier release left, raised to this release's schema."""
    dump: Path = request.param
    store, _, revision = dump.name.partition("-")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shutil.copyfile(dump / KEYS, home / KEYS)
    (home / KEYS).chmod(0o600)
    script = (dump / "dump.sql").read_text("utf-8")
    if store == "sqlite":
        with contextlib.closing(sqlite3.connect(home / "datavault.db")) as connection:
            connection.executescript(script)
        with open_house(tmp_path, FakeClock(AFTER)) as opened:
            yield opened
        return
    url = postgres_server.create(schema_too=False)
    with psycopg.connect(url, autocommit=True) as there:
        there.execute(script.encode("utf-8"))
    owner = PostgresDatabase(url)
    assert schema.status(owner).current == revision
    schema.upgrade(owner, METADATAS)
    owner.close()
    with open_house(tmp_path, FakeClock(AFTER), database_url=url) as opened:
        yield opened
    postgres_server.drop(url)


def test_there_is_a_dump_of_every_schema() -> None:
    """`python -m tests.support.schema_dump` writes the newest one."""
    newest = schema.MIGRATIONS / "versions"
    revisions = {path.name[1:5] for path in newest.glob("r[0-9]*.py")}
    assert {dump.name.rpartition("-")[2] for dump in DUMPS} == revisions


def test_what_was_stored_is_read_and_goes_on(house: House) -> None:
    """Values, consents and withdrawals mean what they meant; the log goes on and verifies from its start."""
    assert schema.status(house.rooms.database).up_to_date
    seen = house.read("fraud-detection", "ana", "fraud-detection", ["email"])
    assert seen.value("email") == "ana@second.example"
    offered = house.read("personalization-engine", "ana", "personalised-offers", ["given-name"])
    assert offered.value("given-name") == VALUES["given-name"]
    withdrawn = house.read("personalization-engine", "bob", "personalised-offers", ["given-name"])
    assert withdrawn.denied["given-name"].reason is DenialReason.CONSENT_WITHDRAWN
    written = house.write("ana", {"email": "ana@third.example"})
    assert dict(written.versions) == {"email": 3}
    assert house.write("new", VALUES).subject_created
    report = house.verify()
    assert report.problems == []
    assert report.size == report.signed_size > 10
