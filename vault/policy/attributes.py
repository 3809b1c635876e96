"""attributes.yaml -> categories, key classes and attributes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from vault.domain.errors import ValueFormatError
from vault.domain.types import Attribute, FormSpec, KeyClass, ValueType
from vault.domain.values import encode_value
from vault.policy.formspecs import build_forms
from vault.policy.hierarchy import closure, in_cycle, too_deep
from vault.policy.model import LINKS
from vault.policy.names import Names, repeated, require, require_leaf
from vault.policy.problems import Mark, Problems
from vault.policy.schema import AttributeEntry, AttributesFile, KeyClassEntry, ValidationEntry, seconds
from vault.policy.validation import validate
from vault.policy.yamlfile import Document

_TEXT: Final = frozenset({ValueType.STRING})
_LISTED: Final = frozenset({ValueType.STRING, ValueType.INT64, ValueType.DATE})
_ORDERED: Final = frozenset(
    {ValueType.INT64, ValueType.DECIMAL, ValueType.DOUBLE, ValueType.DATE, ValueType.TIMESTAMP}
)
_SIZED: Final = frozenset({ValueType.STRING, ValueType.BYTES, ValueType.JSON})
_FITS: Final[Mapping[str, frozenset[ValueType]]] = {
    "pattern": _TEXT,
    "allowed": _LISTED,
    "minimum": _ORDERED,
    "maximum": _ORDERED,
    "max_bytes": _SIZED,
}
_INTEGERS: Final = frozenset({ValueType.INT64, ValueType.TIMESTAMP})
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_DIGITS: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,37})(?:\.[0-9]{1,38})?")


@dataclass(frozen=True, slots=True)
class Data:
    """What attributes.yaml declares; `categories` maps each to itself and what is above, nearest first."""

    categories: Mapping[str, tuple[str, ...]]
    key_classes: Mapping[str, KeyClass]
    attributes: Mapping[str, Attribute]


def build_attributes(document: Document, names: Names, problems: Problems) -> Data | None:
    """The vocabulary of data, or None after adding every problem of the file."""
    before = len(problems)
    file = validate(AttributesFile, document, document.data, problems)
    if file is None:
        return None
    _check_categories(document, file, names, problems)
    for name, key_class in file.key_classes.items():
        _check_key_class(document, name, key_class, names, problems)
    attributes = {
        name: _attribute(document, name, entry, names, problems) for name, entry in file.attributes.items()
    }
    if len(problems) > before:
        return None
    parents = _parents(file)
    return Data(
        MappingProxyType({name: (name, *closure(name, parents)) for name in parents}),
        MappingProxyType({name: _key_class(name, entry) for name, entry in file.key_classes.items()}),
        MappingProxyType(attributes),
    )


def _parents(file: AttributesFile) -> dict[str, tuple[str, ...]]:
    return {name: (entry.parent,) if entry.parent else () for name, entry in file.categories.items()}


def _check_categories(document: Document, file: AttributesFile, names: Names, problems: Problems) -> None:
    for name, entry in file.categories.items():
        if entry.parent is not None:
            mark = document.value("categories", name, "parent")
            require(problems, document.path, mark, "category", entry.parent, names.categories)
    parents = _parents(file)
    cyclic = in_cycle(parents)
    for name in cyclic:
        mark = document.value("categories", name, "parent")
        problems.add(document.path, mark, f"category {name!r} is above itself")
    # the link from an attribute to its category counts as well
    for name in [] if cyclic else too_deep(parents, links_below=1):
        mark = document.value("categories", name, "parent")
        message = f"more than {LINKS - 1} categories above {name!r}: Casbin stops matching"
        problems.add(document.path, mark, message)


def _check_key_class(
    document: Document, name: str, entry: KeyClassEntry, names: Names, problems: Problems
) -> None:
    keys = {
        "ground": entry.ground,
        "purposes": entry.purposes,
        "period": entry.period,
        "from": entry.counted_from,
    }
    missing = [key for key, value in keys.items() if value is None]
    if missing and len(missing) < len(keys):
        message = "ground, purposes, period and from belong together: " + ", ".join(missing) + " missing"
        problems.add(document.path, document.key("key_classes", name), message)
    for place, purpose in enumerate(entry.purposes or ()):
        mark = document.value("key_classes", name, "purposes", place)
        require_leaf(problems, document.path, mark, purpose, names)


def _key_class(name: str, entry: KeyClassEntry) -> KeyClass:
    return KeyClass(
        id=name,
        ground=entry.ground or "",
        purposes=tuple(entry.purposes or ()),
        period_seconds=seconds(entry.period or ""),
        counted_from=entry.counted_from or "",
    )


def _attribute(
    document: Document, name: str, entry: AttributeEntry, names: Names, problems: Problems
) -> Attribute:
    def mark(key: str) -> Mark:
        return document.value("attributes", name, key)

    kind = ValueType(entry.type)
    require(problems, document.path, mark("category"), "category", entry.category, names.categories)
    require(problems, document.path, mark("key_class"), "key class", entry.key_class, names.key_classes)
    if entry.scale is not None and kind is not ValueType.DECIMAL:
        problems.add(document.path, mark("scale"), "only a decimal has a scale")
    if entry.searchable and kind is ValueType.BOOL:
        problems.add(document.path, mark("searchable"), "a bool cannot be searchable: it has two values")
    forms = build_forms(document, ("attributes", name, "forms"), kind, entry.forms, problems)
    attribute = _plain(name, kind, entry, forms)
    _check_validation(document, attribute, entry.validation, problems)
    rules = entry.validation
    return replace(
        attribute,
        pattern=rules.pattern or "",
        allowed=tuple(rules.allowed or ()),
        minimum=rules.minimum or "",
        maximum=rules.maximum or "",
        max_bytes=rules.max_bytes or 0,
    )


def _plain(name: str, kind: ValueType, entry: AttributeEntry, forms: tuple[FormSpec, ...]) -> Attribute:
    return Attribute(
        id=name,
        type=kind,
        type_version=entry.type_version,
        category=entry.category,
        key_class=entry.key_class,
        forms=forms,
        scale=entry.scale or 0,
        searchable=entry.searchable,
        retention_seconds=seconds(entry.retention or ""),
    )


def _check_validation(
    document: Document, attribute: Attribute, rules: ValidationEntry, problems: Problems
) -> None:
    where = ("attributes", attribute.id, "validation")
    for key, fits in _FITS.items():
        if getattr(rules, key) is not None and attribute.type not in fits:
            message = f"{key!r} does not fit type {attribute.type.value!r}"
            problems.add(document.path, document.key(*where, key), message)
            return
    if rules.pattern is not None:
        try:
            re.compile(rules.pattern)
        except (re.error, RecursionError, OverflowError) as error:
            mark = document.value(*where, "pattern")
            problems.add(document.path, mark, f"not a regular expression: {error}")
    for place, text in enumerate(rules.allowed or ()):
        if not _is_value(attribute, text):
            mark = document.value(*where, "allowed", place)
            problems.add(document.path, mark, f"{text!r} is no {attribute.type.value}")
    if repeated(rules.allowed or ()):
        problems.add(document.path, document.value(*where, "allowed"), "a value stands twice")
    _check_bounds(document, attribute, rules, problems)


def _check_bounds(
    document: Document, attribute: Attribute, rules: ValidationEntry, problems: Problems
) -> None:
    where = ("attributes", attribute.id, "validation")
    good = True
    for key, text in (("minimum", rules.minimum), ("maximum", rules.maximum)):
        if text is not None and not _is_value(attribute, text):
            mark = document.value(*where, key)
            problems.add(document.path, mark, f"{text!r} is no {attribute.type.value}")
            good = False
    if good and rules.minimum is not None and rules.maximum is not None:
        bounded = replace(attribute, maximum=rules.maximum)
        try:
            encode_value(bounded, _typed(attribute.type, rules.minimum))
        except ValueFormatError:
            problems.add(document.path, document.value(*where, "minimum"), "minimum is above maximum")


def _is_value(attribute: Attribute, text: str) -> bool:
    """Whether `text` spells a value of the attribute's type."""
    try:
        encode_value(attribute, _typed(attribute.type, text))
    except ValueFormatError:
        return False
    return True


def _typed(kind: ValueType, text: str) -> str | int | float:
    """Raises: ValueFormatError: `text` is no number where one is needed."""
    if kind in _INTEGERS:
        if not _INTEGER.fullmatch(text):
            raise ValueFormatError("must be an integer")
        return int(text)
    if kind is ValueType.DOUBLE:
        if not _DIGITS.fullmatch(text):
            raise ValueFormatError("must be a number")
        return float(text)
    return text
