"""What a read is, from request to answer: the types that go through the disclosure pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from vault.crypto.envelope import DataKey
from vault.domain.checks import FieldChecks
from vault.domain.errors import DatavaultError
from vault.domain.limits import LIMITS
from vault.domain.types import Caller, Form, KeyScope, Reason, ValueType, WrappedKey
from vault.domain.values import Value


@dataclass(frozen=True, slots=True)
class Read:
    """One read of one subject by one caller for one purpose."""

    caller: Caller
    customer_number: str = field(repr=False)
    purpose: str
    attributes: tuple[str, ...]
    max_form: Form | None = None
    require_all: bool = False
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A read in a group. `keys` are DEKs fetched for an earlier attempt, by the row they came from: they are
    used only with the same row, read again by this attempt's own snapshot. `refreshed` says that the tenant's
    lookup keys were read again for it, or why they could not be."""

    read: Read
    keys: Mapping[WrappedKey, DataKey | DatavaultError] = field(default_factory=dict)
    refreshed: bool | DatavaultError = False


@dataclass(frozen=True, slots=True)
class DisclosedAttribute:
    """A form and its value, or the reason of a denial. repr shows no value."""

    name: str
    form: Form | None = None
    reason: Reason | None = None
    type: ValueType | None = None
    value: Value | None = field(default=None, repr=False)
    version: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one read discloses, before it is recorded."""

    record_id: str
    bundle_hash: str
    attributes: Sequence[DisclosedAttribute]


@dataclass(frozen=True, slots=True)
class MissingKeys:
    """The item left its group: these DEKs must be unwrapped, and the lookup keys of these tenants read again,
    then it queues again."""

    requests: tuple[tuple[KeyScope, WrappedKey], ...]
    tenants: tuple[str, ...] = ()


M = TypeVar("M")


class AnswerWriter(Protocol[M]):
    """Turns an answer into the caller's message (the server implements it)."""

    def build(self, answer: Answer) -> M: ...

    def size(self, message: M) -> int: ...


@dataclass(frozen=True, slots=True)
class Released(Generic[M]):
    """A message whose record is durable at `position`: it may leave the process."""

    message: M
    record_id: str
    position: int
    outcome: str = ""
    denials: tuple[str, ...] = ()


Result = Released[M] | DatavaultError | MissingKeys


def check_read(read: Read) -> None:
    """
    Raises:
        InvalidArgumentError: with all wrong fields.
    """
    checks = FieldChecks()
    checks.customer_number(read.customer_number)
    checks.name(read.purpose, "purpose")
    checks.names(read.attributes, "attributes", LIMITS.attributes_per_read)
    checks.request_id(read.request_id, optional=True)
    checks.raise_if_any()
