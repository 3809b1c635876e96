"""Rotation in a running service on a real KMS: with traffic on it, killed, stopped and left alone."""

import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cli import run
from tests.support.faults import add_customer, eventually, read, start_service, together
from tests.support.faults_load import Traffic
from tests.support.rotation import OPERATOR, rotation_policies, rotation_server
from tests.support.service import ORIGIN, RunningService, opened
from vault.audit.checkpoint import vkey
from vault.audit.verify import verify
from vault.client import DatavaultClientError, ErrorReason, Phase, RewrapProgress, Unavailable
from vault.crypto.dev_server import DevTransit
from vault.crypto.names import LOG

__all__ = ["rotation_server"]

LONGEST_DEADLINE_SECONDS = 3.0
"""Calls here take milliseconds; a rewrap waits as long before it retires anything."""


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, rotation_server: DevTransit
) -> Iterator[RunningService]:
    """One service for all tests here: each must leave it serving."""
    folder = tmp_path_factory.mktemp("rotation")
    environment = {
        "DATAVAULT_TEST_LIMITS": json.dumps({"longest_deadline_seconds": LONGEST_DEADLINE_SECONDS}),
        "DATAVAULT_DEK_CACHE_SECONDS": "1",
    }
    policies = rotation_policies(folder / "with-operator")
    with start_service(
        folder, policies=policies, transit=rotation_server, environment=environment
    ) as running:
        yield running


def rewrap(service: RunningService, word: str, **wish: Any) -> RewrapProgress:
    *_, done = service.client(OPERATOR).rewrap_keys(word, **wish)
    return done


def stages(service: RunningService) -> list[str]:
    return [record["detail"]["stage"] for record in service.records() if record["action"] == "keys.rewrap"]


def test_reads_and_writes_go_on_through_rotation_retirement_and_rekey(service: RunningService) -> None:
    """Two rewraps at once, of two classes each in use, and customers rekeyed under their own writes: no call
    fails, no acknowledged write is lost, and at the end the old versions are retired."""
    operator = service.client(OPERATOR)
    for _ in range(40):
        add_customer(service)
    traffic = Traffic(service, readers=2, writers=2)
    with traffic.running():
        traffic.wait_for(40)
        for word in ("contact", "financial"):
            operator.rotate_key(word)
        ended: list[RewrapProgress] = []

        def rekey_until_ended() -> int:
            count = 0
            while len(ended) < 2 or not count:
                for writing in traffic.writings:
                    count += operator.rekey_subject(writing.number).values
            return count

        _, _, rekeyed = together(
            lambda: ended.append(rewrap(service, "contact")),
            lambda: ended.append(rewrap(service, "financial")),
            rekey_until_ended,
        )
        traffic.wait_for(traffic.acknowledged + 40)
    assert traffic.failures == []
    assert [(done.stragglers, done.failed) for done in ended] == [(0, 0)] * 2
    assert rekeyed > 0
    states = {key.name: key for key in operator.key_status().keys}
    for name in ("datavault-contact", "datavault-financial"):
        newest = states[name].latest_version
        assert states[name].min_decryption_version == newest
        assert set(states[name].versions) == {newest}
        assert states[name].problem == ""
    for writing in traffic.writings:
        last = writing.acknowledged
        found = read(service, writing.number, "email", "income")
        assert found.value("income") == last
        assert found.value("email") == f"{last}@mail.example"
        assert found["income"].version == last
    report = service.verify()
    assert report.ok, report.problems


def test_reads_and_writes_go_on_while_customers_are_indexed_anew_and_the_log_changes_its_key(
    service: RunningService,
) -> None:
    """A rotation of the lookup key, of the log's key and of the keys of tenants: no call fails, customers
    that come meanwhile are found by the new key, and who knows the old verifier key follows the log."""
    operator = service.client(OPERATOR)
    old_key = vkey(ORIGIN, service.key_provider().public_key(LOG).raw)
    traffic = Traffic(service, readers=2, writers=2)
    come: list[str] = []
    with traffic.running():
        traffic.wait_for(20)
        for progress in operator.rotate_lookup_key():
            last = progress
            come.append(add_customer(service))
        announced = operator.rotate_key("log").verifier_key
        for word in ("lookup", "pseudonym", "receipt"):
            operator.rotate_key(word)
        rewrapped = rewrap(service, "lookup")
        traffic.wait_for(traffic.acknowledged + 20)
    assert traffic.failures == []
    assert (last.phase, last.failed) == (Phase.DONE, 0)
    assert (rewrapped.phase, rewrapped.stragglers) == (Phase.DONE, 0)
    assert {version for (version,) in service.sql("SELECT key_version FROM subject_lookup")} == {last.version}
    for writing in traffic.writings:
        assert read(service, writing.number, "income").value("income") == writing.acknowledged
    for number in come:
        assert read(service, number).value("email") == f"{number}@mail.example"
    assert announced not in ("", old_key)
    with opened(service.place) as store, store.read() as connection:
        report = verify(connection, 1, old_key)
    assert report.ok, report.problems


def begin_slowly(service: RunningService) -> Any:
    """A rewrap at one key a second, that has rewrapped one and has others to go."""
    for _ in range(3):
        add_customer(service)
    operator = service.client(OPERATOR)
    operator.rotate_key("contact")
    progress = operator.rewrap_keys("contact", keys_per_second=1)
    while next(progress).rewrapped == 0:
        pass
    return progress


def test_whoever_goes_away_breaks_the_job_off(service: RunningService) -> None:
    """Nobody watches it any more: it stops between two steps, on record, and what it did stays done."""
    begin_slowly(service).close()
    eventually(lambda: stages(service)[-1] == "broken-off", "the end is on record")
    assert rewrap(service, "contact", keep_old_versions=True).stragglers == 0


def test_a_service_that_is_killed_in_the_middle_goes_on_afterwards(service: RunningService) -> None:
    """Nothing is lost: what was rewrapped stays so, the rest opens as before, the next run ends it."""
    number = add_customer(service)
    under_way = begin_slowly(service)
    service.kill()
    with pytest.raises(DatavaultClientError):
        list(under_way)
    service.launch()
    assert stages(service)[-1] == "begun"
    assert read(service, number).value("email") == f"{number}@mail.example"
    done = rewrap(service, "contact", keep_old_versions=True)
    assert (done.phase, done.stragglers, done.failed) == (Phase.DONE, 0, 0)
    assert read(service, number).value("email") == f"{number}@mail.example"


def test_a_service_that_stops_breaks_the_job_off_at_once(service: RunningService) -> None:
    """Its caller is told to go on elsewhere, and the end is on record."""
    progress = begin_slowly(service)
    told: list[Unavailable] = []

    def draw() -> None:
        try:
            list(progress)
        except Unavailable as error:
            told.append(error)

    watcher = threading.Thread(target=draw)
    watcher.start()
    service.signal(signal.SIGTERM)
    watcher.join(60)
    service.wait_stopped()
    assert [error.reason for error in told] == [ErrorReason.SHUTTING_DOWN]
    service.launch()
    assert stages(service)[-1] == "broken-off"
    assert rewrap(service, "contact", keep_old_versions=True).stragglers == 0


def test_the_command_line_does_all_of_it(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator with a certificate: rotate, rewrap, look, rekey a customer, plan a new lookup key."""
    number = add_customer(service)
    certificate, key = service.certificate(OPERATOR)
    monkeypatch.setenv("DATAVAULT_ADDR", service.target)
    monkeypatch.setenv("DATAVAULT_CACERT", str(service.ca_certificate))
    monkeypatch.setenv("DATAVAULT_CLIENT_CERT", str(certificate))
    monkeypatch.setenv("DATAVAULT_CLIENT_KEY", str(key))

    def datavault(*words: str) -> Any:
        result = run(*words, "--output", "json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    version = datavault("keys", "rotate", "contact")["version"]
    (looked,) = datavault("keys", "rewrap", "contact", "--dry-run")["keys"]
    assert looked["stragglers"] == looked["total"] > 0
    (done,) = datavault("keys", "rewrap", "contact", "--keep-old-versions")["keys"]
    assert (done["stragglers"], done["rewrapped"]) == (0, looked["total"])
    assert datavault("subject", "rekey", number)["values"] == 2
    states = {each["name"]: each for each in datavault("keys", "status")["keys"]}
    assert states["datavault-contact"]["latest_version"] == version
    assert states["datavault-contact"]["versions"] == {str(version): looked["total"]}
    planned = datavault("keys", "rotate-lookup", "--dry-run")
    assert (planned["indexed"], planned["total"]) == (0, len(service.sql("SELECT subject FROM subject")))
    assert read(service, number).value("email") == f"{number}@mail.example"
