"""`keys migrate`: every key goes from the file to a real Transit, nothing else changes, and any step may be
the last one."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.support.cli import run
from tests.support.migrate import (
    CUSTOMERS,
    UNTOUCHED,
    VALUES,
    Killed,
    at,
    copy_home,
    evidence,
    kill_at,
    make_home,
    move,
    moved_house,
    rows,
    settings_of,
    wrapped_by,
)
from tests.support.pipelines import House, open_house
from tests.support.service import ORIGIN, POLICIES, run_sql
from tests.support.tenants import PRIVATE, RETAIL, read, tenant_policies, verified, write
from tests.support.transit_server import transit_server
from vault.audit.checkpoint import signed_by
from vault.crypto.dev_server import DevTransit
from vault.crypto.names import LOG
from vault.crypto.transit import TransitKeyProvider
from vault.domain.errors import ConfigurationError, KeysUnavailableError, StartRefusedError
from vault.domain.protocols import WrapItem
from vault.homes import verifier_keys, verify_logs
from vault.keys.move import KeyMove, Stragglers
from vault.migrating import migrate_keys
from vault.policy.bundle import load_bundle
from vault.store.sqlite_database import SqliteDatabase

__all__ = ["transit_server"]

DATABASE = "home/datavault.db"
WRAPPED = 3 * CUSTOMERS + 1 + 2
"""Data keys of three classes, one of evidence, two of the tenant."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    make_home(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path, template: Path) -> Path:
    return copy_home(tmp_path, template)


def verifies(folder: Path, server: DevTransit, vkeys: Sequence[str]) -> None:
    (report,) = verify_logs(settings_of(folder, server, keys="transit"), vkeys, "", lambda done, total: None)
    assert (report.problems, report.signed_size) == ([], report.size)


def old_key(folder: Path, server: DevTransit) -> str:
    (known,) = verifier_keys(settings_of(folder, server))
    return known


def reads(house: House) -> None:
    """A value, a consent and the evidence are what they were."""
    shown = house.read("marketing-platform", "C0", "email-campaigns", ["email"])
    assert shown["email"].value == VALUES["email"]
    refused = house.read("marketing-platform", "C1", "email-campaigns", ["email"])
    assert "email" not in refused
    assert evidence(house) == b"{}"


# --- the move ---------------------------------------------------------------------------------------------


def test_every_key_moves_and_no_ciphertext_changes(home: Path, transit_server: DevTransit) -> None:
    """All wrapped keys are Transit's; values, consents and the sealed evidence are the same bytes; reads and
    new writes work; the old verifier key alone verifies the log."""
    before, sealed = rows(home, *UNTOUCHED), rows(home, "erasure_evidence")["erasure_evidence"]
    file, known = (home / "home/keys.json").read_bytes(), old_key(home, transit_server)
    moved = move(home, transit_server)
    assert (moved.finished, moved.total, moved.left, moved.stragglers) == (True, WRAPPED, 0, {})
    assert wrapped_by(home) == {b"vault"}
    assert rows(home, *UNTOUCHED) == before
    after = rows(home, "erasure_evidence")["erasure_evidence"]
    assert [row[:3] + row[4:] for row in after] == [row[:3] + row[4:] for row in sealed]
    assert (home / "home/keys.json").read_bytes() == file
    (home / "home/keys.json").unlink()
    with moved_house(home, transit_server) as house:
        reads(house)
        # by hand, as an operator may: the log goes on signing with the version that it announced
        house.rooms.provider.rotate(LOG)
        house.write("C99", VALUES)
        house.pipelines.integrator.run_once()
    with moved_house(home, transit_server) as house:
        reads(house)
        house.pipelines.integrator.run_once()
    for vkeys in ((known,), (*moved.verifier_keys,), ()):
        verifies(home, transit_server, vkeys)
    assert verifier_keys(settings_of(home, transit_server, keys="transit")) == (known, *moved.verifier_keys)


def test_every_log_announces_its_key(tmp_path: Path, transit_server: DevTransit) -> None:
    """Where each tenant has a log, each of them and the closed one of all goes on under Transit's key, and
    is followed from the key that it had."""
    policies = tenant_policies(tmp_path / "policies", (RETAIL, PRIVATE))
    for logs in ("one", "tenant"):
        with open_house(tmp_path, policies=policies, logs=logs) as house:
            write(house, PRIVATE)
            house.pipelines.integrator.run_once()
    own = {"policies": policies, "logs": "tenant"}
    settings = settings_of(tmp_path, transit_server, **own)
    before = verifier_keys(settings)
    moved = migrate_keys(settings, dry_run=False, progress=lambda what, done, total: None)
    assert (moved.finished, len(moved.verifier_keys)) == (True, 3)
    after = settings_of(tmp_path, transit_server, keys="transit", **own)
    for vkeys in (before, moved.verifier_keys):
        reports = verify_logs(after, vkeys, "", lambda done, total: None)
        assert [(report.problems, report.signed_size) for report in reports] == [
            ([], report.size) for report in reports
        ]
        assert len(reports) == 3
    at_transit = {"keys": "transit", **at(transit_server)}
    with open_house(tmp_path, policies=policies, logs="tenant", **at_transit) as house:
        assert read(house, PRIVATE) == "private@mail.example"
        assert all(not report.problems for report in verified(house).values())


def test_log_announces_its_key_and_tells_what_was_moved(home: Path, transit_server: DevTransit) -> None:
    """The announcement comes first and is signed by both; the last record says how much went where."""
    known = old_key(home, transit_server)
    moved = move(home, transit_server)
    notes = [row[3] for row in rows(home, "log_checkpoint")["log_checkpoint"]]
    signed = [signed_by(note, known, *moved.verifier_keys)[1] for note in notes]
    assert signed == [{known}, {known, *moved.verifier_keys}, {*moved.verifier_keys}]
    entries = sorted(rows(home, "log_entry")["log_entry"], key=lambda row: row[1])[-2:]
    announced, done = (json.loads(row[3]) for row in entries)
    assert (announced["action"], announced["caller"]) == ("log.key", "operator")
    assert announced["detail"]["previous"] == known
    assert announced["detail"]["verifier_key"] == moved.verifier_keys[0]
    assert (done["action"], done["outcome"]) == ("keys.rewrap", "authorised")
    assert done["detail"] == {
        "stage": "migrated",
        "from": "local",
        "to": "transit",
        "data_keys": 3 * CUSTOMERS,
        "evidence_keys": 1,
        "tenant_keys": 2,
        "receipt_key_before": moved.receipt_keys[0],
        "receipt_key": moved.receipt_keys[1],
    }


def test_backup_from_before_the_move_is_adopted_and_moved_again(
    command: Path, transit_server: DevTransit
) -> None:
    """With the key file, and the later verifier keys for the outside store's last checkpoint."""
    backup = (command / DATABASE).read_bytes()
    moved = move(command, transit_server)
    for name in ("datavault.db", "datavault.db-wal", "datavault.db-shm"):
        (command / "home" / name).unlink(missing_ok=True)
    (command / DATABASE).write_bytes(backup)
    adopt = ("audit", "adopt-restore", "--yes")
    refused = run(*adopt)
    assert refused.exit_code == 1
    assert "a backup from before `keys migrate`" in refused.stderr
    assert run(*adopt, "--vkey", f"{moved.verifier_keys[0]}\n").exit_code == 0
    again = move(command, transit_server)
    assert again.verifier_keys[0].startswith(f"{ORIGIN}/r2+")
    with moved_house(command, transit_server) as house:
        reads(house)


def test_dry_run_moves_nothing(home: Path, transit_server: DevTransit) -> None:
    """It says what there is to do, and the home is what it was."""
    before = rows(home)
    moved = move(home, transit_server, dry_run=True)
    assert (moved.finished, moved.begun, moved.total, moved.left) == (False, False, WRAPPED, WRAPPED)
    assert rows(home) == before
    with open_house(home) as house:
        reads(house)


def test_second_run_has_nothing_to_do(home: Path, transit_server: DevTransit) -> None:
    """Also when the key file is gone by then."""
    move(home, transit_server)
    (home / "home/keys.json").unlink()
    before = rows(home)
    moved = move(home, transit_server)
    assert (moved.finished, moved.already) == (True, True)
    assert rows(home) == before


# --- dying on the way -------------------------------------------------------------------------------------


def test_move_killed_at_any_transaction_goes_on(
    home: Path, transit_server: DevTransit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again, each run one change further: the next one goes on where the last one ended. As
    long as keys are at both providers no service starts, whichever it is set to."""
    known, before = old_key(home, transit_server), rows(home, *UNTOUCHED)
    monkeypatch.setattr("vault.keys.move._SLICE_ROWS", 7)
    bundle = load_bundle(POLICIES)
    monkeypatch.setattr("vault.migrating.load_bundle", lambda _: bundle)
    states: list[dict[str, Any]] = []
    while True:
        with monkeypatch.context() as patch:
            was_hit = kill_at(patch, 2)
            with contextlib.suppress(Killed):
                move(home, transit_server)
        if not was_hit():
            break
        states.append(rows(home))
        assert len(states) < 30
        assert states[-1] not in states[:-1]
        if len(states) == 5:
            assert wrapped_by(home) == {b"local", b"vault"}
            assert refuses(home, transit_server)
    assert len(states) > 9
    assert wrapped_by(home) == {b"vault"}
    assert rows(home, *UNTOUCHED) == before
    with moved_house(home, transit_server) as house:
        reads(house)
        house.pipelines.integrator.run_once()
    verifies(home, transit_server, [known])


def refuses(home: Path, server: DevTransit) -> bool:
    for settings in ({"keys": "local"}, {"keys": "transit", **at(server)}):
        with pytest.raises(StartRefusedError, match="datavault keys migrate --from local --to transit"):
            start(home, settings)
    return True


def start(home: Path, settings: dict[str, Any]) -> None:
    with open_house(home, **settings):
        pass


def test_transit_that_stops_answering_is_waited_for(
    home: Path, transit_server: DevTransit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends with its error, what was moved stays moved, and the next one goes on."""
    wrap, left = TransitKeyProvider.wrap, [6]

    def failing(self: TransitKeyProvider, key: str, items: Sequence[WrapItem]) -> list[bytes]:
        left[0] -= 1
        if left[0] < 0:
            raise KeysUnavailableError("the KMS is sealed or down")
        return wrap(self, key, items)

    with monkeypatch.context() as patch:
        patch.setattr(TransitKeyProvider, "wrap", failing)
        with pytest.raises(KeysUnavailableError):
            move(home, transit_server)
    assert move(home, transit_server).finished


def test_text_that_does_not_open_again_replaces_nothing(
    home: Path, transit_server: DevTransit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Transit gives is opened before the old text goes: were it wrong, the key would be lost."""
    wrap = TransitKeyProvider.wrap

    def muddled(self: TransitKeyProvider, key: str, items: Sequence[WrapItem]) -> list[bytes]:
        return wrap(self, key, [*items[1:], items[0]])

    before = rows(home, "subject_key", "tenant_key")
    monkeypatch.setattr(TransitKeyProvider, "wrap", muddled)
    with pytest.raises(KeysUnavailableError, match="does not open what it wraps"):
        move(home, transit_server)
    assert rows(home, "subject_key", "tenant_key") == before


# --- what does not open -----------------------------------------------------------------------------------


@pytest.fixture
def command(home: Path, transit_server: DevTransit, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home that the commands find in the environment."""
    for name, value in (
        ("DATAVAULT_HOME", home / "home"),
        ("DATAVAULT_POLICIES", POLICIES),
        ("DATAVAULT_ORIGIN", ORIGIN),
        ("VAULT_ADDR", transit_server.address),
        ("DATAVAULT_TRANSIT_TOKEN_FILE", transit_server.token_file),
        ("VAULT_CACERT", transit_server.ca_certificate),
    ):
        monkeypatch.setenv(name, str(value))
    return home


def migrate(*more: str) -> Result:
    return run("keys", "migrate", "--from", "local", "--to", "transit", *more)


@pytest.mark.parametrize(
    "change",
    [
        "wrapped = 'local:v1:AAAA'",
        "wrapped = x'00'",
        "wrapped = (SELECT wrapped FROM subject_key WHERE key_class = 'financial' LIMIT 1)",
        "dek_id = zeroblob(32)",
    ],
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["move", "dry run"])
def test_key_that_does_not_open_keeps_everything_where_it_is(
    command: Path, change: str, more: tuple[str, ...]
) -> None:
    """Torn, moved to another row, or not the one its row commits to: counted by class, exit code 1, and the
    service starts as before."""
    of_one = "key_class = 'contact' AND subject = (SELECT min(subject) FROM subject_key)"
    run_sql(command / DATABASE, f"UPDATE subject_key SET {change} WHERE {of_one}")
    before = rows(command)
    result = migrate(*more)
    assert result.exit_code == 1
    assert "do not open: 1 of contact; nothing was moved" in result.stderr
    assert rows(command) == before
    start(command, {})


def test_key_left_behind_keeps_the_move_from_ending(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is damaged while the move is under way: the rest moves, the end does not come, and neither
    provider serves; with the row repaired the next run ends it."""
    ((key, *_),) = run_sql(command / DATABASE, "SELECT max(dek_id) FROM subject_key")
    ((wrapped,),) = run_sql(command / DATABASE, "SELECT wrapped FROM subject_key WHERE dek_id = ?", key)
    update = "UPDATE subject_key SET wrapped = ? WHERE dek_id = ?"
    with monkeypatch.context() as patch:
        patch.setattr(KeyMove, "check", lambda *_: Stragglers())
        run_sql(command / DATABASE, update, b"local:v1:AAAA", key)
        result = migrate("--output", "json")
    assert result.exit_code == 1
    assert "the move is not finished, and keys.json is still needed" in result.stderr
    told = json.loads(result.stdout)
    assert (told["finished"], told["still_at_local"], sum(told["stragglers"].values())) == (False, 3, 1)
    with pytest.raises(StartRefusedError, match="only in part"):
        start(command, {})
    run_sql(command / DATABASE, update, wrapped, key)
    assert migrate().exit_code == 0
    assert wrapped_by(command) == {b"vault"}


def test_command_says_what_to_do_next(command: Path) -> None:
    """The settings to change, and what to do with the key file, which it leaves."""
    result = migrate()
    assert result.exit_code == 0, result.output
    assert "set DATAVAULT_KEYS=transit" in result.stdout
    assert "keep keys.json safe" in result.stdout
    assert "nothing left to move" in migrate().stdout
    assert (command / "home/keys.json").exists()


# --- what it refuses --------------------------------------------------------------------------------------


def test_running_service_is_not_moved(home: Path, transit_server: DevTransit) -> None:
    """The database is claimed by one process at a time."""
    database = SqliteDatabase(settings_of(home, transit_server).database)
    try:
        database.lock_exclusively()
        with pytest.raises(StartRefusedError, match="stop it first"):
            move(home, transit_server)
    finally:
        database.close()


@pytest.mark.parametrize("served", [False, True], ids=["no database", "an empty one"])
def test_home_that_was_never_served_has_nothing_to_move(
    tmp_path: Path, transit_server: DevTransit, served: bool
) -> None:
    """It says which setting to change instead, and makes no log."""
    if served:
        SqliteDatabase(settings_of(tmp_path, transit_server).database).create()
    with pytest.raises(ConfigurationError, match=r"never served.*DATAVAULT_KEYS=transit"):
        move(tmp_path, transit_server)


@pytest.mark.parametrize(
    ("source", "target"), [("transit", "local"), ("local", "local"), ("transit", "transit")]
)
def test_other_directions_are_refused(source: str, target: str) -> None:
    """Nothing brings production's keys into a file."""
    result = run("keys", "migrate", "--from", source, "--to", target)
    assert result.exit_code == 2
    assert "from local to transit only" in result.stderr


def test_home_without_its_key_file_is_not_moved(home: Path, transit_server: DevTransit) -> None:
    """Nothing opens without it."""
    (home / "home/keys.json").unlink()
    with pytest.raises(ConfigurationError, match="restore the file from its backup"):
        move(home, transit_server)


def test_restored_home_is_not_moved(home: Path, transit_server: DevTransit) -> None:
    """A database that lost records is adopted first: the announcement must not stand on a cut log."""
    run_sql(home / DATABASE, "DELETE FROM log_checkpoint")
    for statement in ('DELETE FROM log_entry WHERE "index" > 2', "UPDATE log SET size = 3, integrated = 0"):
        run_sql(home / DATABASE, statement)
    with pytest.raises(StartRefusedError, match="adopt-restore"):
        move(home, transit_server)


def test_wrong_provider_is_named_at_the_start(home: Path, transit_server: DevTransit) -> None:
    """Before and after the move, a service set to the other provider says what to set."""
    with pytest.raises(
        StartRefusedError, match=r"are at local.*DATAVAULT_KEYS=local.*datavault keys migrate"
    ):
        start(home, {"keys": "transit", **at(transit_server)})
    move(home, transit_server)
    with pytest.raises(StartRefusedError, match=r"are at transit.*set DATAVAULT_KEYS=transit"):
        start(home, {"keys": "local"})


def test_production_may_leave_the_key_file(home: Path, transit_server: DevTransit) -> None:
    """`environment=production`, which refuses local keys, does not refuse to move them away."""
    from vault.migrating import migrate_keys

    settings = settings_of(home, transit_server, environment="production")
    assert migrate_keys(settings, dry_run=False, progress=lambda what, done, total: None).finished
