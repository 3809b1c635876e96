"""What is past keeping is forgotten once an hour, in slices.

A slice is a transaction of about `group_milliseconds`, and the write slot goes to whoever waits for it before
the next one: an hour's worth of old rows holds up no change and no group of reads.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from vault.audit.outside import prune_outbox
from vault.domain.errors import DatavaultError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, Transactions
from vault.store.quotas import QuotaRepository
from vault.store.requests import RequestRepository

log = structlog.get_logger("datavault.housekeeping")

_PERIOD_SECONDS: Final = 3_600
_FIRST_ROWS: Final = 32
_FEWEST_ROWS: Final = 8
_MOST_ROWS: Final = 4_096
_QUOTA_HOURS: Final = 24

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs blocking work on a thread of its own (`BlockingWorker.run`)."""
Purge = Callable[[Connection, int], int]
"""Deletes at most so many rows; returns how many."""


async def keep_house(run: Run, transactions: Transactions, clock: Clock) -> None:
    """Forget what is old now and then once an hour, until cancelled."""
    while True:
        try:
            await forget_old(run, transactions, clock)
        except DatavaultError as error:
            log.warning("housekeeping_failed", reason=error.reason.value)
        await asyncio.sleep(_PERIOD_SECONDS)


async def forget_old(run: Run, transactions: Transactions, clock: Clock) -> None:
    """Forget old request ids, quota hours and delivered outbox entries.

    Raises:
        StoreUnavailableError, AuditUnavailableError, OverloadedError, ShuttingDownError: some of it is left
        for the next time.
    """
    for purge in _purges(clock.now()):
        rows = min(_FIRST_ROWS, _MOST_ROWS)
        while True:
            forgotten, seconds = await run(partial(_slice, transactions, clock, purge, rows))
            if forgotten < rows:
                break
            rows = _fitting(rows, seconds)


def _purges(now: int) -> list[Purge]:
    """`now` in microseconds since 1970 UTC."""
    requests, quotas = RequestRepository(), QuotaRepository()
    delivered_before = now - LIMITS.request_kept_days * 86_400 * 1_000_000
    oldest_hour = now // 3_600_000_000 - _QUOTA_HOURS
    return [
        lambda connection, most: requests.purge(connection, now, most),
        lambda connection, most: prune_outbox(connection, delivered_before, most),
        lambda connection, most: quotas.purge(connection, oldest_hour, most),
    ]


def _slice(transactions: Transactions, clock: Clock, purge: Purge, rows: int) -> tuple[int, float]:
    """One transaction: how many rows it deleted, and for how many seconds it held the write slot."""
    with transactions.write() as connection:
        began = clock.monotonic()
        forgotten = purge(connection, rows)
    return forgotten, clock.monotonic() - began


def _fitting(rows: int, seconds: float) -> int:
    """How many rows fill a slice, when `rows` took `seconds`."""
    fitting = int(rows * LIMITS.group_milliseconds / max(seconds * 1_000, 0.1))
    return max(_FEWEST_ROWS, min(fitting, rows * 2, _MOST_ROWS))
