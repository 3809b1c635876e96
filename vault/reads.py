"""What a read is, from request to answer: the types that go through the disclosure pipeline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from vault.crypto.envelope import DataKey
from vault.domain.checks import FieldChecks, is_request_id
from vault.domain.errors import DatavaultError
from vault.domain.limits import LIMITS
from vault.domain.types import Caller, Form, KeyScope, Reason, ValueType, WrappedKey
from vault.domain.values import Value


@dataclass(frozen=True, slots=True)
class Read:
    """One read of one subject by one caller for one purpose. repr does not show whose."""

    caller: Caller
    customer_number: str = field(repr=False)
    purpose: str
    attributes: tuple[str, ...]
    max_form: Form | None = None
    require_all: bool = False
    request_id: str = ""


_PLAIN_CHARACTERS: Final = 64
"""A customer number of so many printable ASCII characters at most is fine without a closer look."""
_REMEMBERED_NAMES: Final = 32


@dataclass(frozen=True, slots=True)
class Attempt:
    """A read in a group. `keys` are DEKs fetched for an earlier attempt, by the row they came from: they are
    used only with the same row, read again by this attempt's own snapshot. `refreshed` says that the tenant's
    lookup keys were read again for it, or why they could not be."""

    read: Read
    keys: Mapping[WrappedKey, DataKey | DatavaultError] = field(default_factory=dict, repr=False)
    refreshed: bool | DatavaultError = False


class MissingKeys(NamedTuple):
    """The item left its group: these DEKs must be unwrapped, and the lookup keys of these tenants read again,
    then it queues again."""

    requests: tuple[tuple[KeyScope, WrappedKey], ...]
    tenants: tuple[str, ...] = ()


Part = Callable[[Value | None, int], bytes]
"""The part of an answer for an attribute that is shown, given its value (none for `exists`) and version."""


class AnswerWriter(Protocol):
    """Writes an answer as the caller gets it, attribute by attribute (the server implements it).

    The parts of the attributes, in order, are written before their record is durable; `finish` makes them an
    answer once it is.
    """

    def given(self, name: str, form: Form, kind: ValueType) -> Part:
        """What writes the part of an attribute that is shown in this form; made once for many values."""

    def denied(self, name: str, reason: Reason) -> bytes:
        """The part of an attribute that is denied."""

    def size(self, parts: Sequence[bytes]) -> int:
        """Bytes on the wire at most, also as a result of a batch."""

    def finish(self, parts: Sequence[bytes], record_id: str, position: int, bundle_hash: str) -> bytes:
        """The answer."""


@dataclass(frozen=True, slots=True)
class Released:
    """An answer whose record is durable at `position`: it may leave the process. repr shows no value."""

    answer: bytes = field(repr=False)
    record_id: str
    position: int
    outcome: str = ""
    denials: tuple[str, ...] = ()


Result = Released | DatavaultError | MissingKeys


def check_read(read: Read) -> None:
    """
    Raises:
        InvalidArgumentError: with all wrong fields.
    """
    fine = _asked_before(read.purpose, read.attributes)
    if fine and _plain(read.customer_number) and is_request_id(read.request_id, optional=True):
        return
    checks = FieldChecks()
    checks.customer_number(read.customer_number)
    if not fine:
        checks.name(read.purpose, "purpose")
        checks.names(read.attributes, "attributes", LIMITS.attributes_per_read)
    checks.request_id(read.request_id, optional=True)
    checks.raise_if_any()


def _plain(number: str) -> bool:
    return 0 < len(number) <= _PLAIN_CHARACTERS and number.isascii() and number.isprintable()


def _asked_before(purpose: str, attributes: tuple[str, ...]) -> bool:
    # what is long is not remembered: a caller must not fill the memory
    if len(attributes) > _REMEMBERED_NAMES or len(purpose) > LIMITS.name_characters:
        return False
    longest = max(map(len, attributes), default=0)
    return longest <= LIMITS.name_characters and _fine(purpose, attributes)


@lru_cache(maxsize=1_024)
def _fine(purpose: str, attributes: tuple[str, ...]) -> bool:
    """Whether a purpose and a list of attributes are well formed: services ask for the same few."""
    checks = FieldChecks()
    checks.name(purpose, "purpose")
    checks.names(attributes, "attributes", LIMITS.attributes_per_read)
    return not checks.violations
