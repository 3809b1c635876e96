"""Checks of request fields that need no policy and no data; each adds a violation that says what is right."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from vault.domain.errors import InvalidArgumentError, Violation
from vault.domain.limits import LIMITS
from vault.domain.types import NAME

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_JURISDICTION: Final = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class FieldChecks:
    """Collects violations of one request; `raise_if_any` ends the checking."""

    def __init__(self, found: Iterable[Violation] = ()) -> None:
        """Begin with what was `found` already."""
        self.violations: list[Violation] = list(found)

    def require(self, holds: bool, field: str, description: str) -> bool:
        """Add a violation unless `holds`; returns `holds`."""
        if not holds:
            self.violations.append(Violation(field, description))
        return holds

    def customer_number(self, value: str, field: str = "customer_number") -> None:
        size = len(value.encode("utf-8", "replace"))
        self.require(
            0 < size <= LIMITS.customer_number_bytes and not _CONTROL.search(value),
            field,
            f"must be 1 to {LIMITS.customer_number_bytes} bytes without control characters",
        )

    def name(self, value: str, field: str) -> bool:
        return self.require(
            well_formed(value),
            field,
            "must be an id: lower-case words joined by hyphens, at most 64 long",
        )

    def names(self, values: Sequence[str], field: str, most: int) -> None:
        if not self.require(0 < len(values) <= most, field, f"must hold 1 to {most} ids"):
            return
        seen: set[str] = set()
        for index, value in enumerate(values):
            self.name(value, f"{field}[{index}]")
            self.require(value not in seen, f"{field}[{index}]", "is there twice")
            seen.add(value)

    def request_id(self, value: str, field: str = "request_id", *, optional: bool = False) -> None:
        self.require(
            is_request_id(value, optional=optional),
            field,
            f"must be 1 to {LIMITS.request_id_characters} of A-Z a-z 0-9 . _ : -",
        )

    def text(self, value: str, field: str, most: int, *, optional: bool = False) -> None:
        self.require(
            (optional or bool(value)) and len(value) <= most and not _CONTROL.search(value),
            field,
            f"must be {0 if optional else 1} to {most} characters without control characters",
        )

    def jurisdictions(self, values: Collection[str], field: str = "jurisdictions") -> None:
        if not self.require(len(values) <= 16, field, "must hold at most 16"):
            return
        for index, value in enumerate(values):
            self.require(
                _JURISDICTION.fullmatch(value) is not None,
                f"{field}[{index}]",
                'must be a country or region code, for example "EU", "GB" or "US-CA"',
            )

    def raise_if_any(self) -> None:
        """End the checking.

        Raises:
            InvalidArgumentError: with all violations found.
        """
        if self.violations:
            first = self.violations[0]
            raise InvalidArgumentError(
                f"{first.field}: {first.description}{_further(len(self.violations) - 1)}",
                violations=self.violations,
            )


def _further(count: int) -> str:
    if not count:
        return ""
    return "; 1 more field is wrong" if count == 1 else f"; {count} more fields are wrong"


def is_request_id(value: str, *, optional: bool = False) -> bool:
    """Whether `value` can name a request."""
    return (optional and not value) or _REQUEST_ID.fullmatch(value) is not None


def well_formed(name: str) -> bool:
    """Whether `name` can be the id of a caller, purpose, attribute ..."""
    return len(name) <= LIMITS.name_characters and NAME.fullmatch(name) is not None
