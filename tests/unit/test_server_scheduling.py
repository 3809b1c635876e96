"""Which threads run first."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from vault.server import scheduling
from vault.server.scheduling import put_event_loop_first

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SCHED_BATCH is Linux's")


@pytest.fixture
def another() -> Iterator[int]:
    """The id of a thread beside this one; afterwards all threads are as they were."""
    before, over = scheduling._others(threading.get_native_id()), threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert thread.native_id is not None
    yield thread.native_id
    over.set()
    thread.join()
    for each in before:
        with contextlib.suppress(ProcessLookupError):  # gRPC's come and go
            os.sched_setscheduler(each, os.SCHED_OTHER, os.sched_param(0))


def test_other_threads_do_not_interrupt_the_one_that_calls_it(another: int) -> None:
    put_event_loop_first()
    assert os.sched_getscheduler(another) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_thread_with_a_policy_of_its_own_keeps_it(another: int) -> None:
    os.sched_setscheduler(another, os.SCHED_IDLE, os.sched_param(0))
    put_event_loop_first()
    assert os.sched_getscheduler(another) == os.SCHED_IDLE


def test_a_system_that_does_not_allow_it_is_left_as_it_is(
    another: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a filter of system calls."""

    def refuse(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "sched_setscheduler", refuse)
        put_event_loop_first()
    assert os.sched_getscheduler(another) == os.SCHED_OTHER
