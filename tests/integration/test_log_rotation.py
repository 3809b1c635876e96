"""The log key is rotated by one call, which is on record, and may die anywhere."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.support.audit import in_threads
from tests.support.cli import run
from tests.support.pipelines import House, open_house
from tests.support.service import ORIGIN, POLICIES, run_sql
from vault.audit.checkpoint import signed_by, vkey
from vault.config import Settings
from vault.crypto.names import LOG
from vault.domain.errors import (
    KeysUnavailableError,
    NotPermittedError,
    OverloadedError,
    StoreUnavailableError,
)
from vault.homes import verifier_keys, verify_logs
from vault.keys.log_rotation import LogKeyAnnouncer, RotatedLogKey

OPERATOR = "operator"
AUDITOR = "auditor"


@pytest.fixture
def house(tmp_path: Path, every_store: str) -> Iterator[House]:
    with open_house(tmp_path) as house:
        yield house


def rotate(house: House, caller: str = OPERATOR) -> RotatedLogKey:
    return house.pipelines.log_rotation.rotate(house.caller(caller))


def key(house: House, version: int) -> str:
    return vkey(ORIGIN, house.rooms.provider.public_key(LOG, version).raw)


def checkpoint(house: House) -> frozenset[str]:
    """A checkpoint of what is there now: which versions of the provider's key signed it."""
    house.pipelines.integrator.run_once()
    ((note,),) = house.sql("SELECT note FROM log_checkpoint ORDER BY size DESC LIMIT 1")
    newest = house.rooms.provider.info(LOG).latest_version
    return signed_by(note, *(key(house, version) for version in range(1, newest + 1)))[1]


def settings_of(house: House) -> Settings:
    return house.rooms.settings


def told(house: House) -> str:
    head, _ = house.pipelines.operations.log_head(house.caller(AUDITOR))
    return head.verifier_key


def test_rotation_announces_the_new_key_on_record(house: House) -> None:
    """The answer names the record, and the record both keys; the next checkpoint is signed by both."""
    house.pipelines.integrator.run_once()
    old = key(house, 1)
    answer = rotate(house)
    assert (answer.version, answer.verifier_key) == (2, key(house, 2))
    record = house.records()[answer.recorded.position]
    assert record["id"] == answer.recorded.record_id
    assert (record["action"], record["outcome"], record["caller"]) == ("log.key", "authorised", OPERATOR)
    assert (record["detail"]["previous"], record["detail"]["verifier_key"]) == (old, answer.verifier_key)
    assert checkpoint(house) == {old, answer.verifier_key}
    house.pipelines.operations.log_head(house.caller(AUDITOR))
    assert checkpoint(house) == {answer.verifier_key}
    assert house.verify().problems == []


def test_auditors_are_told_the_key_that_fits_the_checkpoint(house: House) -> None:
    """GetCheckpoint gives the newest key that signed the note it gives, so the two always verify."""
    house.write("C1", {"email": "a@b.example"})
    house.pipelines.integrator.run_once()
    rotate(house)
    assert told(house) == key(house, 1)
    house.pipelines.integrator.run_once()
    assert told(house) == key(house, 2)


def test_caller_without_the_right_rotates_nothing(house: House) -> None:
    """The refusal is on record under the act that was asked, and announces nothing."""
    with pytest.raises(NotPermittedError):
        rotate(house, AUDITOR)
    last = house.records()[-1]
    assert (last["action"], last["outcome"], last["caller"]) == ("keys.rotate", "denied", AUDITOR)
    assert house.rooms.provider.info(LOG).latest_version == 1
    assert house.verify().problems == []


def test_rotation_that_died_at_the_provider_is_taken_up(house: House) -> None:
    """A version that was made and never announced is the one that the next rotation announces."""
    assert house.rooms.provider.rotate(LOG) == 2
    assert rotate(house).version == 2
    assert rotate(house).version == 3
    assert house.rooms.provider.info(LOG).latest_version == 3
    assert house.verify().problems == []


class Failing:
    """Transactions whose next changes fail, before or after they are committed."""

    def __init__(self, inner: Any, *, after: bool) -> None:
        self._inner, self._after = inner, after

    def read(self) -> Any:
        return self._inner.read()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._inner.write() as connection:
            yield connection
            if not self._after:
                raise KeyboardInterrupt
        raise KeyboardInterrupt


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
def test_rotation_killed_at_its_transaction_goes_on(
    tmp_path: Path, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the commit nothing has changed; after it, the next start signs with both keys."""
    with open_house(tmp_path) as house:
        house.pipelines.integrator.run_once()
        old = key(house, 1)
        recorder = house.pipelines.recorder
        monkeypatch.setattr(recorder, "_transactions", Failing(house.rooms.database, after=after))
        with pytest.raises(KeyboardInterrupt):
            rotate(house)
    with open_house(tmp_path) as house:
        assert house.rooms.provider.info(LOG).latest_version == 2
        if not after:
            assert rotate(house).version == 2
        assert checkpoint(house) == {old, key(house, 2)}
        assert house.verify().problems == []
        assert len([each for each in house.records() if each["action"] == "log.key"]) == 1


def test_rotations_at_the_same_moment_are_one_after_the_other(house: House) -> None:
    """Each ends with its own key or is told to ask again; the log verifies from its first key on."""
    old = key(house, 1)
    done: list[int] = []
    refused: list[float | None] = []

    def one() -> None:
        try:
            done.append(rotate(house).version)
        except OverloadedError as error:
            refused.append(error.retry_after_seconds)

    in_threads(*[one] * 4)
    assert done
    assert len(set(done)) == len(done)
    assert all(refused)
    settings = settings_of(house)
    house.pipelines.integrator.run_once()
    (report,) = verify_logs(settings, [old], "", lambda done, total: None)
    assert report.problems == []


def test_overtaken_rotation_changes_nothing(house: House) -> None:
    """A key that is no longer the newest announces none: the other rotation was first."""
    announcer: LogKeyAnnouncer = house.pipelines.log_rotation._announcer
    place = house.pipelines.recorder.logs.of("retail")
    stale = announcer.current(place)
    rotate(house)
    version = house.rooms.provider.rotate(LOG)
    with pytest.raises(OverloadedError):
        announcer.announce(house.caller(OPERATOR), place, stale, "local", version)
    assert announcer.current(place).version == 2


def test_provider_that_does_not_answer_is_on_record(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rotation fails as a whole, its record says so, and the old key goes on signing."""

    def down(*_: object) -> int:
        raise KeysUnavailableError("sealed")

    monkeypatch.setattr(house.rooms.provider, "rotate", down)
    with pytest.raises(KeysUnavailableError):
        rotate(house)
    last = house.records()[-1]
    assert (last["action"], last["outcome"]) == ("keys.rotate", "error")
    assert last["detail"] == {"error": "KEYS_UNAVAILABLE"}
    assert checkpoint(house) == {key(house, 1)}


def test_database_that_does_not_answer_rotates_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the database there is neither record nor new key."""

    def down() -> None:
        raise StoreUnavailableError("locked")

    with monkeypatch.context() as patched:
        patched.setattr(house.rooms.database, "write", down)
        with pytest.raises(StoreUnavailableError):
            rotate(house)
    assert rotate(house).version == 2
    assert house.verify().problems == []


def test_rotation_by_hand_changes_nothing(tmp_path: Path) -> None:
    """A version that an operator makes at the provider signs nothing, also after a restart."""
    with open_house(tmp_path) as house:
        house.rooms.provider.rotate(LOG)
        house.write("C1", {"email": "a@b.example"})
        assert checkpoint(house) == {key(house, 1)}
    with open_house(tmp_path) as house:
        house.write("C2", {"email": "a@b.example"})
        assert checkpoint(house) == {key(house, 1)}


# --- commands ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rotated_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home whose log key was rotated twice: its folder, its keys, and a checkpoint from before."""
    folder = tmp_path_factory.mktemp("rotated")
    with open_house(folder, database_url="") as house:
        house.write("C1", {"email": "a@b.example"})
        house.pipelines.integrator.run_once()
        ((kept,),) = house.sql("SELECT note FROM log_checkpoint")
        for _ in range(2):
            rotate(house)
            house.pipelines.integrator.run_once()
        keys = {f"v{version}": key(house, version) for version in (1, 2, 3)}
    (folder / "kept.checkpoint").write_text(kept, "utf-8")
    return {**keys, "kept": str(folder / "kept.checkpoint"), "folder": str(folder)}


@pytest.fixture
def rotated(rotated_home: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the commands look into."""
    home = f"{rotated_home['folder']}/home"
    for name, value in (("HOME", home), ("POLICIES", POLICIES), ("ORIGIN", ORIGIN)):
        monkeypatch.setenv(f"DATAVAULT_{name}", str(value))
    return rotated_home


def test_vkey_prints_every_key_the_newest_last(rotated: dict[str, str]) -> None:
    """One a line."""
    result = run("audit", "vkey")
    assert result.stdout.split() == [rotated["v1"], rotated["v2"], rotated["v3"]]


@pytest.mark.parametrize("known", ["v1", "v2", "v3", "", "all"])
@pytest.mark.parametrize("kept", [False, True])
def test_verify_follows_from_any_key(rotated: dict[str, str], known: str, kept: bool) -> None:
    """With the first key, a later one, the home's own, or all that `vkey` prints; from the first record, or
    from a checkpoint kept before the rotations."""
    keys = "\n".join(rotated[f"v{number}"] for number in (1, 2, 3)) if known == "all" else rotated.get(known)
    more = ["--vkey", keys] if keys else []
    more += ["--from-checkpoint", rotated["kept"]] if kept else []
    result = run("audit", "verify", "--output", "json", *more)
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (0, True), result.output


def test_key_put_into_the_database_is_not_printed(
    rotated: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever pins what `vkey` prints must not pin a stranger's key."""
    shutil.copytree(f"{rotated['folder']}/home", tmp_path / "home")
    run_sql(tmp_path / "home/datavault.db", "UPDATE log_key SET public_key = ? WHERE number = 1", bytes(32))
    monkeypatch.setenv("DATAVAULT_HOME", str(tmp_path / "home"))
    result = run("audit", "vkey")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not the log's" in result.stderr


def test_home_that_was_never_rotated_prints_one_key(tmp_path: Path) -> None:
    """As before there were rotations."""
    with open_house(tmp_path) as house:
        settings = settings_of(house)
        assert verifier_keys(settings) == (key(house, 1),)
        house.sql("DELETE FROM log_key")
        assert verifier_keys(settings) == (key(house, 1),)
