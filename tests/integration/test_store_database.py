"""Transactions on real SQLite files: isolation, fairness, and every way a database can fail."""

import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from tests.support.store import (
    METADATAS,
    NOW,
    TENANT,
    add_subjects,
    count,
    database_at,
    database_url,
    failing_driver,
    mac_of,
    state_entry,
    subject_of,
    value_of,
    without_root,
)
from vault.domain.errors import (
    ConfigurationError,
    DatavaultError,
    InvalidArgumentError,
    StartRefusedError,
    StoreUnavailableError,
    UncertainCommitError,
)
from vault.domain.types import ConsentEvent, ConsentState, Lane
from vault.store import schema
from vault.store.consents import SqlConsentRepository
from vault.store.reader import SubjectReader
from vault.store.sqlite_database import SqliteDatabase
from vault.store.subjects import SubjectRepository

PATIENCE = 30.0
ONE = subject_of(1).id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.db"


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    with database_at(path) as opened:
        yield opened


def in_thread(work: threading.Thread) -> None:
    work.start()
    work.join(PATIENCE)
    assert not work.is_alive()


def subjects(database: SqliteDatabase) -> int:
    with database.read() as connection:
        return count(connection, "subject")


def add(database: SqliteDatabase, *numbers: int) -> None:
    with database.write() as connection:
        add_subjects(connection, *numbers)


def pragma(connection: Connection, name: str) -> object:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


# --- what holds on every connection ---------------------------------------------------------------------


@pytest.mark.parametrize("side", ["read", "write"])
def test_connections_are_durable_and_strict(database: SqliteDatabase, side: str) -> None:
    """WAL, synchronous=FULL, foreign keys and secure delete are on, for readers and writers alike."""
    with getattr(database, side)() as connection:
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == 2
        assert pragma(connection, "foreign_keys") == 1
        assert pragma(connection, "secure_delete") == 1


def test_a_thread_keeps_its_connections(database: SqliteDatabase) -> None:
    """The same thread gets the same connection again, another thread another one."""
    seen: list[Connection] = []

    def look() -> None:
        with database.read() as connection:
            seen.append(connection)

    look()
    look()
    in_thread(threading.Thread(target=look))
    assert seen[0] is seen[1]
    assert seen[2] is not seen[0]


def test_the_file_is_the_owners_alone(database: SqliteDatabase, path: Path) -> None:
    """Nobody else may read the database file."""
    add(database, 1)
    assert path.stat().st_mode & 0o077 == 0
    assert path.with_name("vault.db-wal").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///x?mode=ro",
        "sqlite:///what?/x.db",
        "mysql://host/name",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """Only a SQLite file is taken; the message names the setting."""
    with pytest.raises(ConfigurationError, match="DATAVAULT_DATABASE_URL"):
        SqliteDatabase(url)


def test_a_path_with_special_characters_works(tmp_path: Path) -> None:
    """Percent signs, question marks and spaces in a path are part of its name."""
    odd = tmp_path / "50% of what#?" / "vault data%20.db"
    with database_at(odd) as database:
        add(database, 1)
    assert odd.exists()


# --- transactions ---------------------------------------------------------------------------------------


def withdraw(database: SqliteDatabase) -> None:
    entry = state_entry("offers", ConsentState.WITHDRAWN, 1)
    event = ConsentEvent(
        "event-1", 1, "offers", entry.state, "", 0, "", "", "", {}, "app", "", NOW, 0, "portal", NOW
    )
    with database.write() as connection:
        SqlConsentRepository().append_event(connection, TENANT, ONE, event, [entry])


def test_an_open_read_does_not_see_a_later_withdrawal(database: SqliteDatabase) -> None:
    """A withdrawal committed between two statements of a read is not seen by it, and seen by the next."""
    add(database, 1)
    consents, reader = SqlConsentRepository(), SubjectReader()
    with database.read() as connection:
        assert consents.state(connection, TENANT, ONE) == ()
        in_thread(threading.Thread(target=withdraw, args=(database,)))
        assert consents.state(connection, TENANT, ONE) == ()
        assert reader.load(connection, TENANT, [mac_of(1)], [])[mac_of(1)].consents == ()
    with database.read() as connection:
        (entry,) = reader.load(connection, TENANT, [mac_of(1)], [])[mac_of(1)].consents
    assert (entry.lane, entry.state) == (Lane.CONSENT, ConsentState.WITHDRAWN)


def test_a_read_inside_a_write_sees_what_is_committed(database: SqliteDatabase) -> None:
    """A read opened inside a change is a snapshot of its own, without the change."""
    with database.write() as connection:
        add_subjects(connection, 1)
        assert subjects(database) == 0
    assert subjects(database) == 1


def test_nothing_can_be_written_in_a_read(database: SqliteDatabase) -> None:
    """A read block refuses statements that change something."""
    with pytest.raises(StoreUnavailableError, match="read-only"), database.read() as connection:
        add_subjects(connection, 1)
    assert subjects(database) == 0


@pytest.mark.parametrize("error", [InvalidArgumentError("no"), KeyboardInterrupt()])
def test_an_exception_rolls_the_change_back(database: SqliteDatabase, error: BaseException) -> None:
    """Whatever leaves the block by an exception was not written, and the exception is the one raised."""

    def change() -> None:
        with database.write() as connection:
            add_subjects(connection, 1)
            raise error

    with pytest.raises(type(error)) as raised:
        change()
    assert raised.value is error
    assert subjects(database) == 0
    add(database, 2)


@pytest.mark.parametrize("side", ["read", "write"])
def test_blocks_of_a_kind_do_not_nest(database: SqliteDatabase, side: str) -> None:
    """A second block of the same kind in one thread is a programming error, and the first goes on."""
    block = getattr(database, side)
    with block() as connection:
        with pytest.raises(RuntimeError), block():
            pass
        assert count(connection, "subject") == 0
    add(database, 1)


def test_changes_take_turns_in_order(database: SqliteDatabase) -> None:
    """Writers of one process commit in the order in which they asked."""
    order: list[int] = []
    slot = database._slot

    def change(number: int) -> None:
        with database.write() as connection:
            add_subjects(connection, number)
            order.append(number)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(1, 7)]
    pause = threading.Event()
    with database.write():
        for standing, thread in enumerate(threads, start=1):
            thread.start()
            while slot.waiting() < standing:
                pause.wait(0.001)
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [1, 2, 3, 4, 5, 6]


def test_a_change_waits_for_its_turn_in_bounded_time(path: Path) -> None:
    """A change that cannot have the slot in time fails, and says that the database is busy."""
    failures: list[DatavaultError] = []
    with database_at(path, slot_seconds=0.01) as database:

        def change() -> None:
            try:
                add(database, 1)
            except DatavaultError as error:
                failures.append(error)

        with database.write():
            in_thread(threading.Thread(target=change))
        assert [type(failure) for failure in failures] == [StoreUnavailableError]
        add(database, 2)


def test_reads_go_on_beside_a_change(database: SqliteDatabase) -> None:
    """Readers do not wait for the writer."""
    seen: list[int] = []
    with database.write() as connection:
        add_subjects(connection, 1)
        in_thread(threading.Thread(target=lambda: seen.append(subjects(database))))
    assert seen == [0]


def test_a_change_holds_the_write_lock_from_its_start(database: SqliteDatabase) -> None:
    """No other process can get between the first read and the first write of a change."""
    other = sqlite3.connect(database.path, isolation_level=None, timeout=0)
    with database.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()


def test_ending_the_transaction_inside_the_block_is_an_error(database: SqliteDatabase) -> None:
    """A block that rolled back on its own does not pass for committed."""

    def change() -> None:
        with database.write() as connection:
            add_subjects(connection, 1)
            connection.rollback()

    with pytest.raises(RuntimeError):
        change()
    assert subjects(database) == 0


# --- faults ---------------------------------------------------------------------------------------------


def test_a_locked_database_is_unavailable(path: Path) -> None:
    """Another process that holds the write lock makes changes fail in bounded time; reads go on."""
    with database_at(path, busy_seconds=0.01) as database:
        add(database, 1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            add(database, 2)
        assert not database.writable()
        assert subjects(database) == 1
        other.close()
        assert database.writable()
        add(database, 2)


def test_a_missing_database_is_unavailable_and_not_made_anew(path: Path) -> None:
    """A file that is not there is an error, and no empty one takes its place."""
    database = SqliteDatabase(database_url(path))
    with pytest.raises(StoreUnavailableError, match="missing"):
        subjects(database)
    assert not database.writable()
    assert not path.exists()


def test_a_deleted_database_takes_no_writes(database: SqliteDatabase, path: Path) -> None:
    """Once the file is gone nothing is acknowledged, though the old file is still open."""
    add(database, 1)
    path.rename(path.with_name("moved.db"))
    with pytest.raises(StoreUnavailableError, match="missing"):
        add(database, 2)
    with pytest.raises(StoreUnavailableError, match="missing"):
        subjects(database)
    path.with_name("moved.db").rename(path)
    add(database, 2)
    assert subjects(database) == 2


def test_a_replaced_database_is_refused_until_restart(database: SqliteDatabase, path: Path) -> None:
    """Another file under the same name (a restored backup) is never served by a running process."""
    add(database, 1)
    path.rename(path.with_name("old.db"))
    with database_at(path):
        pass
    with pytest.raises(StoreUnavailableError, match="restart"):
        subjects(database)
    assert not database.writable()


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that a user without rights can look into (pytest's own are for the owner alone)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_read_only_file_is_told_as_such(shared_folder: Path) -> None:
    """A file that this user may only read can be read, refuses changes, and refuses the start."""
    path = shared_folder / "vault.db"
    with database_at(path) as database:
        add(database, 1)
        for part in shared_folder.iterdir():
            part.chmod(0o444)
        shared_folder.chmod(0o555)
        with without_root():
            reopened = SqliteDatabase(database_url(path))
            assert subjects(reopened) == 1
            with pytest.raises(StoreUnavailableError, match="read-only"):
                add(reopened, 2)
            with pytest.raises(StartRefusedError, match="read-only"):
                schema.require_current(reopened)
            reopened.close()


def test_a_full_disk_changes_nothing(database: SqliteDatabase) -> None:
    """A change that does not fit on the disk fails whole, and smaller ones go on."""
    add(database, 1)
    with database.write() as connection:
        pages = pragma(connection, "page_count")
        pragma(connection, f"max_page_count={pages}")
    big = [value_of(ONE, f"attribute-{n}", ciphertext=bytes(60_000)) for n in range(20)]
    with pytest.raises(StoreUnavailableError, match="full"), database.write() as connection:
        SubjectRepository().put_values(connection, TENANT, big)
    with database.read() as connection:
        assert count(connection, "attribute_value") == 0
    add(database, 2)


def test_a_damaged_file_is_told_as_such(path: Path) -> None:
    """A file that is no database is unavailable, not empty."""
    path.write_bytes(b"no database at all " * 300)
    database = SqliteDatabase(database_url(path))
    with pytest.raises(StoreUnavailableError, match="damaged"):
        subjects(database)
    with pytest.raises(StartRefusedError, match="damaged"):
        schema.require_current(database)


@pytest.mark.parametrize("cut_after", [False, True])
def test_a_commit_without_answer_is_uncertain(path: Path, cut_after: bool) -> None:
    """When COMMIT fails on I/O, whether it happened is open: the error says so, and the data decide."""
    with database_at(path) as prepared:
        add(prepared, 1)
    driver = failing_driver(sqlite3.SQLITE_IOERR, cut_after=cut_after)
    database = SqliteDatabase(database_url(path), driver=driver)
    with pytest.raises(UncertainCommitError):
        add(database, 2)
    driver.code = None
    assert subjects(database) == (2 if cut_after else 1)
    add(database, 3)
    database.close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL])
def test_a_refused_commit_is_certain(path: Path, code: int) -> None:
    """When COMMIT is refused nothing was changed, and the error does not say uncertain."""
    with database_at(path):
        pass
    driver = failing_driver(code)
    database = SqliteDatabase(database_url(path), driver=driver)
    with pytest.raises(StoreUnavailableError) as refused:
        add(database, 1)
    assert not isinstance(refused.value, UncertainCommitError)
    driver.code = None
    assert subjects(database) == 0
    database.close()


def test_after_an_error_the_thread_gets_a_new_connection(database: SqliteDatabase) -> None:
    """A connection that failed is not used again."""
    with pytest.raises(DatavaultError), database.read() as failed:
        failed.execute(text("SELECT nothing FROM nowhere"))
    with database.read() as connection:
        assert connection is not failed


def test_errors_show_no_sql_values_or_path(database: SqliteDatabase, path: Path) -> None:
    """What a caller or a log could see of a failed statement names neither SQL nor data nor file."""
    add(database, 1)
    secret = b"canary-ciphertext"
    row = value_of(subject_of(9).id, "canary-attribute", ciphertext=secret)
    with pytest.raises(StoreUnavailableError) as refused, database.write() as connection:
        SubjectRepository().put_values(connection, TENANT, [row])
    shown = f"{refused.value!r} {refused.value.message} {refused.value.__notes__} {refused.value.__cause__}"
    for hidden in ("canary", "INSERT", "attribute_value", str(path)):
        assert hidden not in shown


def test_a_closed_database_is_unavailable(database: SqliteDatabase) -> None:
    """After close() every thread is refused, and nothing is reopened."""
    add(database, 1)
    database.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        subjects(database)
    assert not database.writable()


# --- one server per file --------------------------------------------------------------------------------


def test_a_second_server_is_refused(database: SqliteDatabase) -> None:
    """The second claim on a file is refused with what to do; after close() it can be had."""
    second = SqliteDatabase(database_url(database.path))
    database.lock_exclusively()
    database.lock_exclusively()
    with pytest.raises(StartRefusedError, match="DATAVAULT_HOME"):
        second.lock_exclusively()
    database.close()
    second.lock_exclusively()
    second.close()


def test_a_folder_that_cannot_be_written_refuses_the_start(shared_folder: Path) -> None:
    """Without the right to make the lock file the start is refused with what to do."""
    shared_folder.chmod(0o555)
    with without_root(), pytest.raises(StartRefusedError, match="cannot be written"):
        SqliteDatabase(database_url(shared_folder / "vault.db")).lock_exclusively()


# --- schema ---------------------------------------------------------------------------------------------


def test_a_missing_database_refuses_the_start(path: Path) -> None:
    """The start on no database is refused with the command that makes one."""
    with pytest.raises(StartRefusedError, match="`datavault serve` makes a new one"):
        schema.require_current(SqliteDatabase(database_url(path)))


def test_an_empty_database_refuses_the_start(path: Path) -> None:
    """The start on a database without tables is refused with the command that upgrades it."""
    database = SqliteDatabase(database_url(path))
    database.create()
    with pytest.raises(StartRefusedError, match="`datavault serve` upgrades it"):
        schema.require_current(database)
    database.close()


def test_a_newer_schema_is_refused(database: SqliteDatabase) -> None:
    """A revision that this release does not know is neither served nor touched."""
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql("UPDATE schema_info SET value = '9998'")
    assert schema.status(database) == schema.SchemaStatus("9999", "0003", known=False, serves_from="9998")
    with pytest.raises(StartRefusedError, match="newer release"):
        schema.require_current(database)
    with pytest.raises(StartRefusedError, match="newer release"):
        schema.upgrade(database, METADATAS)
    assert schema.status(database).current == "9999"


def test_upgrading_again_changes_nothing(database: SqliteDatabase) -> None:
    """upgrade on a current database keeps its rows."""
    add(database, 1)
    assert schema.upgrade(database, METADATAS).up_to_date
    schema.require_current(database)
    assert subjects(database) == 1
