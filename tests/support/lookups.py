"""Rotations of lookup keys in the test's own process: replicas over one database, each with keys in memory of
its own, and rotations taken step by step."""

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.pipelines import House, open_house
from tests.support.rotation import OPERATOR, ToldClock, rotation_policies
from vault import assembly
from vault.domain.errors import DatavaultError
from vault.keys.lookup_rotation import LookupProgress

TENANT = "retail"
FRAUD = "fraud-detection"
PORTAL = "customer-portal"
_RULE: Final = f"p, consent-read, {PORTAL}, administration, none, consent.read, operation, allow\n"
Steps = Generator[LookupProgress, None, None]


@contextlib.contextmanager
def open_lookup_house(folder: Path, clock: ToldClock) -> Iterator[House]:
    """A house with the small policies, an operator, and a portal that may look at consent."""
    policies = rotation_policies(folder / "policies")
    rules = policies / "policy.csv"
    rules.write_text(rules.read_text("utf-8") + _RULE, "utf-8")
    with open_house(folder, clock, policies=policies) as house:
        yield house


def replica_of(house: House) -> House:
    """Another process, as it were: it shares the database and the KMS, and knows the lookup keys of now."""
    signers = assembly.log_signers(house.rooms)
    logs = assembly.open_logs(house.rooms, signers)
    return House(house.rooms, assembly.build_pipelines(house.rooms, logs, signers))


def rotation(house: House, *, caller: str = OPERATOR, **wish: Any) -> Steps:
    """A rotation; nothing happens before its first step is taken."""
    asked = {"dry_run": False, "subjects_per_second": 0, "resume_only": False} | wish
    return house.pipelines.keys.lookup_rotation.run(house.caller(caller), **asked)


def taken(steps: Steps, clock: ToldClock) -> list[LookupProgress]:
    """All progress of a rotation, with the time passing that it asks for."""
    found = []
    for progress in steps:
        found.append(progress)
        clock.pass_by(progress.pause_seconds)
    return found


def rotated(house: House, clock: ToldClock, **wish: Any) -> LookupProgress:
    """The result of a whole rotation."""
    return taken(rotation(house, **wish), clock)[-1]


def begun(house: House) -> Steps:
    """A rotation whose new key is in the table, and under which nobody is indexed yet."""
    steps = rotation(house)
    next(steps)
    return steps


def versions(house: House) -> dict[int, bool]:
    """Whether each version of the lookup key that is kept is in force."""
    rows = house.sql("SELECT version, retired_at FROM tenant_key WHERE tenant = ? AND use = 'lookup'", TENANT)
    return {version: retired_at == 0 for version, retired_at in rows}


def lookups(house: House) -> dict[bytes, list[int]]:
    """The versions that each subject is indexed under."""
    found: dict[bytes, list[int]] = {}
    for subject, version in house.sql("SELECT subject, key_version FROM subject_lookup ORDER BY key_version"):
        found.setdefault(subject, []).append(version)
    return found


def email(house: House, number: str) -> str:
    """The customer's e-mail address; the reason of a denial or error where there is none."""
    try:
        answer = house.read(FRAUD, number, FRAUD, ["email"])
    except DatavaultError as error:
        return error.reason.value
    return str(answer.value("email")) if "email" in answer.attributes else answer.denied["email"].reason.value
