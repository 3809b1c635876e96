"""Append gives gapless indices, makes records findable, and fails whole."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.support.audit import Log, encoded, in_threads, make_record, records, vkey_of
from vault.audit.append import Appender
from vault.audit.merkle import leaf_hash
from vault.audit.verify import verify
from vault.domain.errors import AuditUnavailableError, DatavaultError, StoreUnavailableError


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_indices_are_given_in_order_without_gaps(log: Log) -> None:
    """Appends get consecutive indices from 0, and the head follows."""
    assert log.append(3) == [0, 1, 2]
    assert log.append(1) == [3]
    assert log.append(0) == []
    with log.database.read() as connection:
        assert log.appender.head(connection) == 4
    stored = log.sql('SELECT "index", entry, leaf_hash FROM log_entry ORDER BY "index"')
    expected = [(index, item.entry, leaf_hash(item.entry)) for index, item in enumerate(records(0, 4))]
    assert stored == expected


def test_rolled_back_append_leaves_nothing(log: Log) -> None:
    """An append whose transaction fails takes no index."""
    with contextlib.suppress(ConnectionError), log.database.write() as connection:
        log.appender.append(connection, records(0, 2))
        raise ConnectionError
    assert log.append(2) == [0, 1]


def test_find_gives_the_indices_of_those_that_are_there(log: Log) -> None:
    """After an uncertain COMMIT, find says which of many ids are in the log, and where."""
    log.append(3)
    ids = [record.id for record in records(0, 1_203)]
    with log.database.read() as connection:
        assert log.appender.find(connection, ids) == {ids[0]: 0, ids[1]: 1, ids[2]: 2}
        assert log.appender.find(connection, []) == {}


@pytest.mark.parametrize("committed", [True, False])
def test_uncertain_commit_appends_exactly_once(log: Log, committed: bool) -> None:
    """Whether or not a COMMIT that was cut off took place, looking the ids up gives one record each."""
    batch = records(0, 2)
    with contextlib.suppress(ConnectionError), log.database.write() as connection:
        log.appender.append(connection, batch)
        if not committed:
            raise ConnectionError
    with log.database.write() as connection:
        found = log.appender.find(connection, [record.id for record in batch])
        assert len(found) == (2 if committed else 0)
        log.appender.append(connection, [record for record in batch if record.id not in found])
    assert log.sql("SELECT size FROM log") == [(2,)]
    assert log.sql("SELECT count(*), count(DISTINCT record_id) FROM log_entry") == [(2, 2)]


def test_same_record_twice_is_refused(log: Log) -> None:
    """A record id stands in a log once."""
    log.append(1)
    with pytest.raises(AuditUnavailableError), log.database.write() as connection:
        log.appender.append(connection, records(0, 1))
    assert log.sql("SELECT size FROM log") == [(1,)]


@pytest.mark.parametrize("statement", ["UPDATE log SET state = 'closed'", "DELETE FROM log"])
def test_closed_or_missing_log_takes_nothing(log: Log, statement: str) -> None:
    """A log that is closed, or not there, refuses records."""
    log.sql(statement)
    with pytest.raises(AuditUnavailableError):
        log.append(1)
    assert log.sql("SELECT count(*) FROM log_entry") == [(0,)]


def test_head_of_a_missing_log_is_an_error(log: Log) -> None:
    """There is no head where there is no log."""
    with pytest.raises(AuditUnavailableError), log.database.read() as connection:
        Appender(9).head(connection)


def test_full_disk_is_audit_unavailable_and_nothing_half_done(log: Log) -> None:
    """SQLITE_FULL in the middle of an append: an error without SQL, and the log is as before."""
    log.append(5)
    (pages,) = log.sql("PRAGMA page_count")[0]
    log.sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DatavaultError) as caught:
        log.append(200)
    assert isinstance(caught.value, AuditUnavailableError | StoreUnavailableError)
    assert "INSERT" not in str(caught.value)
    log.sql("PRAGMA max_page_count = 1000000")
    assert log.append(1) == [5]
    log.integrator().run_once()
    with log.database.read() as connection:
        assert verify(connection, log.id, vkey_of()).ok


def test_error_shows_no_sql_and_no_record(log: Log) -> None:
    """The message and cause of a failed append hold neither SQL nor what was to be appended."""
    log.sql("DROP TABLE log_entry")
    with pytest.raises(AuditUnavailableError) as caught, log.database.write() as connection:
        log.appender.append(connection, [encoded(make_record(1, request="canary"))])
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "canary" not in str(caught.value)
    assert "log_entry" not in str(caught.value)


def test_writers_at_once_give_one_gapless_sequence(log: Log) -> None:
    """Threads that append at the same time get disjoint indices that together have no gap."""
    taken: list[int] = []

    def writer(first: int) -> None:
        for number in range(first, first + 40, 2):
            with log.database.write() as connection:
                indices = log.appender.append(connection, records(number, 2))
            taken.extend(indices)

    in_threads(*(lambda first=first: writer(first) for first in (0, 1_000, 2_000)))
    assert sorted(taken) == list(range(120))
    stored = log.sql('SELECT "index" FROM log_entry ORDER BY "index"')
    assert [index for (index,) in stored] == list(range(120))


def test_append_needs_no_more_than_a_plain_driver_connection(log: Log) -> None:
    """What was committed is in the file: another connection of the driver's own sees it."""
    log.append(2)
    other = sqlite3.connect(log.database.path)
    assert other.execute("SELECT count(*) FROM log_entry").fetchone() == (2,)
    other.close()
