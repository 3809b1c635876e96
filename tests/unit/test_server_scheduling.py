"""How threads share the processors. In threads of their own: the tests' own keep their policy."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable

import pytest

from vault.server.blocking import BlockingWorker
from vault.server.scheduling import come_first, take_turns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SCHED_BATCH is Linux's")


def in_a_thread(do: Callable[[], object]) -> None:
    """Have it done in a thread with the usual policy; raises what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            do()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in errors:
        raise error


def test_threads_that_are_made_later_run_in_their_turn_too() -> None:
    found: list[int] = []

    def do() -> None:
        assert take_turns()
        later = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
        later.start()
        later.join()
        assert os.sched_getscheduler(0) == os.SCHED_BATCH

    in_a_thread(do)
    assert found == [os.SCHED_BATCH]


def test_the_event_loop_comes_first_again() -> None:
    def do() -> None:
        take_turns()
        come_first()
        assert os.sched_getscheduler(0) == os.SCHED_OTHER

    in_a_thread(do)


@pytest.mark.parametrize("policy", ["SCHED_BATCH", "SCHED_IDLE"])
def test_a_policy_of_an_operator_is_kept(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is said to have been done."""

    def do() -> None:
        os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))
        with monkeypatch.context() as patched:
            patched.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("it was changed"))
            assert not take_turns()

    in_a_thread(do)


@pytest.mark.parametrize("refused", ["sched_setscheduler", "sched_getscheduler"])
def test_a_system_that_does_not_allow_it_is_left_as_it_is(
    refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a filter of system calls, or a C library that knows none of it."""

    def refuse(*_: object) -> None:
        raise PermissionError

    def do() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, refused, refuse)
            assert not take_turns()
            come_first()

    in_a_thread(do)


def test_threads_of_executors_run_in_their_turn_whoever_made_them() -> None:
    """The event loop makes them, which comes first by then."""
    in_a_thread(lambda: asyncio.run(_blocking_policy()))


async def _blocking_policy() -> None:
    worker = BlockingWorker("test")
    assert await worker.run(lambda: os.sched_getscheduler(0)) == os.SCHED_BATCH
    await worker.stop()
