"""Which log the records of a tenant go to (ADR 0019).

One log takes all records, or each tenant has a log of its own. Then the log that took all of them before is
`former`: it takes no more records, and is read, verified, and told of new log keys.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vault.audit.append import EncodedRecord
from vault.domain.errors import AuditUnavailableError

ALL_TENANTS = ""
"""Stands for the tenant of a log that takes every tenant's records."""


@dataclass(frozen=True, slots=True, order=True)
class LogPlace:
    """A log that is in use: its id, its origin, and whose records it holds (ALL_TENANTS: everybody's)."""

    log: int
    origin: str
    tenant: str = ALL_TENANTS


class LogBook:
    """Knows the logs in use. Threads share it: `add` swaps one reference, nothing else ever changes."""

    def __init__(self, places: Iterable[LogPlace], former: LogPlace | None = None) -> None:
        self._places = {place.tenant: place for place in places}
        self.former = former

    @property
    def every(self) -> tuple[LogPlace, ...]:
        """All logs in the order of their ids, which is the order in which their head rows are locked."""
        former = () if self.former is None else (self.former,)
        return tuple(sorted((*former, *self._places.values())))

    def add(self, place: LogPlace) -> None:
        """Take one more tenant's log into use."""
        self._places = {**self._places, place.tenant: place}

    def knows(self, tenant: str) -> bool:
        """Whether there is a log for the records of a tenant."""
        return tenant in self._places or ALL_TENANTS in self._places

    def of(self, tenant: str) -> LogPlace:
        """The log that the records of a tenant go to.

        Raises:
            AuditUnavailableError: none is open here.
        """
        places = self._places
        found = places.get(ALL_TENANTS) or places.get(tenant)
        if found is None:
            raise AuditUnavailableError(f"no audit log is open for tenant {tenant!r}: is it in callers.yaml?")
        return found

    def history(self, tenant: str) -> tuple[LogPlace, ...]:
        """The logs that hold records of a tenant, oldest first.

        Raises: as `of`.
        """
        current = self.of(tenant)
        return (current,) if self.former is None else (self.former, current)

    def apart(self, records: Sequence[EncodedRecord]) -> list[tuple[LogPlace, list[EncodedRecord]]]:
        """The records of each log, in the order of `every`.

        Raises: as `of`.
        """
        parts: dict[LogPlace, list[EncodedRecord]] = defaultdict(list)
        for record in records:
            parts[self.of(record.tenant)].append(record)
        return sorted(parts.items())
