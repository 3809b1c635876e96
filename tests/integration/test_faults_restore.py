"""The database is an older one than the outside store knows; the outside store cannot be written."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.backup import back_up, put_back
from tests.support.faults import (
    FRAUD,
    add_customer,
    command,
    eventually,
    moved_away,
    read,
    refused_start,
    serving,
    start_service,
)
from tests.support.service import ORIGIN, RunningService, opened
from vault.audit.checkpoint import vkey
from vault.audit.outside import OutsideStore, entry_number
from vault.audit.verify import verify
from vault.client import DenialReason
from vault.config import load_settings
from vault.crypto.names import LOG
from vault.outside import open_outside

OFFERS = "personalised-offers"
ADOPT = "datavault audit adopt-restore"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with start_service(tmp_path) as running:
        yield running


@pytest.fixture
def any_service(tmp_path: Path, every_store: str, every_outside: dict[str, str]) -> Iterator[RunningService]:
    """On each store, with each kind of outside store in turn."""
    with start_service(tmp_path, environment=every_outside) as running:
        yield running


def consenting_customer(service: RunningService) -> str:
    number = add_customer(service)
    service.client("customer-portal").record_consent(
        number,
        purpose=OFFERS,
        state="given",
        channel="app",
        notice="offers",
        notice_version=2,
        language="en",
        jurisdiction="EU",
    )
    return number


def offered(service: RunningService, number: str) -> Any:
    """What the engine gets of a customer's email address: its value, or the reason why not."""
    answer = service.client("personalization-engine").read_attributes(
        number, purpose=OFFERS, attributes=["email"]
    )
    return answer.value("email") or answer.denied["email"].reason


def store_of(service: RunningService) -> OutsideStore:
    """The outside store as the service's own settings name it."""
    with patch.dict(os.environ, service.environment(), clear=True):
        return open_outside(load_settings())


def outside(service: RunningService, origin: str, kind: str) -> list[str]:
    return store_of(service).entries(f"{origin}/{kind}")


def all_outside(service: RunningService) -> bool:
    """Whether every record is under a checkpoint outside, and every event there."""
    sizes = [entry_number(path) for path in outside(service, ORIGIN, "checkpoints")]
    waiting = service.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL")
    return waiting == [(0,)] and bool(sizes) and max(sizes) == len(service.records())


def problems(service: RunningService, log: int, origin: str) -> list[str]:
    key = vkey(origin, service.key_provider().public_key(LOG).raw)
    with opened(service.place) as database, database.read() as connection:
        report = verify(connection, log, key)
    assert report.size > 0
    return [str(problem) for problem in report.problems]


def test_a_deleted_database_is_not_begun_anew(service: RunningService) -> None:
    """Without its database the service does not start on an empty one while the outside store knows more."""
    number = consenting_customer(service)
    service.client("customer-portal").withdraw_consent(number, purpose=OFFERS, channel="app")
    eventually(lambda: all_outside(service), "everything is outside")
    service.stop()
    service.database_path.unlink()
    for _ in range(2):
        refused = refused_start(service)
        assert refused.returncode == 2
        assert ADOPT in refused.stderr


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """A file stands where the folder was: nobody can write there, root neither."""
    with moved_away(folder):
        folder.touch()
        yield
        folder.unlink()


def test_an_outside_store_that_cannot_be_written_delays_only_itself(service: RunningService) -> None:
    """Reads, withdrawals and checkpoints go on, what is to be outside waits and the lag grows; when the store
    is back everything gets there."""
    number = consenting_customer(service)
    eventually(lambda: all_outside(service), "everything is outside")
    with unwritable(service.home / "outside"):
        service.client("customer-portal").withdraw_consent(number, purpose=OFFERS, channel="app")
        assert read(service, number).value("email") == f"{number}@mail.example"
        assert offered(service, number) is DenialReason.CONSENT_WITHDRAWN
        eventually(
            lambda: service.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL") >= [(2,)],
            "event and checkpoint wait",
        )
        eventually(
            lambda: any("audit_integration_delayed" in line for line in service.log_lines()), "it is told"
        )
        assert serving(service)
    eventually(lambda: all_outside(service), "everything is outside")
    assert len(outside(service, ORIGIN, "events")) == 1
    assert service.verify().problems == []


# --- on every store: last, for a module's store stays chosen until its end ---------------------------------


def test_a_restored_database_is_adopted_and_what_was_withdrawn_binds(
    any_service: RunningService, tmp_path: Path
) -> None:
    """The start is refused with the command; after it every withdrawal, objection and restriction recorded
    after the backup binds at the first read, the new log begins with what was lost, and both logs verify."""
    service = any_service
    withdrawn, objected, restricted, kept = (consenting_customer(service) for _ in range(4))
    backup = tmp_path / "backup.db"
    back_up(service.place, backup)
    portal, office = service.client("customer-portal"), service.client("privacy-office")
    portal.withdraw_consent(withdrawn, purpose=OFFERS, channel="app")
    office.object_to_purpose(objected, purpose=FRAUD, channel="letter")
    office.restrict_subject(restricted)
    eventually(lambda: all_outside(service), "everything is outside")
    lost_size = len(service.records())
    service.stop()
    put_back(service.place, backup)

    refused = refused_start(service)
    assert refused.returncode == 2
    assert ADOPT in refused.stderr
    adopted = command(service, "audit", "adopt-restore", "--yes")
    assert adopted.returncode == 0, adopted.stderr

    service.launch()
    assert offered(service, withdrawn) is DenialReason.CONSENT_WITHDRAWN
    assert read(service, objected).denied["email"].reason is DenialReason.OBJECTED
    assert offered(service, restricted) is DenialReason.NOT_AVAILABLE
    assert offered(service, kept) == f"{kept}@mail.example"
    ((first,),) = service.sql('SELECT entry FROM log_entry WHERE log = 2 AND "index" = 0')
    record = json.loads(first)
    assert record["action"] == "log.adopt-restore"
    assert (record["detail"]["lost_origin"], record["detail"]["lost_size"]) == (ORIGIN, lost_size)
    ((new_origin,),) = service.sql("SELECT origin FROM log WHERE log = 2")
    eventually(lambda: bool(outside(service, new_origin, "checkpoints")), "the new log is outside")
    assert problems(service, 1, ORIGIN) == []
    assert problems(service, 2, new_origin) == []
