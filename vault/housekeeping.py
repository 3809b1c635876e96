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
from vault.slicing import fitting
from vault.store.erasure import ErasureRepository
from vault.store.quotas import QuotaRepository
from vault.store.requests import RequestRepository
from vault.store.tenant_keys import purge_retired

log = structlog.get_logger("datavault.housekeeping")

_PERIOD_SECONDS: Final = 3_600
_FIRST_ROWS: Final = 32
_MOST_ROWS: Final = 4_096
_QUOTA_HOURS: Final = 24

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs blocking work on a thread of its own (`BlockingWorker.run`)."""
Purge = Callable[[Connection, int], int]
"""Deletes at most so many rows; returns how many."""
Refresh = Callable[[], Awaitable[Any]]


async def keep_house(
    run: Run,
    transactions: Transactions,
    clock: Clock,
    refresh: Refresh | None = None,
    sweep: Refresh | None = None,
) -> None:
    """Forget what is old now and then once an hour, until cancelled.

    `refresh` reads the tenants' lookup keys again, so that memory forgets retired ones too; `sweep` destroys
    what erasures left for grounds that have run out.
    """
    while True:
        try:
            await forget_old(run, transactions, clock)
            for also in (refresh, sweep):
                if also is not None:
                    await also()
        except DatavaultError as error:
            log.warning("housekeeping_failed", reason=error.reason.value)
        await asyncio.sleep(_PERIOD_SECONDS)


async def forget_old(run: Run, transactions: Transactions, clock: Clock) -> None:
    """Forget old request ids, retired lookup keys, quota hours, delivered outbox entries and old evidence.

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
            rows = fitting(rows, seconds, _MOST_ROWS)


def _purges(now: int) -> list[Purge]:
    """`now` in microseconds since 1970 UTC."""
    requests, quotas, evidence = RequestRepository(), QuotaRepository(), ErasureRepository()
    delivered_before = now - LIMITS.request_kept_days * 86_400 * 1_000_000
    oldest_hour = now // 3_600_000_000 - _QUOTA_HOURS
    return [
        lambda connection, most: requests.purge(connection, now, most),
        # after the requests that they recognise
        lambda connection, most: purge_retired(connection, now, most),
        lambda connection, most: prune_outbox(connection, delivered_before, most),
        lambda connection, most: quotas.purge(connection, oldest_hour, most),
        lambda connection, most: evidence.purge_evidence(connection, now, most),
    ]


def _slice(transactions: Transactions, clock: Clock, purge: Purge, rows: int) -> tuple[int, float]:
    """One transaction: how many rows it deleted, and for how many seconds it held the write slot."""
    with transactions.write() as connection:
        began = clock.monotonic()
        forgotten = purge(connection, rows)
    return forgotten, clock.monotonic() - began
