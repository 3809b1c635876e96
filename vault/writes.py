"""What a write is, from request to answer: the types that go through the intake pipeline."""

from dataclasses import dataclass, field

from vault.domain.checks import FieldChecks
from vault.domain.limits import LIMITS
from vault.domain.types import Caller
from vault.domain.values import TypedValue


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """Set (`value`) or remove (`clear`) one attribute. `expected_version` None: any; 0: must not be set."""

    attribute: str
    value: TypedValue | None = field(default=None, repr=False)
    clear: bool = False
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """One write of one subject. `jurisdictions` empty: leave as they are."""

    caller: Caller
    request_id: str
    customer_number: str = field(repr=False)
    changes: tuple[AttributeChange, ...]
    jurisdictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """The answer: new versions in the order of the request, and where the record stands."""

    versions: tuple[tuple[str, int], ...]
    subject_created: bool
    record_id: str
    position: int
    replayed: bool = False


def check_write(write: Write) -> None:
    """
    Raises:
        InvalidArgumentError: with all wrong fields.
    """
    checks = FieldChecks()
    checks.request_id(write.request_id)
    checks.customer_number(write.customer_number)
    checks.names([change.attribute for change in write.changes], "writes", LIMITS.attributes_per_write)
    checks.jurisdictions(write.jurisdictions)
    for index, change in enumerate(write.changes):
        checks.require(
            change.clear is (change.value is None), f"writes[{index}]", "must set a value or clear, not both"
        )
        checks.require(
            (change.expected_version or 0) >= 0, f"writes[{index}].expected_version", "must not be negative"
        )
    checks.raise_if_any()
