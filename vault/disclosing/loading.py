"""Step 1 of a disclosure: subject, keys, ciphertext, consent of a group, one snapshot per tenant."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

import structlog
from sqlalchemy import Connection

from vault.crypto.envelope import CUSTOMER_NUMBER
from vault.disclosing.guard import failure, guard
from vault.disclosing.item import Item
from vault.disclosing.quotas import Quotas
from vault.domain.errors import DatavaultError, IntegrityError, OtherLookupKeyError
from vault.domain.protocols import Clock, Transactions
from vault.domain.types import SubjectSnapshot
from vault.policy.bundle import Bundle
from vault.store.reader import Found, SubjectReader
from vault.store.tenant_keys import lookup_rows

log = structlog.get_logger("datavault.disclosure")

_LOADING_SECONDS: Final = 1.0


class Loader:
    """Gives each item its snapshot, or its error, or leaves it `stale`: its lookup keys are to be read
    again."""

    def __init__(
        self, transactions: Transactions, reader: SubjectReader, quotas: Quotas, clock: Clock
    ) -> None:
        self._transactions = transactions
        self._reader = reader
        self._quotas = quotas
        self._clock = clock

    def load(self, items: Sequence[Item], bundle: Bundle) -> None:
        """Load those that have no error. Never raises."""
        tenants: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            if item.error is None:
                tenants[item.read.caller.tenant].append(item)
        for tenant, members in tenants.items():
            began = self._clock.monotonic()
            error = failure(self._load_tenant, tenant, members, bundle)
            if error is not None:
                self._load_singly(tenant, members, bundle, error, began + _LOADING_SECONDS)

    def _load_singly(
        self, tenant: str, items: Sequence[Item], bundle: Bundle, error: DatavaultError, until: float
    ) -> None:
        """Load the members of a group that failed with `error` one by one, so that only the bad one fails.

        Where each try waits, for a lock, a group's worth of waiting would hold up everyone else: those whose
        turn does not come before `until` get the error of the group.
        """
        for item in items:
            alone = len(items) > 1 and self._clock.monotonic() < until
            item.error = (
                failure(self._load_tenant, tenant, [item], bundle) if alone else error
            ) or item.error
        # alone, each found the whole quota left
        loaded = [item for item in items if item.error is None]
        if loaded and (failed := failure(self._quotas.refuse, tenant, loaded, bundle)):
            for item in loaded:
                item.error = failed

    def _load_tenant(self, tenant: str, items: Sequence[Item], bundle: Bundle) -> None:
        lists = {item.read.attributes for item in items if item.entitled}
        attributes = {CUSTOMER_NUMBER, *(bundle.attributes.keys() & chain.from_iterable(lists))}
        macs = [mac for item in items for mac in item.macs]
        rotating = len(macs) > len(items)
        with self._transactions.read_once() as connection:
            found = self._reader.load(connection, tenant, macs, attributes, rotating=rotating)
        if len(found) < len(set(macs)):
            with self._transactions.read() as connection:
                found = self._reader.load(connection, tenant, macs, attributes, rotating=rotating)
                self._trust_misses(connection, tenant, items, found)
        self._quotas.refuse(tenant, items, bundle)
        for item in items:
            if not item.stale:
                guard(self._take, item, found)

    def _trust_misses(
        self, connection: Connection, tenant: str, items: Sequence[Item], found: Mapping[bytes, Found]
    ) -> None:
        """Let those who were not found leave the group, unless the lookup keys in memory are those of the
        snapshot: else there may be such a customer all the same."""
        missed = [item for item in items if found.keys().isdisjoint(item.macs)]
        rows = lookup_rows(connection, tenant) if missed else ()
        for item in missed:
            if item.lookup is not None and item.lookup.rows != rows:
                guard(Item.lacks_lookup, item)

    def _take(self, item: Item, found: Mapping[bytes, Found]) -> None:
        subject = _one(found, item.macs)
        if isinstance(subject, IntegrityError):
            # who is not entitled learns nothing, not even that there is such a customer
            if item.entitled:
                log.error("subject_is_not_readable", kind="row of another type")
                raise subject
            return
        item.snapshot = subject
        if subject is not None and item.entitled:
            self._check_subject(item, subject)

    def _check_subject(self, item: Item, snapshot: SubjectSnapshot) -> None:
        """Hold the subject found against its own encrypted number: a lookup row that was pointed at another
        customer must not answer with that customer's data."""
        stored = snapshot.values.get(CUSTOMER_NUMBER)
        try:
            if stored is not None and item.lookup is not None:
                number = item.lookup.open_number(snapshot.subject.id, stored.ciphertext)
                if number == item.read.customer_number:
                    return
        except OtherLookupKeyError:
            if item.attempt.refreshed is not True:
                item.snapshot = None
                item.lacks_lookup()
                return
        except IntegrityError:
            pass
        item.snapshot = None
        log.error("subject_is_not_the_one_asked_for", kind="customer number")
        raise IntegrityError("the customer's record is not whole; operators have been told")


def _one(found: Mapping[bytes, Found], macs: Sequence[bytes]) -> Found | None:
    """What the MACs of one customer number lead to."""
    if len(macs) == 1:
        return found.get(macs[0])
    first: Found | None = None
    for mac in macs:
        each = found.get(mac)
        if each is None:
            continue
        if isinstance(each, IntegrityError):
            return each
        if isinstance(first, SubjectSnapshot) and first.subject.id != each.subject.id:
            return IntegrityError("the customer's record is not whole; operators have been told")
        first = first or each
    return first
