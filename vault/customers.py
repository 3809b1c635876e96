"""Finding customers by their number, also while the tenant's lookup keys rotate (keys.md).

A customer is indexed under at least one of the lookup keys in force, and a new one under all of them. So what
is not found does not exist, and what is inserted will be found, if the keys in memory were those of the store
in the same transaction. Where they were not, they are read again and the work begins anew.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection

from vault.crypto.lookup_keys import LookupKeys
from vault.crypto.tenant_keys import TenantKeys
from vault.domain.errors import IntegrityError, StoreUnavailableError
from vault.domain.limits import LIMITS
from vault.domain.types import Subject
from vault.store.subjects import SubjectRepository, one_of
from vault.store.tenant_keys import lookup_rows

log = structlog.get_logger("datavault.customers")

T = TypeVar("T")
_ROUNDS: Final = 3


class StaleLookupError(Exception):
    """The lookup keys in memory are not those of the store: nothing may be concluded from a miss.

    Not an error of the domain: it rolls a transaction back, and whoever opened that begins again.
    """


def with_lookup(tenant_keys: TenantKeys, tenant: str, work: Callable[[LookupKeys], T]) -> T:
    """Run `work` with the tenant's lookup keys, and anew with fresh ones when it raises StaleLookupError.

    Not inside a transaction: the keys may have to be fetched.

    Raises:
        KeysUnavailableError, IntegrityError: a lookup key cannot be had.
        StoreUnavailableError: the same, or they changed again and again; and whatever `work` raises.
    """
    lookup = tenant_keys.lookup(tenant)
    for _ in range(_ROUNDS):
        try:
            return work(lookup)
        except StaleLookupError:
            lookup = tenant_keys.refresh(tenant)
    raise StoreUnavailableError(
        "the lookup keys are being changed: try again", retry_after_seconds=LIMITS.retry_after_seconds
    )


def find_customer(
    connection: Connection, subjects: SubjectRepository, lookup: LookupKeys, number: str
) -> Subject | None:
    """The subject of a customer number; None where there is none, in truth and not for want of a key.

    Raises:
        StaleLookupError: none was found, with lookup keys that are not the store's.
        IntegrityError: the number leads to two subjects.
    """
    macs = lookup.macs(number)
    found = one_customer(subjects.find(connection, lookup.tenant, macs), macs)
    if found is None:
        require_current(connection, lookup)
    return found


def one_customer(found: Mapping[bytes, Subject], macs: Collection[bytes]) -> Subject | None:
    """The subject that a customer number's MACs lead to in what was `found` by MAC; None where none does.

    Raises:
        IntegrityError: they lead to two; operators are told.
    """
    try:
        return one_of(found, macs)
    except IntegrityError:
        log.error("customer_has_two_subjects", kind="lookup row")
        raise


def require_current(connection: Connection, lookup: LookupKeys) -> None:
    """
    Raises:
        StaleLookupError: the lookup keys are not those of the store in this transaction.
    """
    if lookup_rows(connection, lookup.tenant) != lookup.rows:
        raise StaleLookupError
