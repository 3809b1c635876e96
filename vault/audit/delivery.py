"""Delivery of the outbox to the outside store, of every log.

Outside first, then mark: what is delivered twice is the same content at the same place.
"""

from typing import Final

import structlog

from vault.audit.outside import OutsideStore
from vault.audit.sql import driver_errors, execute_many, fetch
from vault.domain.errors import IntegrityError
from vault.domain.protocols import Clock, Transactions

_log = structlog.get_logger("datavault.audit")

_DELIVERIES: Final = 256
_WAITING: Final = (
    "SELECT id, path, document FROM outbox WHERE delivered_at IS NULL AND id > ? ORDER BY id LIMIT ?"
)
_DELIVERED: Final = "UPDATE outbox SET delivered_at = ? WHERE id = ?"
_OLDEST_WAITING: Final = "SELECT min(created_at) FROM outbox WHERE delivered_at IS NULL"


class Delivery:
    """Delivers, for one thread at a time."""

    def __init__(self, transactions: Transactions, outside: OutsideStore, clock: Clock) -> None:
        self._transactions = transactions
        self._outside = outside
        self._clock = clock

    def run_once(self) -> None:
        """Deliver what waits.

        Raises:
            AuditUnavailableError, StoreUnavailableError: the database or the outside store does not answer.
        """
        last = 0
        while True:
            with self._transactions.read() as connection, driver_errors(connection):
                waiting = fetch(connection, _WAITING, (last, _DELIVERIES))
            if not waiting:
                return
            last = waiting[-1][0]
            delivered = [item for item, path, document in waiting if self._put(path, bytes(document))]
            now = self._clock.now()
            with self._transactions.write() as connection, driver_errors(connection):
                execute_many(connection, _DELIVERED, [(now, item) for item in delivered])

    def lag_seconds(self) -> float:
        """Age of the oldest entry that waits; 0.0 when none does.

        Raises:
            AuditUnavailableError, StoreUnavailableError: the database does not answer.
        """
        with self._transactions.read() as connection, driver_errors(connection):
            ((oldest,),) = fetch(connection, _OLDEST_WAITING, ())
        return 0.0 if oldest is None else age_seconds(self._clock, oldest)

    def _put(self, path: str, document: bytes) -> bool:
        try:
            self._outside.put(path, document)
        except IntegrityError:
            # it waits on, and the lag shows it; entries behind it must get out all the same
            _log.error("outside_store_holds_another_history", entry=path)
            return False
        return True


def age_seconds(clock: Clock, moment: int) -> float:
    """Seconds since `moment` (microseconds since 1970 UTC), never negative."""
    return max(0.0, (clock.now() - moment) / 1e6)
