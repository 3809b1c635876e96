"""The shape of each YAML file as pydantic models. validation.py turns their errors into problems."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel
from pydantic_core import PydanticCustomError

from vault.domain.limits import LIMITS
from vault.domain.types import (
    ANY_BASIS,
    NAME,
    OPERATION_BASIS,
    RESERVED_WORDS,
    Basis,
    Form,
    Reason,
    ValueType,
)
from vault.policy.model import ACTS
from vault.policy.problems import foreign

LEGAL_BASES: Final = frozenset(basis.value for basis in Basis) - {ANY_BASIS, OPERATION_BASIS}
DECLARABLE_BASES: Final = LEGAL_BASES - {Basis.CONSENT.value}
EXPECTATIONS: Final = (
    *(form.value for form in Form),
    Reason.NOT_PERMITTED.value,
    Reason.BASIS_MISSING.value,
)
ALL_OTHERS: Final = "*"
_CATEGORY: Final = re.compile(r"pd:[A-Z][A-Za-z0-9]{0,60}")
_TERM: Final = re.compile(r"[a-z][a-z0-9-]{0,30}:[A-Za-z][A-Za-z0-9-]{0,80}")
_JURISDICTION: Final = re.compile(r"\*|[A-Z]{2}(?:-[A-Z0-9]{1,3})?")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:-[A-Z]{2})?")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhdy])")
_SECONDS: Final[Mapping[str, int]] = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "y": 365 * 86_400}
_LONGEST_SECONDS: Final = 200 * _SECONDS["y"]


def name_fault(text: str) -> str:
    """What is wrong with an id, '' for a good one."""
    if text in RESERVED_WORDS:
        return f"{text!r} is a reserved word"
    if text.startswith("$"):
        return "names with $ are reserved"
    if not NAME.fullmatch(text):
        return f"{text!r} must be lower-case ASCII words joined by hyphens{foreign(text)}"
    if len(text) > LIMITS.name_characters:
        return f"longer than {LIMITS.name_characters} characters"
    return ""


def seconds(duration: str) -> int:
    """Seconds of `30d`, already checked by `Duration`; 0 for ''."""
    match = _DURATION.fullmatch(duration)
    return int(match[1]) * _SECONDS[match[2]] if match else 0


def _fault(message: str, candidates: Collection[str] = ()) -> PydanticCustomError:
    return PydanticCustomError("policy", "{text}", {"text": message, "candidates": tuple(candidates)})


def _name(text: str) -> str:
    fault = name_fault(text)
    if fault:
        raise _fault(fault)
    return text


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise _fault(f"{text!r} must be {expected}{foreign(text)}")
        return text

    return AfterValidator(check)


def _one_of(kind: str, words: Collection[str]) -> AfterValidator:
    def check(text: str) -> str:
        if text not in words:
            raise _fault(f"unknown {kind} {text!r}{foreign(text)}", words)
        return text

    return AfterValidator(check)


def _duration(text: str) -> str:
    if not 0 < seconds(text) <= _LONGEST_SECONDS:
        raise _fault(f"{text!r} must be a duration such as 90d or 10y, at most 200y")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise _fault("must not be blank")
    return text


Name = Annotated[str, AfterValidator(_name)]
Reference = Annotated[str, Field(min_length=1, max_length=256)]
"""An id declared elsewhere: the cross-checks look it up."""
Text = Annotated[str, Field(max_length=4_000), AfterValidator(_not_blank)]
Duration = Annotated[str, AfterValidator(_duration)]
CategoryName = Annotated[str, _matching(_CATEGORY, "a DPV category such as pd:EmailAddress")]
Term = Annotated[str, _matching(_TERM, "a DPV term such as dpv:Marketing")]
Jurisdiction = Annotated[str, _matching(_JURISDICTION, "a jurisdiction such as EU or US-CA, or *")]
Language = Annotated[str, _matching(_LANGUAGE, "a language such as en or pt-BR")]
DeclaredBasis = Annotated[str, _one_of("basis", DECLARABLE_BASES)]
LegalBasis = Annotated[str, _one_of("legal basis", LEGAL_BASES)]
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Strict(BaseModel):
    """No coercion, no unknown key."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PurposeEntry(Strict):
    dpv: Term
    descriptions: dict[Language, Text] = Field(min_length=1)
    parent: Reference | None = None
    bases: dict[Jurisdiction, list[DeclaredBasis]] | None = None
    consent_lifetime: Duration | None = None
    objection_overridden: Text | None = None
    direct_marketing: bool | None = None
    notice: Reference | None = None
    notice_minimum_version: Positive | None = None


class PurposesFile(Strict):
    purposes: dict[Name, PurposeEntry] = Field(min_length=1)


class CategoryEntry(Strict):
    parent: Reference | None = None


class KeyClassEntry(Strict):
    ground: Text | None = None
    purposes: list[Reference] | None = Field(default=None, min_length=1)
    period: Duration | None = None
    counted_from: Annotated[str, _one_of("moment", ("last-write", "relationship-end"))] | None = Field(
        default=None, alias="from"
    )


class ValidationEntry(Strict):
    pattern: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    allowed: list[Reference] | None = Field(default=None, min_length=1)
    minimum: str | None = None
    maximum: str | None = None
    max_bytes: Annotated[int, Field(ge=1, le=LIMITS.value_bytes)] | None = None


class AttributeEntry(Strict):
    type: Annotated[str, _one_of("type", tuple(kind.value for kind in ValueType))]
    type_version: Positive = 1
    scale: Annotated[int, Field(ge=0, le=38)] | None = None
    category: Reference
    key_class: Reference
    validation: ValidationEntry = ValidationEntry()
    forms: list[Any] = Field(min_length=1)
    searchable: bool = False
    retention: Duration | None = None


class AttributesFile(Strict):
    categories: dict[CategoryName, CategoryEntry] = Field(min_length=1)
    key_classes: dict[Name, KeyClassEntry] = Field(min_length=1)
    attributes: dict[Name, AttributeEntry] = Field(min_length=1)


class JwtIdentity(Strict):
    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    subject: Annotated[str, Field(min_length=1, max_length=512)]


class IdentityEntry(Strict):
    spiffe: str | None = None
    dns: str | None = None
    jwt: JwtIdentity | None = None


class Quotas(Strict):
    subjects_per_hour: dict[Reference, Positive] = Field(min_length=1)


class CallerFileEntry(Strict):
    tenant: Name
    description: Text
    identities: list[IdentityEntry] = Field(min_length=1)
    quotas: Quotas | None = None


class CallersFile(Strict):
    roles: dict[Name, Text] = Field(min_length=1)
    callers: dict[Name, CallerFileEntry] = Field(min_length=1)


class NoticeHead(Strict):
    title: Text
    covers: dict[Reference, Annotated[list[Reference], Field(min_length=1)]] = Field(min_length=1)


class TestEntry(Strict):
    name: Text
    caller: Reference
    purpose: Reference | None = None
    bases: list[LegalBasis] | None = None
    max_form: Annotated[str, _one_of("form", tuple(form.value for form in Form))] | None = None
    act: Annotated[str, _one_of("act", ACTS - {form.act for form in Form})] | None = None
    data: Reference | None = None
    expect: Any


class ExpectedForms(RootModel[dict[Reference, Annotated[str, _one_of("form or reason", EXPECTATIONS)]]]):
    """Of a test of reads: attribute -> form or reason."""

    model_config = ConfigDict(strict=True, frozen=True)


class TestsFile(Strict):
    tests: list[TestEntry] = Field(min_length=1)


class JustificationsFile(RootModel[dict[Reference, Text]]):
    model_config = ConfigDict(strict=True, frozen=True)
