"""Quotas of a disclosure: how many subjects an hour a caller may read for a purpose (callers.yaml).

What is left is looked up with step 1, what was used is added with step 5.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from vault.disclosing.item import Item
from vault.domain.errors import QuotaExceededError
from vault.domain.protocols import Clock, Transactions
from vault.policy.bundle import Bundle
from vault.store.quotas import QuotaRepository

_HOUR_SECONDS: Final = 3_600
_HOUR_MICROSECONDS: Final = 3_600_000_000

Metered = Mapping[tuple[str, str], Sequence[Item]]
"""Reads that count against a quota, by (caller, purpose)."""


class Quotas:
    """Refuses reads for which nothing is left, and counts those that were disclosed."""

    def __init__(self, transactions: Transactions, repository: QuotaRepository, clock: Clock) -> None:
        self._transactions = transactions
        self._repository = repository
        self._clock = clock

    def refuse(self, tenant: str, items: Iterable[Item], bundle: Bundle) -> None:
        """Give the items that are over their quota its error.

        Raises:
            StoreUnavailableError: it cannot be told; nothing was refused.
        """
        metered = metered_items(items, bundle)
        if not metered:
            return
        hour = self._hour()
        with self._transactions.read() as connection:
            used = {
                each: self._repository.used(connection, tenant, each[0], each[1], hour) for each in metered
            }
        for (caller, purpose), members in metered.items():
            quota = _quota(bundle, caller, purpose) or 0
            for item in members[max(0, quota - used[caller, purpose]) :]:
                item.error = QuotaExceededError(
                    f"quota of {quota} subjects an hour for this purpose is used up",
                    retry_after_seconds=_HOUR_SECONDS - self._clock.now() // 1_000_000 % _HOUR_SECONDS,
                )

    def add(self, connection: Connection, metered: Metered) -> None:
        """Count what was disclosed, in the transaction of its records."""
        hour = self._hour()
        # in one order, so that two groups cannot wait for each other
        for (caller, purpose), members in sorted(metered.items(), key=lambda each: each[0]):
            tenant = members[0].read.caller.tenant
            self._repository.add(connection, tenant, caller, purpose, hour, len(members))

    def _hour(self) -> int:
        return self._clock.now() // _HOUR_MICROSECONDS


def metered_items(items: Iterable[Item], bundle: Bundle) -> dict[tuple[str, str], list[Item]]:
    """Those of callers that have a quota, by (caller, purpose)."""
    metered: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        if item.entitled and _quota(bundle, item.read.caller.id, item.read.purpose) is not None:
            metered[item.read.caller.id, item.read.purpose].append(item)
    return metered


def _quota(bundle: Bundle, caller: str, purpose: str) -> int | None:
    entry = bundle.callers.get(caller)
    quotas = entry.subjects_per_hour if entry else None
    return quotas.get(purpose, quotas.get("*")) if quotas else None
