"""The disclosure thread under faults: every accepted read ends, and what is slow stays on its side."""

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import pytest

from tests.support.pipelines import House, disclosed, open_house
from vault.crypto.keyring import Keyring
from vault.domain.errors import AuditUnavailableError, DatavaultError, ErrorReason
from vault.domain.limits import LIMITS
from vault.domain.types import KeyScope
from vault.reads import Attempt, MissingKeys, Read, Released
from vault.server import worker
from vault.server.lane import Lane, Waiting
from vault.server.worker import DisclosureWorker

COLD = 1_000
KMS_ITEMS = 200
"""Items in one call of the KMS (keys.md)."""
CLASSES = ("given-name", "email", "income")
"""One attribute of each of three key classes."""
WAIT_SECONDS = 30.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        for start in range(0, COLD, 200):
            opened.write_group([customer(opened, n) for n in range(start, start + 200)])
        yield opened


def customer(house: House, n: int) -> Any:
    values = {"given-name": f"Name{n}", "email": f"e{n}@b.example", "income": f"{n}.00"}
    return house.draft(f"c{n}", values)


def ask(house: House, n: int, attributes: Sequence[str] = ("email",)) -> Read:
    return house.ask("privacy-office", f"c{n}", "subject-rights", attributes)


def cold(house: House) -> Keyring:
    """A keyring without any key, in the place of the house's."""
    rooms = house.rooms
    made = Keyring(rooms.provider, rooms.clock, rooms.randomness)
    house.pipelines.disclosure._opener._keyring = made
    return made


def run(
    house: House, scene: Callable[[DisclosureWorker], Coroutine[Any, Any, None]], pipeline: Any = None
) -> None:
    """Play a scene with a fresh worker, whose keys are not cached."""
    keyring = cold(house)

    async def play() -> None:
        running = DisclosureWorker(pipeline or house.pipelines.disclosure, keyring, house.rooms.clock)
        running.start(asyncio.get_running_loop())
        try:
            await scene(running)
        finally:
            await running.stop()

    asyncio.run(play())


async def ended(futures: Sequence["asyncio.Future[Any]"]) -> list[Any]:
    """The outcomes; a read that is never answered is a failure of the test, not its end."""
    _, pending = await asyncio.wait(futures, timeout=WAIT_SECONDS)
    assert not pending, f"{len(pending)} of {len(futures)} reads were never answered"
    return [future.result() for future in futures]


async def ended_part(part: "asyncio.Future[list[Any]]") -> list[Any]:
    """The same of the reads of a part."""
    (outcomes,) = await ended([part])
    return list(outcomes)


def email(outcome: Any) -> Any:
    assert isinstance(outcome, Released), outcome
    return disclosed(outcome).value("email")


class Faulty:
    """The pipeline, of which one group ends in `error`. It is held until `open` is set."""

    def __init__(self, house: House, error: BaseException) -> None:
        self._house = house
        self._error: BaseException | None = error
        self.entered = threading.Event()
        self.open = threading.Event()

    def disclose(self, group: Sequence[Attempt]) -> list[Any]:
        self.entered.set()
        self.open.wait(WAIT_SECONDS)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._house.pipelines.disclosure.disclose(group)


def test_a_group_that_faults_is_answered_and_the_next_one_goes_on(house: House) -> None:
    """INTERNAL for its reads, without a word of the fault; the worker lives."""
    pipeline = Faulty(house, ZeroDivisionError("canary"))

    async def scene(running: DisclosureWorker) -> None:
        first = running.submit([ask(house, 0), ask(house, 1)])
        pipeline.open.set()
        for outcome in await ended(first):
            assert (outcome.reason, outcome.message) == (ErrorReason.INTERNAL, "internal error")
        assert email((await ended(running.submit([ask(house, 2)])))[0]) == "e2@b.example"
        assert not running.state.stopped

    run(house, scene, pipeline)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_thread_dies_every_read_that_waits_is_answered(house: House) -> None:
    """The group under way, what queued behind it, and bulk: AUDIT_UNAVAILABLE, as for what comes later."""
    pipeline = Faulty(house, SystemExit())

    async def scene(running: DisclosureWorker) -> None:
        waiting = running.submit([ask(house, 0)])
        await asyncio.to_thread(pipeline.entered.wait)
        waiting += running.submit([ask(house, 1)])
        bulk = await running.submit_part([ask(house, 2)])
        pipeline.open.set()
        assert [type(each) for each in await ended(waiting) + await ended_part(bulk)] == [
            AuditUnavailableError
        ] * 3
        assert running.state.stopped
        with pytest.raises(AuditUnavailableError):
            running.submit([ask(house, 3)])

    run(house, scene, pipeline)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_thread_dies_a_read_that_is_fetching_its_key_is_answered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no queue then, and waits all the same."""
    slow = SlowKms(house, monkeypatch, lambda _: True)
    pipeline = Faulty(house, SystemExit())
    pipeline.open.set()
    pipeline._error, deadly = None, pipeline._error

    async def scene(running: DisclosureWorker) -> None:
        waiting = running.submit([ask(house, 0)])
        await asyncio.to_thread(slow.entered.wait)
        pipeline._error = deadly
        waiting += running.submit([ask(house, 1)])
        try:
            assert [type(each) for each in await ended(waiting)] == [AuditUnavailableError] * 2
        finally:
            slow.open.set()

    run(house, scene, pipeline)


class SlowKms:
    """The key provider, which holds calls with an item that `slow` says so of until `open` is set.

    `sizes` are the numbers of items of the calls.
    """

    def __init__(
        self, house: House, monkeypatch: pytest.MonkeyPatch, slow: Callable[[int], bool] = lambda _: False
    ) -> None:
        provider = house.rooms.provider
        unwrap = type(provider).unwrap
        self.sizes: list[int] = []
        self.entered = threading.Event()
        self.open = threading.Event()

        def held(_: Any, key: str, items: Sequence[Any]) -> Any:
            self.sizes.append(len(items))
            if slow(len(items)):
                self.entered.set()
                self.open.wait(WAIT_SECONDS)
            return unwrap(provider, key, items)  # type: ignore[arg-type]

        monkeypatch.setattr(type(provider), "unwrap", held)

    @property
    def calls(self) -> int:
        return sum(math.ceil(size / KMS_ITEMS) for size in self.sizes)


def test_a_cold_chunk_asks_the_kms_in_few_calls(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 customers of three key classes: 3,000 keys, 15 calls of 200 where every call is full.

    How full they are depends on how fast the reads come in beside it, so the bound leaves room.
    """
    kms = SlowKms(house, monkeypatch)

    async def scene(running: DisclosureWorker) -> None:
        part = await running.submit_part([ask(house, n, CLASSES) for n in range(COLD)])
        assert [email(each) for each in await ended_part(part)] == [f"e{n}@b.example" for n in range(COLD)]

    run(house, scene)
    assert sum(kms.sizes) == 3 * COLD
    assert kms.calls <= 60


def test_a_slow_kms_for_a_bulk_holds_up_no_single_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the keys of a bulk are being opened, a read whose key is not cached either gets it."""
    kms = SlowKms(house, monkeypatch, lambda items: threading.current_thread().name != "unwrap-single_0")

    async def scene(running: DisclosureWorker) -> None:
        bulk = await running.submit_part([ask(house, n) for n in range(100)])
        await asyncio.to_thread(kms.entered.wait)
        try:
            assert email((await ended(running.submit([ask(house, 500)])))[0]) == "e500@b.example"
            assert not bulk.done()
        finally:
            kms.open.set()
        assert [email(each) for each in await ended_part(bulk)] == [f"e{n}@b.example" for n in range(100)]

    run(house, scene)


def test_a_batch_takes_no_more_room_than_its_reads_that_wait(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One customer whose key the KMS does not give does not hold the room of all others of its part."""
    kms = SlowKms(house, monkeypatch, lambda items: items == 1)

    async def scene(running: DisclosureWorker) -> None:
        warm = [ask(house, n) for n in range(50)]
        await ended_part(await running.submit_part(warm))
        part = await running.submit_part([*warm, ask(house, 500)])
        await asyncio.to_thread(kms.entered.wait)
        async with asyncio.timeout(WAIT_SECONDS):
            while running.state.queued > 1:  # noqa: ASYNC110  the answers come by the loop
                await asyncio.sleep(0)
        assert not part.done()
        part.cancel()
        await asyncio.sleep(0)
        assert running.state.queued == 0
        kms.open.set()

    run(house, scene)


def test_reads_come_back_to_the_lane_they_left_all_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their keys, those of a bulk are bulk again: they do not fill the groups of single reads."""
    kms = SlowKms(house, monkeypatch, lambda _: True)
    keyring, back, groups = cold(house), threading.Event(), list[list[Waiting]]()
    results = house.pipelines.disclosure.disclose([Attempt(ask(house, n)) for n in range(50)])

    async def play() -> None:
        def ready() -> None:
            groups.append(lane.take(1_000))
            back.set()

        lane = Lane("bulk", keyring, ready, threads=1)
        loop = asyncio.get_running_loop()
        left = [Waiting(Attempt(ask(house, n)), loop.create_future()) for n in range(50)]
        lacking = [(each, found) for each, found in zip(left, results, strict=True) if not_here(found)]
        lane.fetch(lacking[:1])
        await asyncio.to_thread(kms.entered.wait)
        lane.fetch(lacking[1:20])
        lane.fetch(lacking[20:])
        kms.open.set()
        while sum(map(len, groups)) < 50:
            assert await asyncio.to_thread(back.wait, WAIT_SECONDS)
            back.clear()
        assert groups == [left[:1], left[1:]]
        assert all(each.attempt.keys for each in left)
        lane.close()

    asyncio.run(play())


def not_here(found: Any) -> TypeGuard[MissingKeys]:
    return isinstance(found, MissingKeys)


def test_a_key_that_breaks_the_unwrapping_is_an_error_of_its_own(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault while many keys are opened is tried again one by one: the neighbours get theirs."""
    unwrap, broken = Keyring.unwrap, set[bytes]()

    def faulty(self: Keyring, requests: Sequence[tuple[KeyScope, Any]]) -> Any:
        if not broken:
            broken.add(requests[0][0].subject)
        if any(scope.subject in broken for scope, _ in requests):
            raise ZeroDivisionError("canary")
        return unwrap(self, requests)

    monkeypatch.setattr(Keyring, "unwrap", faulty)

    async def scene(running: DisclosureWorker) -> None:
        first, *others = [disclosed(each) for each in await ended(running.submit(asked))]
        assert first.denied["email"].reason == "key-unavailable"
        assert [each.value("email") for each in others] == [f"e{n}@b.example" for n in range(1, 5)]

    asked = [ask(house, n) for n in range(5)]
    run(house, scene)


def test_keys_that_came_count_as_a_move(house: House) -> None:
    """Who waited for one is queued again, and may be the last who is waited for (gathering.py)."""

    async def scene(running: DisclosureWorker) -> None:
        before = running._gathering._moves
        await asyncio.wait_for(running.ask(ask(house, 0)), WAIT_SECONDS)
        # it was taken, its keys came, it was done
        assert running._gathering._moves == before + 3

    run(house, scene)


def test_cancelled_reads_do_not_pile_up_behind_a_group_that_hangs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave the count at once, so they have to leave the queue too."""
    most = 20
    monkeypatch.setattr(worker, "LIMITS", replace(LIMITS, queued_reads=most))
    pipeline = Faulty(house, ZeroDivisionError())

    async def scene(running: DisclosureWorker) -> None:
        under_way = running.submit([ask(house, 0)])
        await asyncio.to_thread(pipeline.entered.wait)
        kept = running.submit([ask(house, 1)])
        for _ in range(20 * most):
            (future,) = running.submit([ask(house, 2)])
            future.cancel()
            await asyncio.sleep(0)
        assert len(running._single) <= 2 * most
        pipeline.open.set()
        await ended(under_way)
        assert email((await ended(kept))[0]) == "e1@b.example"

    run(house, scene, pipeline)


def test_cancelled_reads_do_not_pile_up_behind_a_kms_that_hangs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was cancelled while the keys of others are fetched is let go of with the next that lacks one."""
    kms = SlowKms(house, monkeypatch, lambda _: True)
    cold(house)
    (missing,) = house.pipelines.disclosure.disclose([Attempt(ask(house, 0))])
    assert isinstance(missing, MissingKeys)

    async def play() -> None:
        lane = Lane("bulk", house.pipelines.disclosure._opener._keyring, lambda: None, threads=1)
        loop = asyncio.get_running_loop()
        lane.fetch([(Waiting(Attempt(ask(house, 0)), loop.create_future()), missing)])
        await asyncio.to_thread(kms.entered.wait)
        for _ in range(50):
            waiting = Waiting(Attempt(ask(house, 0)), loop.create_future())
            lane.fetch([(waiting, missing)])
            waiting.future.cancel()
        assert len(lane._lacking) == 1
        kms.open.set()
        lane.close()

    asyncio.run(play())


def test_stopping_answers_what_a_dead_kms_holds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that still waits for its key when the drain time is over ends in SHUTTING_DOWN."""
    monkeypatch.setattr(worker, "LIMITS", replace(LIMITS, drain_seconds=0.01))
    kms = SlowKms(house, monkeypatch, lambda _: True)
    outcomes: list[DatavaultError | Released[Any]] = []

    async def scene(running: DisclosureWorker) -> None:
        (future,) = running.submit([ask(house, 0)])
        await asyncio.to_thread(kms.entered.wait)
        try:
            await running.stop()
            outcomes.append(await asyncio.wait_for(future, WAIT_SECONDS))
        finally:
            kms.open.set()

    run(house, scene)
    assert [each.reason for each in outcomes if isinstance(each, DatavaultError)] == [
        ErrorReason.SHUTTING_DOWN
    ]


def test_a_read_goes_for_keys_four_times_at_most(house: House) -> None:
    """Keys that change under it every time are an error, not an endless round."""

    asked: list[int] = []

    class Changing:
        def disclose(self, group: Sequence[Attempt]) -> list[Any]:
            asked.append(len(group))
            return [MissingKeys(()) for _ in group]

    async def scene(running: DisclosureWorker) -> None:
        (outcome,) = await ended(running.submit([ask(house, 0)]))
        assert outcome.reason is ErrorReason.KEYS_UNAVAILABLE

    run(house, scene, Changing())
    assert asked == [1, 1, 1, 1]
