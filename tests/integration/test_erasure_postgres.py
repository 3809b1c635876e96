"""What an erasure leaves in PostgreSQL: nothing in the heap once the owner has rewritten the tables."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import run
from tests.support.erasure import Traces, class_traces, erase, files, subject_id, subject_traces
from tests.support.pipelines import House, open_house
from tests.support.postgres import SERVICE_USER, SUPERUSER, PostgresServer, postgres_at
from tests.support.service import POLICIES
from vault.domain.errors import StoreUnavailableError
from vault.store import vacuum

ANA = {"email": "ana@b.example", "mobile-phone": "+351210000000"}


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """Its files are looked into."""
    with tempfile.TemporaryDirectory(prefix="datavault-heap-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103  the server runs as another user
        with postgres_at(Path(folder) / "server") as server:
            yield server


@pytest.fixture
def house(own_server: PostgresServer, tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path, database_url=own_server.for_service(own_server.create())) as opened:
        yield opened


def owners_url(house: House) -> str:
    return str(house.place).replace(
        house.rooms.settings.database.partition("@")[0], f"postgresql://{SUPERUSER}"
    )


def heap(server: PostgresServer, house: House) -> dict[str, bytes]:
    """The files of all tables and indexes of the database, as they are on disk now."""
    assert server.folder is not None
    house.sql("CHECKPOINT")
    ((oid,),) = house.sql("SELECT oid FROM pg_database WHERE datname = current_database()")
    folder = server.folder / "data" / "base" / str(oid)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_nothing_of_the_erased_is_left_in_the_heap(
    own_server: PostgresServer, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is rewritten the heap still has wrapped keys and ciphertexts in dead rows; after `db scrub`
    neither these nor what the vault knew the customer by, and the neighbours' data is read as before. The
    outside store never had any of it."""
    for number in ("ana", "bob", "cem"):
        house.write(number, ANA)
    subject = subject_id(house, "ana")
    secret = class_traces(house.place, subject, {"contact"})
    known = subject_traces(house.place, subject)
    lookup = Traces({name: needle for name, needle in known.needles.items() if name != "pseudonym"})
    erase(house, "ana")
    house.verify()
    assert {name for name, _ in secret.found(heap(own_server, house))} >= {"wrapped 0", "ciphertext email"}
    for name, value in (("DATABASE_URL", owners_url(house)), ("POLICIES", POLICIES)):
        monkeypatch.setenv(f"DATAVAULT_{name}", str(value))
    result = run("db", "scrub", "--yes")
    assert result.exit_code == 0, result.output
    after = heap(own_server, house)
    assert secret.found(after) == set()
    assert lookup.found(after) == set()
    assert secret.found(files(house.rooms.settings.home)) == set()
    answer = house.read("fraud-detection", "bob", "fraud-detection", ["email"])
    assert answer.value("email") == ANA["email"]


def test_the_service_cannot_rewrite_tables(house: House) -> None:
    """`--scrub` of an erasure erases, and says whose the rewriting is."""
    house.write("ana", ANA)
    outcome = erase(house, "ana", scrub=True)
    assert outcome.whole
    assert not outcome.scrubbed
    assert "datavault db scrub" in outcome.scrub_problem
    with pytest.raises(StoreUnavailableError, match="datavault db scrub"):
        house.rooms.database.scrub()


def test_who_may_not_rewrite_is_refused_before_anything_is(
    own_server: PostgresServer, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL would only warn, skip the table, and succeed."""
    house.sql(f"ALTER TABLE subject OWNER TO {SERVICE_USER}")
    for name, value in (("DATABASE_URL", house.place), ("POLICIES", POLICIES)):
        monkeypatch.setenv(f"DATAVAULT_{name}", str(value))
    house.write("ana", ANA)
    erase(house, "ana")
    before = heap(own_server, house)
    result = run("db", "scrub", "--yes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "run it as the tables' owner" in result.stderr
    assert heap(own_server, house).keys() == before.keys()
    with house.rooms.database.write_once() as connection, pytest.raises(StoreUnavailableError):
        vacuum.rewrite(connection, "attribute_value")
