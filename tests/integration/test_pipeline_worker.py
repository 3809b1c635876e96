"""The disclosure worker between event loop and pipeline, and the edge around a call.

The pipeline is real; a gate before it holds a group under way until the test opens it.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.support.pipelines import House, disclosed, open_house
from vault.domain.errors import DatavaultError, OverloadedError, ShuttingDownError
from vault.domain.limits import LIMITS
from vault.reads import Attempt, Read, Released
from vault.server import edge, worker
from vault.server.blocking import BlockingWorker
from vault.server.gathering import Gathering
from vault.server.metrics import Meter
from vault.server.worker import DisclosureWorker


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        opened.write_group([opened.draft(f"c{n}", {"email": f"e{n}@b.example"}) for n in range(300)])
        yield opened


class Gate:
    """The pipeline behind a gate: `entered` is set when a group arrives, which then waits for `open`."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.entered = threading.Event()
        self.open = threading.Event()
        self.groups: list[int] = []

    def disclose(self, group: Sequence[Attempt]) -> list[Any]:
        self.groups.append(len(group))
        self.entered.set()
        self.open.wait()
        return self._house.pipelines.disclosure.disclose(group)

    async def arrived(self) -> None:
        await asyncio.to_thread(self.entered.wait)


def ask(house: House, number: int, request_id: str = "") -> Read:
    return house.ask("fraud-detection", f"c{number}", "fraud-detection", ["email"], request_id=request_id)


def run(house: House, scene: Callable[[DisclosureWorker, Gate], Coroutine[Any, Any, None]]) -> None:
    """Play a scene with a fresh worker behind a closed gate; the worker is stopped at the end."""
    gate = Gate(house)

    async def play() -> None:
        running = DisclosureWorker(gate, house.pipelines.keyring, house.rooms.clock)  # type: ignore[arg-type]
        running.start(asyncio.get_running_loop())
        try:
            await scene(running, gate)
        finally:
            gate.open.set()
            await running.stop()

    asyncio.run(play())


def email(outcome: Any) -> Any:
    assert isinstance(outcome, Released), outcome
    return disclosed(outcome).value("email")


def recorded(house: House, request_id: str) -> int:
    return sum(1 for each in house.records() if each.get("request") == request_id)


def test_what_queues_while_a_group_is_under_way_is_the_next_group(house: House) -> None:
    """Under load groups form by themselves, at most 256 each, and each caller gets its own answer."""

    async def scene(running: DisclosureWorker, gate: Gate) -> None:
        first = running.submit([ask(house, 0)])
        await gate.arrived()
        rest = [running.submit([ask(house, n)])[0] for n in range(1, 300)]
        gate.open.set()
        outcomes = await asyncio.gather(*first, *rest)
        assert [email(each) for each in outcomes] == [f"e{n}@b.example" for n in range(300)]
        assert gate.groups[:3] == [1, 256, 43]

    house.read_group([ask(house, n) for n in range(300)])
    run(house, scene)


class Told(threading.Event):
    """An event that tells when somebody waits for it, as long as it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_for.set()
        return super().wait(10)


async def eight_answered(house: House, running: DisclosureWorker, gate: Gate) -> Told:
    """Have a group of eight answered; tells when they are waited for."""
    told = Told()
    running._gathering = Gathering(told, house.rooms.clock)
    gate.open.set()
    await asyncio.gather(*running.submit([ask(house, n) for n in range(8)]))
    return told


def test_callers_who_were_just_answered_are_one_group_again(house: House) -> None:
    """The last of them too: the others are queued before it asks."""

    async def scene(running: DisclosureWorker, gate: Gate) -> None:
        told = await eight_answered(house, running, gate)
        seven = running.submit([ask(house, n) for n in range(7)])
        assert await asyncio.to_thread(told.waited_for.wait, 10)
        await asyncio.gather(*seven, *running.submit([ask(house, 7)]))
        assert told.is_set()
        assert gate.groups == [8, 8]

    house.read_group([ask(house, n) for n in range(8)])
    run(house, scene)


class Counted(Gathering):
    """Counts what moved."""

    def __init__(self, house: House) -> None:
        super().__init__(threading.Event(), house.rooms.clock)
        self.queued: list[int] = []

    def moved(self, queued: int) -> None:
        self.queued.append(queued)
        super().moved(queued)


def test_calls_that_are_taken_and_calls_that_are_done_count_as_moves(house: House) -> None:
    """Else nobody would be waited for while callers are being answered."""

    async def scene(running: DisclosureWorker, gate: Gate) -> None:
        counted = running._gathering = Counted(house)
        asked = [asyncio.ensure_future(running.ask(ask(house, n))) for n in range(8)]
        await gate.arrived()
        taken = len(counted.queued)
        gate.open.set()
        await asyncio.gather(*asked)
        assert (taken, len(counted.queued)) == (8, 16)

    house.read_group([ask(house, n) for n in range(8)])
    run(house, scene)


def test_reads_of_a_batch_end_the_wait_for_callers(house: House) -> None:
    """Who asks alone, after a group of eight, is taken with them."""

    async def scene(running: DisclosureWorker, gate: Gate) -> None:
        told = await eight_answered(house, running, gate)
        alone = running.submit([ask(house, 0)])
        assert await asyncio.to_thread(told.waited_for.wait, 10)
        part = await running.submit_part([ask(house, n) for n in range(3)])
        await asyncio.gather(*alone, part)
        assert told.is_set()
        assert gate.groups == [8, 1, 3]

    house.read_group([ask(house, n) for n in range(8)])
    run(house, scene)


def test_a_read_cancelled_before_its_group_is_dropped(house: House) -> None:
    """It is never taken: no record, no decryption; its neighbours are answered."""

    async def scene(running: DisclosureWorker, gate: Gate) -> None:
        first = running.submit([ask(house, 0)])
        await gate.arrived()
        cancelled, kept = running.submit([ask(house, 1, "cancelled-before"), ask(house, 2)])
        cancelled.cancel()
        gate.open.set()
        assert email(await kept) == "e2@b.example"
        await asyncio.gather(*first)

    run(house, scene)
    assert recorded(house, "cancelled-before") == 0


def test_a_read_cancelled_during_its_group_stays_on_record(house: House) -> None:
    """What was decided is recorded though nobody waits for the answer; its neighbours are answered."""

    async def scene(running: DisclosureWorker, gate: Gate) -> None:
        cancelled, kept = running.submit([ask(house, 1, "cancelled-during"), ask(house, 2)])
        await gate.arrived()
        cancelled.cancel()
        gate.open.set()
        assert email(await kept) == "e2@b.example"

    run(house, scene)
    assert recorded(house, "cancelled-during") == 1


def test_a_read_cancelled_after_its_group_is_just_answered(house: House) -> None:
    """Cancelling what is done changes nothing."""

    async def scene(running: DisclosureWorker, gate: Gate) -> None:
        gate.open.set()
        (done,) = running.submit([ask(house, 1, "cancelled-after")])
        await done
        assert not done.cancel()
        assert email(done.result()) == "e1@b.example"

    run(house, scene)
    assert recorded(house, "cancelled-after") == 1


def test_cancelled_reads_make_room_in_the_queue(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded: the read too many is refused at once, and there is room when one goes away."""
    monkeypatch.setattr(worker, "LIMITS", replace(LIMITS, queued_reads=3))

    async def scene(running: DisclosureWorker, gate: Gate) -> None:
        under_way = running.submit([ask(house, 0)])
        await gate.arrived()
        waiting = running.submit([ask(house, 1), ask(house, 2)])
        with pytest.raises(OverloadedError):
            running.submit([ask(house, 3)])
        waiting[0].cancel()
        await asyncio.sleep(0)
        again = running.submit([ask(house, 3)])
        gate.open.set()
        outcomes = await asyncio.gather(*under_way, waiting[1], *again)
        assert [email(each) for each in outcomes] == [f"e{n}@b.example" for n in (0, 2, 3)]

    run(house, scene)


def test_stopping_finishes_what_was_accepted_and_takes_no_more(house: House) -> None:
    """Reads that wait when the stop begins are answered; those that come later are refused."""

    async def scene(running: DisclosureWorker, gate: Gate) -> None:
        accepted = running.submit([ask(house, n) for n in range(20)])
        await gate.arrived()
        accepted += running.submit([ask(house, n) for n in range(20, 40)])
        stopping = asyncio.ensure_future(running.stop())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDownError):
            running.submit([ask(house, 40)])
        gate.open.set()
        await stopping
        assert [email(each) for each in await asyncio.gather(*accepted)] == [
            f"e{n}@b.example" for n in range(40)
        ]

    run(house, scene)


def test_a_cancelled_change_is_finished_all_the_same(house: House) -> None:
    """A change is committed with its record or not there: cancelling its caller leaves it to finish."""
    release = threading.Event()
    write = house.draft("cancelled-write", {"email": "w@b.example"})

    def work() -> Any:
        release.wait()
        return house.write_group([write])

    async def play() -> None:
        changes = BlockingWorker("changes")
        task = asyncio.ensure_future(changes.run(work))
        await asyncio.sleep(0)
        task.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await changes.stop()

    asyncio.run(play())
    (again,) = house.write_group([write])
    assert not isinstance(again, DatavaultError)
    assert again.replayed


# --- deadlines at the edge --------------------------------------------------------------------------------


class Context:
    """As much of a gRPC context as the edge looks at; `code` is what the call was aborted with."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self.code = ""

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [b"pem"]}

    def time_remaining(self) -> float | None:
        return self._seconds

    async def abort(self, code: Any, *_: Any) -> None:
        self.code = code.name


class Servicer:
    """One method, which counts its calls and takes its time."""

    def __init__(self, house: House) -> None:
        self.called = 0
        caller = house.caller("fraud-detection")
        proven = type("Certificates", (), {"caller": lambda _self, _pem: caller})()
        self.edge = edge.Edge(proven, proven, Meter())

    @edge.unary
    async def Never(self, request: None, caller: Any) -> None:
        self.called += 1
        await asyncio.Event().wait()


def call(house: House, seconds: float | None) -> tuple[str, int]:
    """Status of a call that never ends by itself, and how often the method was entered."""
    servicer, context = Servicer(house), Context(seconds)

    async def go() -> None:
        with pytest.raises(DatavaultError):
            await servicer.Never(None, context)  # type: ignore[arg-type]

    asyncio.run(go())
    return context.code, servicer.called


def test_a_call_without_a_deadline_gets_the_default_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends when that is over."""
    monkeypatch.setattr(edge, "LIMITS", replace(LIMITS, default_deadline_seconds=0.01))
    assert call(house, None) == ("DEADLINE_EXCEEDED", 1)


def test_a_call_with_a_very_long_deadline_gets_the_longest_allowed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody holds a place for an hour."""
    monkeypatch.setattr(edge, "LIMITS", replace(LIMITS, longest_deadline_seconds=0.01))
    assert call(house, 3_600) == ("DEADLINE_EXCEEDED", 1)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.001_9])
def test_a_call_that_cannot_finish_is_refused_before_it_begins(house: House, seconds: float) -> None:
    """A deadline that has passed, or leaves no time to answer: the method is not entered."""
    assert call(house, seconds) == ("DEADLINE_EXCEEDED", 0)
