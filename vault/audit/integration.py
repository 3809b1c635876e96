"""Integration of every log of a database, by one thread of each process.

A pass goes over the newest log of each family that has something new, then delivers the outbox. What fails
for one log holds up no other: that log is left out for a while, the longer the more often it failed. Logs
that other replicas have opened are integrated too; on PostgreSQL a lock per log lets replicas share the work.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from vault.audit.delivery import Delivery
from vault.audit.integrator import Integrator, lag_seconds
from vault.audit.origins import base_origin
from vault.audit.outside import OutsideStore
from vault.audit.sql import driver_errors, fetch
from vault.domain.errors import DatavaultError
from vault.domain.protocols import Clock, LogSigners, Transactions

_log = structlog.get_logger("datavault.audit")

T = TypeVar("T")
_INTERVAL_SECONDS: Final = 0.5
"""Between passes under load; with the pass itself it stays under the second that audit.md promises."""
_POLL_SECONDS: Final = 1.0
"""Records of other processes are noticed without a notification."""
_MOST_PASSES_LEFT_OUT: Final = 60
_LOGS: Final = (
    "SELECT log, origin, size, (SELECT coalesce(max(c.size), 0) FROM log_checkpoint c WHERE c.log = log.log) "
    "FROM log ORDER BY log"
)


@dataclass(slots=True)
class _Turn:
    """How many passes go by before something that failed is tried again."""

    left_out: int = 0
    next_time: int = 1

    def due(self) -> bool:
        if self.left_out:
            self.left_out -= 1
            return False
        return True

    def failed(self) -> None:
        self.left_out = self.next_time
        self.next_time = min(2 * self.next_time, _MOST_PASSES_LEFT_OUT)


class Integration:
    """Integrates all logs. `run_once` is for one thread at a time; `start` gives it a thread of its own."""

    def __init__(
        self,
        transactions: Transactions,
        signers: LogSigners,
        clock: Clock,
        outside: OutsideStore,
        *,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        self._transactions = transactions
        self._signers = signers
        self._clock = clock
        self._delivery = Delivery(transactions, outside, clock)
        self._interval = interval_seconds
        self._integrators: dict[int, Integrator] = {}
        self._turns: dict[str, _Turn] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def run_once(self) -> None:
        """One pass over everything, whatever failed before.

        Raises:
            KeysUnavailableError, AuditUnavailableError, StoreUnavailableError, IntegrityError: the first
                failure, as of `Integrator.run_once` or `Delivery.run_once`; the rest was done all the same.
        """
        self._turns.clear()
        failures = self._pass()
        if failures:
            raise failures[0]

    def lag_seconds(self) -> float:
        """Age of the oldest record of any log without a checkpoint, or outbox entry not delivered; 0.0 when
        none waits.

        Raises:
            AuditUnavailableError, StoreUnavailableError: the database does not answer.
        """
        waiting = self._waiting()
        with self._transactions.read() as connection:
            lags = [lag_seconds(connection, log, self._clock) for log in waiting]
        return max((self._delivery.lag_seconds(), *lags))

    # --- a pass -------------------------------------------------------------------------------------------

    def _pass(self) -> list[Exception]:
        failures: list[Exception] = []
        for log in self._take_turn("list of logs", self._waiting, failures) or ():
            self._take_turn(f"log {log}", self._integrator(log).run_once, failures)
        # what waits in the outbox must get out even while nothing can be signed
        self._take_turn("outbox", self._delivery.run_once, failures)
        return failures

    def _take_turn(self, work: str, take: Callable[[], T], failures: list[Exception]) -> T | None:
        """What `take` gives; None where it fails, or failed lately."""
        turn = self._turns.setdefault(work, _Turn())
        if not turn.due():
            return None
        try:
            done = take()
        except DatavaultError as error:
            _log.warning("audit_integration_delayed", work=work, reason=str(error.reason))
            failures.append(error)
        except Exception as error:
            _log.exception("audit_integration_failed", work=work)
            failures.append(error)
        else:
            del self._turns[work]
            return done
        turn.failed()
        return None

    def _waiting(self) -> list[int]:
        """The newest log of each family, where it has records that no checkpoint covers."""
        with self._transactions.read() as connection, driver_errors(connection):
            rows = fetch(connection, _LOGS, ())
        newest = {base_origin(origin): (log, size, signed) for log, origin, size, signed in rows}
        return [log for log, size, signed in newest.values() if size > signed]

    def _integrator(self, log: int) -> Integrator:
        if log not in self._integrators:
            self._integrators[log] = Integrator(self._transactions, log, self._signers, self._clock)
        return self._integrators[log]

    # --- thread -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run passes in a thread until `stop`."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._loop, name="audit-integrator", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make a last pass and end the thread."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def notify(self) -> None:
        """Say that records were committed. Cheap; from any thread."""
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()
            self._pass()
            # records that come meanwhile share the next checkpoint
            self._stopping.wait(self._interval)
        self._turns.clear()
        self._pass()
