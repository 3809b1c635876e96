"""What is known of one read on its way through the steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vault.audit.append import EncodedRecord
from vault.audit.record import AttributeEntry, Record
from vault.crypto.envelope import DataKey
from vault.crypto.lookup_keys import LookupKeys
from vault.domain.errors import DatavaultError, StoreUnavailableError
from vault.domain.limits import LIMITS
from vault.domain.types import KeyScope, SubjectSnapshot, WrappedKey
from vault.reads import Attempt


@dataclass(frozen=True, slots=True)
class Opened:
    """What a read shows: the parts of its answer, the entries of its record, the reasons of its denials. repr
    shows no value."""

    parts: list[bytes] = field(repr=False)
    entries: Mapping[str, AttributeEntry]
    denials: tuple[str, ...]


class Item:
    """One read of a group. `error` and `missing` say that it ends, or leaves the group for keys; `keys` are
    those of its subject that were cached, by DEK id, once one was wanted; `wanted` are the ids of all that
    were."""

    __slots__ = (
        "attempt",
        "checked",
        "encoded",
        "entitled",
        "error",
        "keys",
        "lookup",
        "macs",
        "missing",
        "opened",
        "read",
        "record",
        "snapshot",
        "stale",
        "wanted",
    )

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.read = attempt.read
        self.lookup: LookupKeys | None = None
        self.macs: tuple[bytes, ...] = ()
        self.stale = False
        self.checked = False
        self.entitled = False
        self.snapshot: SubjectSnapshot | None = None
        self.opened: Opened | None = None
        self.record: Record | None = None
        self.encoded: EncodedRecord | None = None
        self.error: DatavaultError | None = None
        self.keys: Mapping[bytes, DataKey] | None = None
        self.wanted: set[bytes] = set()
        self.missing: dict[WrappedKey, tuple[KeyScope, WrappedKey]] = {}

    @property
    def leaves(self) -> bool:
        """Whether it has to leave the group for keys."""
        return self.stale or bool(self.missing)

    def lacks_lookup(self) -> None:
        """Have the lookup keys read again: those in memory cannot tell whose record it is.

        Raises:
            DatavaultError: they were, once, for this read, and that did not help.
        """
        if isinstance(self.attempt.refreshed, DatavaultError):
            raise self.attempt.refreshed
        if self.attempt.refreshed:
            raise StoreUnavailableError(
                "the lookup keys are being changed: try again",
                retry_after_seconds=LIMITS.retry_after_seconds,
            )
        self.stale = True
