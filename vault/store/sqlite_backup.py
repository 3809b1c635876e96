"""A SQLite file as a backup, and put back: a database is its file *and* its WAL.

A WAL that is left beside another file is replayed into it: nothing in the two says whether they belong
together. So a copy is taken through SQLite, and what is replaced is moved away as a whole.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from vault.domain.errors import StoreUnavailableError
from vault.domain.files import sync_folder
from vault.store.sqlite import raw
from vault.store.sqlite_database import SqliteDatabase

WAL, SHM = "-wal", "-shm"
_REPLACED: Final = ".replaced"


@contextmanager
def copy_of(database: SqliteDatabase, target: Path) -> Iterator[SqliteDatabase]:
    """A copy of a database in use, of one moment, which gets the name `target` when the block ends well.
    Changes go on meanwhile.

    Raises:
        StoreUnavailableError: it cannot be read, or is damaged. OSError: `target` cannot be written.
    """
    partial = _new_file(target.with_name(target.name + ".partial"))
    with _unless_failed(partial):
        with database.read() as connection, closing(sqlite3.connect(partial)) as copy:
            raw(connection).backup(copy)
        with _sound(partial) as copied:
            yield copied
        _publish(partial, target)


@contextmanager
def replacement(path: Path, backup: Path) -> Iterator[SqliteDatabase]:
    """A copy of a backup, which takes the place of the database at `path` when the block ends well. What was
    there is at `replaced(path)` then. No server uses either; the caller holds the server's lock.

    A WAL beside the backup is part of it, as in a snapshot of a file system.

    Raises:
        StoreUnavailableError: the backup is damaged. OSError: it cannot be read, or the folder not written.
    """
    incoming = _new_file(path.with_name(path.name + ".incoming"))
    with _unless_failed(incoming):
        shutil.copyfile(backup, incoming)
        if Path(f"{backup}{WAL}").exists():
            shutil.copyfile(f"{backup}{WAL}", f"{incoming}{WAL}")
        with _sound(incoming) as copied:
            yield copied
        _move_away(path)
        _publish(incoming, path)


def replaced(path: Path) -> Path:
    """Where a restore leaves the database that was at `path`."""
    return path.with_name(path.name + _REPLACED)


@contextmanager
def _sound(path: Path) -> Iterator[SqliteDatabase]:
    """The database in a file, once every page of it was looked at. Afterwards the file has no WAL."""
    database = SqliteDatabase(f"sqlite:///{_quoted(path)}")
    try:
        with database.read() as connection:
            ((first,),) = connection.exec_driver_sql("PRAGMA integrity_check(1)").fetchall()
        if first != "ok":
            raise StoreUnavailableError("the database file is damaged")
        yield database
    finally:
        database.close()


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3F")


def _new_file(path: Path) -> Path:
    """An empty file for its owner alone; what an interrupted run left there is removed."""
    _remove(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    return path


@contextmanager
def _unless_failed(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _remove(path)
        raise


def _remove(path: Path) -> None:
    for suffix in ("", WAL, SHM):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _move_away(path: Path) -> None:
    """The file first: a WAL without one is discarded by SQLite, a file without its WAL has lost commits."""
    aside = replaced(path)
    for suffix in ("", WAL):
        if Path(f"{path}{suffix}").exists():
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    Path(f"{path}{SHM}").unlink(missing_ok=True)
    sync_folder(path.parent)


def _publish(made: Path, path: Path) -> None:
    descriptor = os.open(made, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(made, path)
    sync_folder(path.parent)
