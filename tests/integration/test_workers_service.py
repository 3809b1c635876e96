"""`datavault serve --workers 2`, the real program: two processes on one port and one SQLite file."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import wire
from tests.support.faults import (
    FRAUD,
    add_customer,
    command,
    eventually,
    health,
    read,
    refused_start,
    serving,
    start_service,
    unstarted,
)
from tests.support.faults_policies import FILES, write_policies
from tests.support.service import Options, RunningService
from vault.workers.crew import LOOP_DEATHS
from vault.workers.roster import Roster, WorkerRow, read_roster

_LOCAL = (("grpc.use_local_subchannel_pool", 1),)
"""A connection of its own: the system gives each new one to any worker."""


def changed_policies(text: str) -> dict[str, str]:
    return {"purposes.yaml": FILES["purposes.yaml"].replace("Keep fraud away.", text)}


def roster(service: RunningService) -> Roster:
    found = read_roster(service.home)
    assert found is not None
    return found


def workers(service: RunningService) -> dict[int, WorkerRow]:
    return {row.number: row for row in roster(service).workers}


def bundles(service: RunningService) -> set[str]:
    """The hashes that the workers say they serve."""
    return {row.bundle for row in roster(service).workers}


def process_of(service: RunningService, number: int) -> int:
    return workers(service)[number].pid


def replaced(service: RunningService, number: int, pid: int) -> bool:
    """Whether another process serves in the place of `pid`."""
    row = workers(service)[number]
    return row.state == "serving" and row.problem == "" and row.pid not in (0, pid)


def kill_worker(service: RunningService, number: int) -> None:
    """kill -9, and wait until another process serves in its place."""
    pid = process_of(service, number)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: replaced(service, number, pid), f"worker {number} is replaced")


def logged(service: RunningService, event: str) -> int:
    """How many lines of this event the supervisor and the workers wrote."""
    return sum(f'"event": "{event}"' in line for line in service.log_lines())


def reload(service: RunningService, event: str) -> None:
    """SIGHUP, and wait for the line that says how it went."""
    before = logged(service, event)
    service.signal(signal.SIGHUP)
    service.wait_until(lambda: logged(service, event) > before, f"say {event}")


def read_anew(service: RunningService, number: str) -> Any:
    """A read over a new connection."""
    stub = wire.data_stub(service.channel(FRAUD, _LOCAL))
    return stub.ReadAttributes(wire.read_request(number, FRAUD, ["email"]), timeout=20)


def page(service: RunningService) -> str:
    with urllib.request.urlopen(f"http://{service.addresses['metrics']}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policies(tmp_path_factory.mktemp("policies") / "policies")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, policies: Path) -> Iterator[RunningService]:
    """One service for all tests that leave it serving with two workers."""
    with start_service(
        tmp_path_factory.mktemp("workers"),
        policies=policies,
        workers=2,
        environment={"DATAVAULT_METRICS": "127.0.0.1:0"},
    ) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningService]:
    """A service for a test that ends it."""
    service = start_service(tmp_path, workers=2)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.kill()


# --- serving ----------------------------------------------------------------------------------------------


def test_both_workers_answer_on_one_port(service: RunningService) -> None:
    """New connections go to either, and the one page of metrics tells them apart."""
    number = add_customer(service)

    def both() -> bool:
        assert read_anew(service, number).attributes
        reads = [line for line in page(service).splitlines() if line.startswith("datavault_reads_total{")]
        return all(any(f'worker="{one}"' in line for line in reads) for one in (1, 2))

    eventually(both, "both workers have answered a read")


def test_one_page_of_metrics_counts_the_workers(service: RunningService) -> None:
    """What a probe for too few workers needs stands beside the metrics of each."""
    lines = page(service).splitlines()
    assert "datavault_workers 2.0" in lines
    assert {'datavault_serving{worker="1"} 1.0', 'datavault_serving{worker="2"} 1.0'} <= set(lines)


def test_the_health_port_answers_for_every_service(service: RunningService) -> None:
    """As with one process: the whole, and each gRPC service by name."""
    assert serving(service)
    assert health(service, "vault.v1.DataService") == health(service) == health(service, "alive")


def test_a_second_server_on_the_home_is_refused(service: RunningService) -> None:
    """With workers of its own or without; what `doctor` reads of the first stays."""
    home = {"DATAVAULT_HOME": str(service.home)}
    several = unstarted(service.folder / "second", service.options.policies, workers=2)
    refused = command_on(several, home)
    assert (refused.returncode, "another server with workers runs on" in refused.stderr) == (2, True)
    one = unstarted(service.folder / "another", service.options.policies)
    refused = command_on(one, home)
    assert (refused.returncode, "another datavault server uses" in refused.stderr) == (2, True)
    assert {row.state for row in workers(service).values()} == {"serving"}


@pytest.mark.parametrize("count", [1, 2])
def test_a_server_does_not_share_the_port_of_another(service: RunningService, count: int) -> None:
    """Ports are shared among the servers of one service, never with another one of the same user."""
    other = unstarted(service.folder / f"third-{count}", service.options.policies, workers=count)
    refused = command_on(other, {"DATAVAULT_LISTEN": service.addresses["main"]})
    assert (refused.returncode, "cannot listen on" in refused.stderr) == (2, True)


def test_a_ready_file_that_could_not_be_written_is_told_at_once(tmp_path: Path) -> None:
    """Before anything is started."""
    home = RunningService(tmp_path, Options())
    refused = command(
        home, "serve", "--workers", "2", "--ready-file", str(tmp_path / "missing" / "ready.json")
    )
    assert (refused.returncode, f"there is no folder {tmp_path / 'missing'}" in refused.stderr) == (2, True)
    assert not home.home.exists()


def command_on(home: RunningService, changed: dict[str, str]) -> Any:
    """`datavault serve` with some variables changed."""
    home.options = replace(home.options, environment=changed)
    return refused_start(home)


# --- a worker dies ----------------------------------------------------------------------------------------


@dataclass
class Writers:
    """Threads that write one address after another; `acknowledged` are customers with their last one."""

    service: RunningService
    acknowledged: dict[str, str] = field(default_factory=dict)
    failed: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def at_work(self, count: int) -> Iterator["Writers"]:
        self.service.certificate("importer")  # the threads would issue it several times
        threads = [threading.Thread(target=self._write, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)

    def wait_for_more(self) -> None:
        """Until something more is acknowledged."""
        before = len(self.acknowledged)
        eventually(lambda: len(self.acknowledged) > before, "writes go on")

    def _write(self) -> None:
        while not self._over.is_set():
            number = self.service.customer()
            email = f"{number}@mail.example"
            stub = wire.data_stub(self.service.channel("importer", _LOCAL))
            try:
                stub.WriteAttributes(wire.write_request(number, {"email": email}), timeout=20)
            except Exception:
                with self._guard:
                    self.failed += 1
                continue
            with self._guard:
                self.acknowledged[number] = email


def test_a_killed_worker_is_replaced_and_loses_no_acknowledged_write(service: RunningService) -> None:
    """kill -9 under load: the other goes on, another process takes its place, every write that was
    acknowledged can be read, and the log verifies."""
    with Writers(service).at_work(3) as writers:
        for number in (1, 2):
            kill_worker(service, number)
            writers.wait_for_more()
    for customer, email in writers.acknowledged.items():
        assert read(service, customer).value("email") == email
    assert service.verify().ok
    assert serving(service)


def test_a_replacement_serves_the_bundle_in_force_whatever_the_folder_holds(
    service: RunningService, policies: Path
) -> None:
    """Other policies that nobody has loaded yet, even wrong ones, do not come in by the back door."""
    before = bundles(service)
    write_policies(policies, {"policy.csv": "nonsense"})
    kill_worker(service, 2)
    write_policies(policies)
    assert len(before) == 1
    assert bundles(service) == before


def test_a_worker_that_is_told_to_end_drains_and_is_replaced(service: RunningService) -> None:
    """SIGTERM to one worker: a rolling restart without a young death."""
    pid = process_of(service, 1)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: replaced(service, 1, pid), "worker 1 is replaced")
    assert gone(pid)
    assert serving(service)


# --- policies ---------------------------------------------------------------------------------------------


def doctor(service: RunningService) -> list[dict[str, str]]:
    """What `datavault doctor` says of the workers."""
    found = json.loads(command(service, "doctor", "--output", "json").stdout)
    return [each for each in found if each["check"] == "workers"]


def test_good_policies_come_into_force_in_all(service: RunningService, policies: Path) -> None:
    """After one line that says so, every worker serves the new bundle, and doctor shows its hash for each."""
    before = roster(service).bundle
    write_policies(policies, changed_policies("Keep all fraud away."))
    reload(service, "policy_loaded")
    after = roster(service).bundle
    assert (bundles(service), after != before) == ({after}, True)
    supervisor, *each = doctor(service)
    assert f"supervisor {service.process.pid}" in supervisor["detail"]
    for number, finding in enumerate(each, start=1):
        assert f"worker {number}: process {process_of(service, number)}, serving" in finding["detail"]
        assert (after in finding["detail"], finding["health"]) == (True, "good")


def test_bad_policies_come_into_force_in_none(service: RunningService, policies: Path) -> None:
    """One line says what is wrong; all go on with the last good bundle."""
    before = bundles(service)
    write_policies(policies, {"policy.csv": "nonsense"})
    reload(service, "policy_refused")
    write_policies(policies)
    assert bundles(service) == before == {roster(service).bundle}


def test_a_worker_that_cannot_prepare_holds_back_all(service: RunningService, policies: Path) -> None:
    """The bundle that the first one kept is damaged for the second: none switches, and the log says who."""
    service.sql(
        "CREATE TRIGGER spoil AFTER INSERT ON bundle "
        "BEGIN UPDATE bundle SET files = X'7b7d' WHERE hash = new.hash; END"
    )
    before = bundles(service)
    write_policies(policies, changed_policies("Keep other fraud away."))
    reload(service, "policy_not_loaded")
    service.sql("DROP TRIGGER spoil")
    write_policies(policies)
    assert bundles(service) == before
    assert '"worker": 2' in next(line for line in service.log_lines() if "policy_not_loaded" in line)


# --- ending -----------------------------------------------------------------------------------------------


def test_a_killed_supervisor_takes_its_workers_along_and_sigterm_drains_them(own: RunningService) -> None:
    """kill -9 of the supervisor is kill -9 of the service, whose home is free at once; SIGTERM ends it in
    order with code 0. No process is left either way, and nobody says that workers still run."""
    pids = [row.pid for row in roster(own).workers]
    own.kill()
    eventually(lambda: all(gone(pid) for pid in pids), "the workers are gone")
    assert read_roster(own.home) is None
    own.launch()
    pids = [row.pid for row in roster(own).workers]
    own.stop()
    assert all(gone(pid) for pid in pids)
    assert not (own.home / "workers.json").exists()


def test_a_crash_loop_ends_the_service(own: RunningService) -> None:
    """A worker that dies again and again right after its start: one message, and exit code 6."""
    killed: set[int] = set()

    def kill_the_next() -> bool:
        found = read_roster(own.home)
        row = found.workers[1] if found else None
        if row is not None and row.pid and row.pid not in killed:
            killed.add(row.pid)
            os.kill(row.pid, signal.SIGKILL)
        return own.process.poll() is not None

    eventually(kill_the_next, "the service ends")
    assert (own.process.returncode, len(killed)) == (6, LOOP_DEATHS)
    (message,) = [line for line in own.log_lines() if "error:" in line]
    assert "workers went on ending" in message


def test_wrong_policies_are_told_as_by_one_process(tmp_path: Path) -> None:
    """The first worker's refusal is the service's: same message, said once, and same exit code."""
    policies = write_policies(tmp_path / "policies", {"policy.csv": "nonsense"})
    alone = refused_start(unstarted(tmp_path / "alone", policies))
    several = refused_start(unstarted(tmp_path / "several", policies, workers=2))
    assert several.returncode == alone.returncode == 3
    assert [line for line in several.stderr.splitlines() if "error:" in line] == alone.stderr.splitlines()[:1]


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(("--workers", "0"), {}), (("--workers", "many"), {}), ((), {"DATAVAULT_WORKERS": "0"})],
)
def test_a_wrong_number_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    """By the command line and by the environment: exit code 2, and nothing is made."""
    home = RunningService(tmp_path, Options(environment=environment))
    refused = command(home, "serve", *arguments)
    assert (refused.returncode, "orkers" in refused.stderr.lower()) == (2, True)
    assert not home.home.exists()
