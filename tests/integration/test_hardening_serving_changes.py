"""Changes that must not wait for others: withdrawals behind writes, everybody behind the purge."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Call, add_customer, eventually, start_service, write
from tests.support.faults_policies import write_policies
from tests.support.pipelines import House, open_house
from vault import housekeeping
from vault.audit.restore import Adoption, OutsideEvent
from vault.crypto.dev_server import DevTransit, start_dev_transit
from vault.domain.errors import IntegrityError
from vault.restoring import finish_restore
from vault.store.consents import SqlConsentRepository
from vault.store.quotas import QuotaRepository
from vault.store.requests import RequestRepository, StoredRequest
from vault.store.subjects import SubjectRepository

WRITES = 12
DAY = 86_400 * 1_000_000


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTransit]:
    """A real KMS of this module's own, which it may stop."""
    running = start_dev_transit(tmp_path_factory.mktemp("kms"))
    try:
        yield running
    finally:
        running.process.send_signal(signal.SIGCONT)
        running.stop()


def test_a_withdrawal_does_not_wait_for_writes_that_wait_for_the_kms(tmp_path: Path, kms: DevTransit) -> None:
    """The KMS hangs and writes of new customers pile up behind it: a withdrawal and a restriction, which need
    no key, are acknowledged while those writes still wait."""
    with start_service(tmp_path, transit=kms) as service:
        number = add_customer(service)
        kms.process.send_signal(signal.SIGSTOP)
        try:
            waiting = [
                Call(lambda each=each: write(service, each, "a@mail.example"))  # type: ignore[misc]
                for each in [service.customer() for _ in range(WRITES)]
            ]
            service.client("customer-portal").withdraw_consent(
                number, purpose="personalised-offers", channel="app", timeout=8
            )
            service.client("privacy-office").restrict_subject(number, timeout=8)
            assert not all(each.ended for each in waiting)
        finally:
            kms.process.send_signal(signal.SIGCONT)
        for each in waiting:
            with contextlib.suppress(Exception):
                each.result()


# --- housekeeping -----------------------------------------------------------------------------------------


def old_requests(house: House, count: int) -> None:
    """Requests and quota hours that are past keeping, and one request that is not."""
    now = house.rooms.clock.now()
    old = [StoredRequest(f"r-{n}", "record", b"f", b"{}", now - 8 * DAY) for n in range(count)]
    with house.rooms.database.write() as connection:
        RequestRepository().put_many(connection, "retail", "importer", old)
        RequestRepository().put(
            connection, "retail", "importer", StoredRequest("young", "record", b"f", b"{}", now)
        )
        for hour in range(count // 10):
            QuotaRepository().add(connection, "retail", "importer", "fraud-detection", hour, 1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path, policies=write_policies(tmp_path / "policies")) as opened:
        yield opened


async def run_on_a_thread(work: Any) -> Any:
    return await asyncio.to_thread(work)


def test_what_is_old_is_forgotten_in_slices(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction deletes more than a slice; in the end all that is old is gone, and nothing younger."""
    monkeypatch.setattr(housekeeping, "_MOST_ROWS", 40)
    old_requests(house, 300)
    deleted: list[int] = []
    total = house.sql("SELECT count(*) FROM request")[0][0]

    async def counting(work: Any) -> Any:
        nonlocal total
        done = await run_on_a_thread(work)
        left = house.sql("SELECT count(*) FROM request")[0][0]
        deleted.append(total - left)
        total = left
        return done

    asyncio.run(housekeeping.forget_old(counting, house.rooms.database, house.rooms.clock))
    assert house.sql("SELECT request_id FROM request") == [("young",)]
    assert house.sql("SELECT count(*) FROM quota_use") == [(0,)]
    assert max(deleted) <= 40
    assert sum(deleted) == 300


def test_a_change_comes_between_two_slices(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the write slot while a slice is deleted gets it before the next slice."""
    monkeypatch.setattr(housekeeping, "_MOST_ROWS", 40)
    old_requests(house, 300)
    left: list[int] = []
    change: list[threading.Thread] = []
    database = house.rooms.database
    purge = RequestRepository.purge

    def change_now() -> None:
        with database.write():
            left.append(house.sql("SELECT count(*) FROM request")[0][0])

    def purging(self: Any, *arguments: Any) -> int:
        if not change:
            change.append(threading.Thread(target=change_now))
            change[0].start()
            eventually(lambda: database._slot.waiting() == 1, "the change stands in line")
        return purge(self, *arguments)

    monkeypatch.setattr(RequestRepository, "purge", purging)
    asyncio.run(housekeeping.forget_old(run_on_a_thread, database, house.rooms.clock))
    change[0].join()
    assert left[0] > 1


# --- restoring --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [None, "", 7])
@pytest.mark.parametrize("kind", ["restriction", "consent"])
def test_an_outside_event_without_an_id_is_an_integrity_error(house: House, kind: str, event: Any) -> None:
    """A document in the outside store that names no event is not one of ours: nothing is applied."""
    house.write("c-1", {"email": "a@mail.example"})
    [(subject,)] = house.sql("SELECT subject FROM subject")
    document = {"kind": kind, "tenant": "retail", "subject": subject.hex(), "recorded_at": 1}
    if kind == "consent":
        document |= {
            "purpose": "personalised-offers",
            "state": "withdrawn",
            "jurisdiction": "EU",
            "channel": "app",
            "recorded_by": "customer-portal",
        }
    if event is not None:
        document["event"] = event
    lost = OutsideEvent("bank.example/lost", 3, document)
    adoption = Adoption(None, "bank.example/lost", 0, 0, (lost,))  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        finish_restore(
            [adoption],
            house.pipelines.recorder,
            SubjectRepository(),
            SqlConsentRepository(),
            house.caller("privacy-office"),
            house.pipelines.keyring,
            house.rooms.randomness,
        )
    assert house.sql("SELECT restricted_seq, last_seq FROM subject") == [(0, 0)]
