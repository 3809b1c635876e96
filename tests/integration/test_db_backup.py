"""`datavault db backup|restore`: a SQLite file and its WAL are one database."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import Result

from tests.support.cli import run
from tests.support.service import run_sql
from vault.assembly import METADATAS
from vault.store import schema, sqlite_backup
from vault.store.sqlite_database import SqliteDatabase

MARK = "INSERT INTO schema_info (name, value) VALUES (?, '')"
UNKNOWN = "UPDATE alembic_version SET version_num = '9999'"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the database of the home is to be."""
    monkeypatch.setenv("DATAVAULT_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "datavault.db"


@pytest.fixture
def used(path: Path) -> Iterator[SqliteDatabase]:
    """A database in use, with what was committed last in its WAL."""
    database = SqliteDatabase(f"sqlite:///{quote(str(path))}")
    schema.upgrade(database, METADATAS)
    mark(database, "early")
    yield database
    database.close()


def mark(database: SqliteDatabase, name: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql(MARK, (name,))


def marks(path: Path) -> set[str]:
    return {name for (name,) in run_sql(path, "SELECT name FROM schema_info")} & {"early", "late"}


def killed(used: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files as a server leaves them that was killed, in a home of their own; the path of the database."""
    home = tmp_path / "killed"
    shutil.copytree(used.path.parent, home)
    monkeypatch.setenv("DATAVAULT_HOME", str(home))
    assert Path(f"{home / used.path.name}-wal").stat().st_size > 0
    return home / used.path.name


def backed_up(tmp_path: Path) -> Path:
    target = tmp_path / "backup.db"
    done(run("db", "backup", str(target)))
    return target


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if not each.name.endswith(".lock")}


def test_a_backup_is_one_file_for_its_owner(used: SqliteDatabase, tmp_path: Path) -> None:
    """It has what was committed until then, also what only the WAL had, and nothing is left beside it."""
    target = backed_up(tmp_path)
    mark(used, "late")
    assert marks(target) == {"early"}
    assert target.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("backup.db")] == ["backup.db"]


def test_a_restore_leaves_nothing_of_the_old_wal(
    used: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy over the file alone is undone by the WAL that a killed server left; after the command the backup
    is what is there, and the old database lies beside it with all its commits."""
    target = backed_up(tmp_path)
    mark(used, "late")
    copied = killed(used, tmp_path, monkeypatch)
    shutil.copyfile(target, copied)
    assert marks(copied) == {"early", "late"}
    shutil.rmtree(copied.parent)
    path = killed(used, tmp_path, monkeypatch)

    done(run("db", "restore", "--yes", str(target)))

    assert marks(path) == {"early"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert marks(sqlite_backup.replaced(path)) == {"early", "late"}
    assert marks(target) == {"early"}


def test_a_restore_where_nothing_is_makes_the_home(
    used: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a new machine."""
    target = backed_up(tmp_path)
    monkeypatch.setenv("DATAVAULT_HOME", str(tmp_path / "new"))
    assert "nothing was there" in done(run("db", "restore", "--yes", str(target))).output
    assert marks(tmp_path / "new" / "datavault.db") == {"early"}


def test_a_snapshot_with_its_wal_is_restored_whole(
    used: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its WAL has is part of it."""
    snapshot = killed(used, tmp_path, monkeypatch)
    monkeypatch.setenv("DATAVAULT_HOME", str(tmp_path / "new"))
    done(run("db", "restore", "--yes", str(snapshot)))
    assert files(tmp_path / "new").keys() == {"datavault.db"}
    assert marks(tmp_path / "new" / "datavault.db") == {"early"}


def test_an_interrupted_restore_is_run_again(
    used: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the old file was moved and its WAL was not: the second run does the rest."""
    target = backed_up(tmp_path)
    mark(used, "late")
    path = killed(used, tmp_path, monkeypatch)
    path.rename(sqlite_backup.replaced(path))
    path.with_name("datavault.db.incoming").write_bytes(b"half")
    done(run("db", "restore", "--yes", str(target)))
    assert marks(path) == {"early"}
    assert marks(sqlite_backup.replaced(path)) == {"early", "late"}
    assert "datavault.db.incoming" not in files(path.parent)


def damaged(backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    content[4_096:] = bytes(len(content) - 4_096)
    backup.write_bytes(content)


def of_something_else(backup: Path) -> None:
    backup.unlink()
    run_sql(backup, "CREATE TABLE t (a)")


def of_a_newer_release(backup: Path) -> None:
    run_sql(backup, UNKNOWN)
    run_sql(backup, "UPDATE schema_info SET value = '9999' WHERE name = 'serves_from'")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (damaged, "damaged"),
        (of_something_else, "is no database of datavault"),
        (of_a_newer_release, "has schema 9999, which this release does not know"),
        (lambda backup: backup.write_bytes(b""), "is no database of datavault"),
    ],
    ids=["damaged", "another program's", "newer", "empty"],
)
def test_what_is_no_backup_changes_nothing(
    used: SqliteDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    told: str,
) -> None:
    """It is refused with its name, and every file of the home stays as it was."""
    target = backed_up(tmp_path)
    path = killed(used, tmp_path, monkeypatch)
    before = files(path.parent)
    spoil(target)
    refused = run("db", "restore", "--yes", str(target))
    assert refused.exit_code != 0
    assert str(target) in refused.output
    assert told in refused.output
    assert files(path.parent) == before


def test_a_restore_is_refused_while_a_server_runs(used: SqliteDatabase, tmp_path: Path) -> None:
    """Nothing is moved under it."""
    target = backed_up(tmp_path)
    used.lock_exclusively()
    refused = run("db", "restore", "--yes", str(target))
    assert (refused.exit_code, "another datavault server uses" in refused.output) == (2, True)
    assert not sqlite_backup.replaced(used.path).exists()


def test_what_an_earlier_restore_replaced_is_never_written_over(
    used: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second restore is refused until it is moved away; so is a backup onto another one."""
    target = backed_up(tmp_path)
    killed(used, tmp_path, monkeypatch)
    done(run("db", "restore", "--yes", str(target)))
    again = run("db", "restore", "--yes", str(target))
    assert (again.exit_code, "was left by an earlier restore" in again.output) == (2, True)
    twice = run("db", "backup", str(target))
    assert (twice.exit_code, "is there already" in twice.output) == (2, True)


def test_there_is_nothing_to_back_up_without_a_database(path: Path, tmp_path: Path) -> None:
    """And none is made."""
    refused = run("db", "backup", str(tmp_path / "backup.db"))
    assert (refused.exit_code, "is missing" in refused.output) == (2, True)
    assert not path.exists()
    assert not (tmp_path / "backup.db").exists()


@pytest.mark.parametrize("command", [("backup",), ("restore", "--yes")])
def test_postgresql_has_its_own_programs(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names them."""
    monkeypatch.setenv("DATAVAULT_HOME", str(tmp_path))
    monkeypatch.setenv("DATAVAULT_DATABASE_URL", "postgresql://vault_owner@127.0.0.1:1/vault")
    (tmp_path / "backup").touch()
    refused = run("db", *command, str(tmp_path / "backup"))
    assert refused.exit_code == 2
    assert "pg_dump" in refused.output
