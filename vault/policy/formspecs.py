"""The `forms` of an attribute: order, parameters, and whether they fit the declared type."""

import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from vault.domain.types import Form, FormSpec, ValueType
from vault.policy.names import repeated
from vault.policy.problems import Mark, Problems, suggest
from vault.policy.schema import Strict
from vault.policy.validation import validate
from vault.policy.yamlfile import Document, Where

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,37})(?:\.[0-9]{1,38})?")
_FORMS: Final = frozenset(form.value for form in Form)
_ANY: Final = frozenset(ValueType)
_TEXT: Final = frozenset({ValueType.STRING})
_NUMBERS: Final = frozenset({ValueType.INT64, ValueType.DECIMAL, ValueType.DOUBLE})
_TIMES: Final = frozenset({ValueType.DATE, ValueType.TIMESTAMP})
_SHOWN: Final = frozenset({ValueType.STRING, ValueType.DECIMAL, ValueType.INT64, ValueType.DATE})
_RANK: Final[Mapping[Form, int]] = {Form.CLEAR: 0, Form.EXISTS: 2}
_FILL: Final = re.compile(r"[!-/:-@\[-`{-~]")

Label = Annotated[str, Field(min_length=1, max_length=64)]
Kept = Annotated[int, Field(ge=1, le=64)]


class _EmailMask(Strict):
    style: Literal["email"]


class _Mask(Strict):
    keep_first: Kept = 0
    keep_last: Kept = 0
    fill: Annotated[str, Field(pattern=_FILL.pattern, min_length=1, max_length=1)] = Field("*", alias="with")


class _Bands(Strict):
    bands: list[str] = Field(min_length=1, max_length=256)


class _Width(Strict):
    width: str


class _Calendar(Strict):
    to: Literal["year", "decade", "month"]


class _Prefix(Strict):
    prefix: Kept


class _Groups(Strict):
    groups: dict[Label, Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    other: Label


class _Pseudonym(Strict):
    scope: Literal["caller", "caller-purpose"] = "caller"


SHAPES: Final[tuple[tuple[Form, str, type[BaseModel], frozenset[ValueType]], ...]] = (
    (Form.MASK, "style", _EmailMask, _TEXT),
    (Form.MASK, "keep_first", _Mask, _SHOWN),
    (Form.MASK, "keep_last", _Mask, _SHOWN),
    (Form.GENERALISE, "bands", _Bands, _NUMBERS),
    (Form.GENERALISE, "width", _Width, _NUMBERS),
    (Form.GENERALISE, "to", _Calendar, _TIMES),
    (Form.GENERALISE, "prefix", _Prefix, _TEXT),
    (Form.GENERALISE, "groups", _Groups, _TEXT),
    (Form.PSEUDONYMISE, "scope", _Pseudonym, _ANY),
)
"""Which parameter decides the shape of the parameters, and the types it fits."""


def number(text: str) -> Fraction | None:
    """The exact value of plain digits (`-12.50`), None for anything else."""
    return Fraction(text) if _NUMBER.fullmatch(text) else None


def build_forms(
    document: Document, where: Where, kind: ValueType, items: list[Any], problems: Problems
) -> tuple[FormSpec, ...]:
    """The forms listed at `where`, strongest first; problems are added, never raised."""
    specs: list[FormSpec] = []
    for place, item in enumerate(items):
        spec = _spec(document, (*where, place), kind, item, problems)
        if spec is None:
            continue
        mark = document.value(*where, place)
        if any(spec.form is earlier.form for earlier in specs):
            problems.add(document.path, mark, f"form {spec.form.value!r} stands twice")
        elif specs and _RANK.get(spec.form, 1) < _RANK.get(specs[-1].form, 1):
            message = f"forms stand strongest first: {spec.form.value!r} before {specs[-1].form.value!r}"
            problems.add(document.path, mark, message)
        specs.append(spec)
    return tuple(specs)


def _spec(
    document: Document, where: Where, kind: ValueType, item: object, problems: Problems
) -> FormSpec | None:
    mark = document.value(*where)
    name: object = item
    parameters: object = {}
    if isinstance(item, dict) and len(item) == 1:
        name, parameters = next(iter(item.items()))
        mark = document.key(*where, str(name))
    if not isinstance(name, str):
        problems.add(document.path, mark, "a form is a word, or one word with its parameters")
        return None
    if name not in _FORMS:
        problems.unknown(document.path, mark, "form", name, _FORMS)
        return None
    form = Form(name)
    inner = (*where, name) if isinstance(item, dict) else where
    if form in (Form.CLEAR, Form.EXISTS):
        if isinstance(item, dict):
            problems.add(document.path, mark, f"{name!r} takes no parameters")
        return FormSpec(form)
    if not isinstance(parameters, dict):
        problems.add(document.path, document.value(*inner), "the parameters must be a mapping")
        return FormSpec(form)
    return _with_parameters(document, inner, kind, form, parameters, problems)


def _with_parameters(
    document: Document, where: Where, kind: ValueType, form: Form, given: dict[str, Any], problems: Problems
) -> FormSpec | None:
    mark = document.value(*where)
    shapes = [shape for shape in SHAPES if shape[0] is form]
    shape = next((shape for shape in shapes if shape[1] in given), None)
    if shape is None and form is Form.PSEUDONYMISE and not given:
        shape = shapes[0]
    if shape is None:
        deciders = [shape[1] for shape in shapes]
        near = suggest(next(iter(given), ""), deciders)
        problems.add(document.path, mark, f"{form.value!r} needs one of {', '.join(deciders)}", near)
        return None
    _, decider, model, fits = shape
    if kind not in fits:
        label = form.value if form is Form.PSEUDONYMISE else f"{form.value} with {decider}"
        allowed = ", ".join(sorted(fits))
        problems.add(document.path, mark, f"{label!r} does not fit type {kind.value!r} (fits {allowed})")
        return None
    checked = validate(model, document, given, problems, where)
    if checked is None:
        return None
    _check(document, where, kind, checked, problems)
    return FormSpec(form, _frozen(checked))


def _check(document: Document, where: Where, kind: ValueType, model: BaseModel, problems: Problems) -> None:
    if isinstance(model, _Bands):
        _check_bands(document, (*where, "bands"), kind, model.bands, problems)
    elif isinstance(model, _Width):
        width = number(model.width)
        if width is None or width <= 0 or not _fits(kind, width):
            message = f"must be a number above 0 that a {kind.value} can have, in quotes"
            problems.add(document.path, document.value(*where, "width"), message)
    elif isinstance(model, _Groups):
        twice = repeated([value for values in model.groups.values() for value in values])
        if twice:
            mark = document.value(*where, "groups")
            problems.add(document.path, mark, f"value {twice!r} stands in two groups")


def _check_bands(
    document: Document, where: Where, kind: ValueType, bands: list[str], problems: Problems
) -> None:
    last: Fraction | None = None
    for place, text in enumerate(bands):
        mark: Mark = document.value(*where, place)
        bound = number(text)
        if bound is None or not _fits(kind, bound):
            problems.add(document.path, mark, f"{text!r} must be a number that a {kind.value} can have")
            continue
        if last is not None and bound <= last:
            problems.add(document.path, mark, "lower bounds must ascend")
        last = bound


def _fits(kind: ValueType, value: Fraction) -> bool:
    return kind is not ValueType.INT64 or (value.denominator == 1 and -(2**63) <= value < 2**63)


def _frozen(model: BaseModel) -> Mapping[str, object]:
    parameters = model.model_dump(by_alias=True)
    return MappingProxyType({key: _freeze(value) for key, value in parameters.items()})


def _freeze(value: object) -> object:
    if isinstance(value, dict):
        return MappingProxyType({key: _freeze(inner) for key, inner in value.items()})
    return tuple(value) if isinstance(value, list) else value
