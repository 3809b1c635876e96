"""Rotation in the test's own process: a told clock, jobs taken step by step, a KMS that nobody else uses."""

import contextlib
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults_policies import FILES, write_policies
from tests.support.pipelines import House, open_house
from vault.crypto.dev_server import DevTransit, start_dev_transit
from vault.domain.types import KeyScope
from vault.keys.rewrap_job import RewrapProgress, RewrapWish

OPERATOR = "operator"
Steps = Generator[RewrapProgress, None, None]


def rotation_policies(folder: Path) -> Path:
    """The small policies of the fault tests, and an operator."""
    rules = "".join(
        f"p, {act.replace('.', '-')}, {OPERATOR}, administration, none, {act}, operation, allow\n"
        for act in ("keys.read", "keys.rotate", "keys.rewrap")
    )
    caller = (
        f'  {OPERATOR}:\n    tenant: retail\n    description: "Runs the service and its keys"\n'
        f"    identities: [{{spiffe: spiffe://bank.example/{OPERATOR}}}]\n"
    )
    more = {"policy.csv": f"{rules}g, {OPERATOR}, everyone\n", "callers.yaml": caller}
    return write_policies(folder, {path: FILES[path] + text for path, text in more.items()})


class ToldClock:
    """Real time, and what `pass_by` adds to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def now(self) -> int:
        return time.time_ns() // 1_000 + int(self.added * 1_000_000)

    def monotonic(self) -> float:
        return time.monotonic() + self.added

    def pass_by(self, seconds: float) -> None:
        self.added += seconds


@pytest.fixture(scope="session")
def rotation_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTransit]:
    """A real KMS whose keys these tests may rotate and retire."""
    server = start_dev_transit(tmp_path_factory.mktemp("rotation-kms"))
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def open_rotation_house(folder: Path, clock: ToldClock, server: DevTransit | None) -> Iterator[House]:
    """A house with local keys, or with those of `server`, each house with keys of its own."""
    settings: dict[str, Any] = {"policies": rotation_policies(folder / "policies")}
    if server is not None:
        settings |= {
            "keys": "transit",
            "transit_address": server.address,
            "transit_token_file": server.token_file,
            "transit_cacert": server.ca_certificate,
        }
    with open_house(folder, clock, **settings) as house:
        yield house


def rewrap(house: House, word: str, **wish: Any) -> Steps:
    """A rewrap by the operator; nothing happens before its first step is taken."""
    return house.pipelines.keys.rewrap.run(house.caller(OPERATOR), RewrapWish(word, **wish))


def finish(steps: Steps, clock: ToldClock) -> RewrapProgress:
    """Take all steps, with the time they ask for between them; returns the last progress."""
    *_, last = taken(steps, clock)
    return last


def taken(steps: Steps, clock: ToldClock) -> list[RewrapProgress]:
    """All progress of a job, with the time passing that it asks for."""
    found = []
    for progress in steps:
        found.append(progress)
        clock.pass_by(progress.pause_seconds)
    return found


def rotate(house: House, word: str) -> int:
    """A new version of a key, by the operator."""
    return house.pipelines.keys.rotation.rotate(house.caller(OPERATOR), word).version


def wrapped(house: House, key_class: str) -> dict[bytes, bytes]:
    """The wrapped DEKs of a class, by DEK id."""
    return dict(house.sql("SELECT dek_id, wrapped FROM subject_key WHERE key_class = ?", key_class))


def versions(house: House, word: str) -> dict[int, int]:
    """Wrapped keys per version, as `keys status` tells."""
    states, _ = house.pipelines.keys.status.status(house.caller(OPERATOR))
    (found,) = [key for key in states.keys if key.name == f"datavault-{word}"]
    return dict(found.versions)


def forget(house: House) -> None:
    """Empty the cache of DEKs."""
    house.pipelines.keyring.forget(
        {
            KeyScope(tenant, subject, key_class)
            for tenant, subject, key_class in house.sql("SELECT tenant, subject, key_class FROM subject_key")
        }
    )


def stall_after_wrapping(house: House, clock: ToldClock, patch: pytest.MonkeyPatch, word: str) -> None:
    """Whoever has data keys of this class wrapped next stands still right after it, until another replica
    has rotated the key, rewrapped, and retired the version."""
    provider = house.rooms.provider
    real = provider.wrap

    def wrap(key: str, items: Any) -> Any:
        made = real(key, items)
        if key == f"datavault-{word}":
            patch.setattr(provider, "wrap", real)
            rotate(house, word)
            assert finish(rewrap(house, word), clock).stragglers == 0
        return made

    patch.setattr(provider, "wrap", wrap)


def stages(house: House, action: str = "keys.rewrap") -> list[tuple[str, str]]:
    """(outcome, stage) of every record of an action."""
    return [
        (record["outcome"], record["detail"].get("stage", ""))
        for record in house.records()
        if record["action"] == action
    ]
