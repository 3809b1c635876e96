"""The fair slot."""

import threading
from collections.abc import Callable

from vault.store.slot import FairSlot

PATIENCE = 30.0


def until(holds: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere; its arrival cannot be signalled from outside the slot."""
    pause = threading.Event()
    for _ in range(30_000):
        if holds():
            return
        pause.wait(0.001)
    raise AssertionError("the other thread did not get there")


def test_waiters_get_the_slot_in_the_order_they_came() -> None:
    """First come, first served, however many wait."""
    slot, order = FairSlot(), []

    def wait(number: int) -> None:
        assert slot.acquire(PATIENCE)
        order.append(number)
        slot.release()

    assert slot.acquire(0)
    threads = []
    for number in range(8):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        until(lambda expected=number + 1: slot.waiting() == expected)  # type: ignore[misc]
    slot.release()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == list(range(8))


def test_a_newcomer_does_not_overtake() -> None:
    """Who releases and asks again stands behind those who wait."""
    slot, order = FairSlot(), []

    def wait() -> None:
        assert slot.acquire(PATIENCE)
        order.append("waiter")
        slot.release()

    assert slot.acquire(0)
    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: slot.waiting() == 1)
    slot.release()
    assert slot.acquire(PATIENCE)
    order.append("newcomer")
    slot.release()
    thread.join(PATIENCE)
    assert order == ["waiter", "newcomer"]


def test_waiting_ends_in_time() -> None:
    """A taken slot is not had within the time given, and the line is left."""
    slot = FairSlot()
    assert slot.acquire(0)
    assert not slot.acquire(0.01)
    assert slot.waiting() == 0
    slot.release()
    assert slot.acquire(0)


def test_one_at_a_time() -> None:
    """Two threads are never inside together."""
    slot, inside, most = FairSlot(), [], []

    def work(number: int) -> None:
        for _ in range(200):
            assert slot.acquire(PATIENCE)
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)
            slot.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert max(most) == 1
