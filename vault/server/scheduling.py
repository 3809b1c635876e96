"""How the threads of a process that serves share the processors (docs/adr/0028).

In a call the event loop wakes threads of gRPC several times, and they wake it and the worker. Linux likes
to run who was woken at once, in place of who runs, so the event loop lost its processor up to 2.6 times a
read to threads that could have waited. Threads under SCHED_BATCH (sched(7)) run in their turn, interrupt
nobody, and find more to do when they run. All are under it but the event loop.

It is a matter of speed alone: nothing happens where the system has no such policy or does not allow it.
"""

import contextlib
import os
import sys


def take_turns() -> bool:
    """Put this thread, and those that it makes from now on, under SCHED_BATCH, unless an operator gave it a
    policy; returns whether it was done."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
                return True
    return False


def come_first() -> None:
    """Give this thread the usual policy back that `take_turns` took from it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
