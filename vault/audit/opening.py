"""Opening every log that a service needs: one of all tenants, or one of each (DATAVAULT_LOGS, ADR 0019).

    1 families   which logs there must be: those of the tenants, and all that database or outside store know
    2 open       each, made where it is missing
    3 check      each against the outside store (startup.py)
    4 part       where one log took all records until now: it ends, and each tenant's begins

Nothing is appended before every log has passed step 3. Each step may be taken again after a kill, and by
several replicas at once.
"""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from vault.audit.append import Appender, EncodedRecord
from vault.audit.checkpoint import check_origin
from vault.audit.logbook import ALL_TENANTS, LogBook, LogPlace
from vault.audit.origins import (
    OpenLog,
    heads,
    heads_of,
    is_outside,
    place_of,
    read_logs,
    tenant_of,
    tenant_origin,
)
from vault.audit.outside import OutsideStore
from vault.audit.record import Record
from vault.audit.sql import driver_errors, execute
from vault.audit.startup import check_outside, open_log, provider_vkeys
from vault.domain.errors import StartRefusedError
from vault.domain.protocols import Clock, LogSigners, Randomness, Transactions
from vault.domain.system import uuid7
from vault.domain.types import UNKNOWN_SUBJECT, Outcome

PART_ACTION: Final = "log.part"
_LOOKS: Final = 3
"""Between a look at the log and one at the outside store, another replica may bring a checkpoint there."""
_KEEPER: Final = "housekeeping"
_LOCK_ACTIVE: Final = "UPDATE log SET size = size WHERE log = ? AND state = 'active'"
_CLOSE: Final = "UPDATE log SET state = 'closed' WHERE log = ?"
NO_WAY_BACK: Final = (
    "each tenant has an audit log of its own: set DATAVAULT_LOGS=tenant. There is no way back to one log"
)


@dataclass(frozen=True, slots=True)
class LogOpener:
    """Opens logs. `origin` as configured; `per_tenant` False: one log takes the records of all tenants."""

    transactions: Transactions
    origin: str
    per_tenant: bool
    store: OutsideStore
    signers: LogSigners
    clock: Clock
    randomness: Randomness

    def open(self, tenants: Collection[str]) -> LogBook:
        """Take the steps for these tenants, and for all whose logs are known already.

        Raises:
            ConfigurationError: the origin is none, or not that of this database.
            StartRefusedError: as `open_log` and `check_outside`, naming the log; or the setting would leave
                logs of tenants behind.
            AuditUnavailableError, StoreUnavailableError, KeysUnavailableError.
        """
        opened = [self._open(origin) for origin in self.families(tenants)]  # 1, 2, 3
        places = [place_of(log, self.origin) for log in opened]
        book = book_of(places)
        if book.former is not None:
            self._part(book)  # 4
        return book

    def open_more(self, book: LogBook, tenants: Collection[str]) -> None:
        """Take those of `tenants` into the book that it does not know yet: for a reload of policies.

        Raises: as `open`.
        """
        for tenant in sorted(tenants):
            if not book.knows(tenant):
                book.add(place_of(self._open(tenant_origin(self.origin, tenant)), self.origin))

    def families(self, tenants: Collection[str]) -> dict[str, str]:
        """Whose log each family is, by origin; that of all tenants comes first, if there is one.

        Raises: as `open`, where nothing was opened yet.
        """
        check_origin(self.origin)
        with self.transactions.read() as connection, driver_errors(connection):
            known = {tenant_of(origin, self.origin) for origin in heads(read_logs(connection))}
        if not self.per_tenant:
            self._refuse_to_forget(known, tenants)
            return {self.origin: ALL_TENANTS}
        if ALL_TENANTS not in known and is_outside(self.origin, self.store):
            known.add(ALL_TENANTS)
        return {tenant_origin(self.origin, tenant): tenant for tenant in sorted({*known, *tenants})}

    def _refuse_to_forget(self, known: Collection[str], tenants: Collection[str]) -> None:
        for tenant in sorted({*known, *tenants} - {ALL_TENANTS}):
            origin = tenant_origin(self.origin, tenant)
            if tenant in known:
                raise StartRefusedError(f"audit log {origin}: {NO_WAY_BACK}")
            if is_outside(origin, self.store):
                raise StartRefusedError(f"audit log {origin}, which the outside store knows: {NO_WAY_BACK}")

    def _open(self, origin: str) -> OpenLog:
        for _ in range(_LOOKS - 1):
            with contextlib.suppress(StartRefusedError):
                return self._look(origin)
        try:
            return self._look(origin)
        except StartRefusedError as error:
            raise StartRefusedError(f"audit log {origin}: {error.message}") from None

    def _look(self, origin: str) -> OpenLog:
        former = self.per_tenant and origin == self.origin
        log = open_log(self.transactions, origin, self.signers, self.clock, former=former)
        with self.transactions.read() as connection:
            check_outside(connection, log, self.store, *provider_vkeys(log, self.signers))
        return log

    def _part(self, book: LogBook) -> None:
        """Close the log of all tenants: its last records say where each tenant's go on, and the first one of
        each tenant's log says where they come from."""
        former = book.former
        if former is None:
            return
        with self.transactions.write() as connection, driver_errors(connection):
            if not execute(connection, _LOCK_ACTIVE, (former.log,)):
                return
            own = [place for place in book.every if place is not former]
            ends = [self._record(place.tenant, {"continued_in": place.origin}) for place in own]
            positions = Appender(former.log).append(connection, ends)
            execute(connection, _CLOSE, (former.log,))
            for place, position in zip(own, positions, strict=True):
                begin = self._record(place.tenant, {"continues": former.origin, "continues_after": position})
                Appender(place.log).append(connection, [begin])

    def _record(self, tenant: str, detail: dict[str, str | int]) -> EncodedRecord:
        return EncodedRecord.of(
            Record(
                id=uuid7(self.clock, self.randomness),
                time=self.clock.now(),
                tenant=tenant,
                caller=_KEEPER,
                identity=f"local:{_KEEPER}",
                action=PART_ACTION,
                subject=UNKNOWN_SUBJECT,
                outcome=Outcome.AUTHORISED.value,
                detail=detail,
            )
        )


def book_of(places: Collection[LogPlace]) -> LogBook:
    """The book of the newest log of each family: where tenants have logs, that of all is the former one."""
    own = [place for place in places if place.tenant != ALL_TENANTS]
    if not own:
        return LogBook(places)
    return LogBook(own, next((place for place in places if place.tenant == ALL_TENANTS), None))


def stored_book(connection: Connection, origin: str) -> LogBook:
    """The same, of the logs that a database holds, in whatever state they are.

    Raises:
        ConfigurationError, AuditUnavailableError: as `heads_of`.
    """
    return book_of([place_of(log, origin) for log in heads_of(connection, origin)])
