"""MAP.yaml: which column of the file becomes which attribute, read strictly.

The schema is that of docs/operations/import.md; every problem is told with file, line and column.
"""

import codecs
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vault.cli.importing.templates import Template, parse_template
from vault.domain.errors import ConfigurationError
from vault.domain.faults import plain_fault
from vault.policy.problems import START, PolicyError, PolicyProblem, Problems
from vault.policy.textfile import decode
from vault.policy.yamlfile import Document, Where, read_yaml


class MapError(ConfigurationError):
    """The map is refused; `problems` are all that is wrong, in order of place."""

    def __init__(self, problems: Iterable[PolicyProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def _word(value: object) -> object:
    """YAML reads `-1` as a number and `true` as a truth value; in a file they are words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) else value


def _words(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _delimiter(value: object) -> object:
    text = {"tab": "\t", "\\t": "\t"}.get(str(value), str(value))
    if len(text) != 1:
        raise ValueError("must be one character, or tab")
    return text


def _quote(value: object) -> object:
    if value != "none" and (not isinstance(value, str) or len(value) != 1):
        raise ValueError("must be one character, or none")
    return "" if value == "none" else value


def _encoding(value: object) -> object:
    try:
        info = codecs.lookup(str(value))
        text_encoding = bool(getattr(info, "_is_text_encoding", True))
    except (LookupError, ValueError):
        text_encoding = False
    if not text_encoding:
        raise ValueError("unknown encoding; often used: utf-8, cp1252, latin-1, utf-16")
    return value


def _template(value: object) -> object:
    return parse_template(value) if isinstance(value, str) else value


Word = Annotated[str, BeforeValidator(_word)]
Words = Annotated[tuple[Word, ...], BeforeValidator(_words)]
TemplateText = Annotated[Template, BeforeValidator(_template)]


class Strict(BaseModel):
    """No unknown keys, no guessing of types, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class FileFormat(Strict):
    """How the file is written."""

    format: Literal["", "csv", "jsonl", "parquet"] = ""
    delimiter: Annotated[str, BeforeValidator(_delimiter)] = ","
    quote: Annotated[str, BeforeValidator(_quote)] = '"'
    encoding: Annotated[str, BeforeValidator(_encoding)] = "utf-8"
    trim: bool = True
    columns: tuple[Word, ...] = Field(default=(), strict=False)


class Source(Strict):
    """Where a text comes from: one column, or a template over several."""

    column: Word = ""
    template: TemplateText | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.column) == bool(self.template):
            raise ValueError("needs either `column` or `template`")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return self.template.columns if self.template else (self.column,)


class NumberFormat(Strict):
    """`point` before the digits after it, `group` between thousands."""

    point: Annotated[str, Field(min_length=1, max_length=1)] = "."
    group: Annotated[str, Field(max_length=1)] = ""
    leading_zeros: bool = False


class Convert(Strict):
    """How the text of a column becomes a value; applied in this order, at most one of the parsing ones."""

    values: dict[str, Word] = Field(default_factory=dict)
    case: Literal["", "lower", "upper", "title"] = ""
    date: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(default=(), strict=False)
    timestamp: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(default=(), strict=False)
    boolean: dict[str, bool] | None = None
    number: NumberFormat | None = None
    bytes: Literal["", "base64", "hex", "text"] = ""


class AttributeSource(Source):
    """Where an attribute comes from and what its column says."""

    missing: Words = Field(default=(), strict=False)
    trim: bool = True
    convert: Convert = Convert()
    invalid: Literal["reject", "omit"] = "reject"


class Jurisdictions(Strict):
    """Jurisdictions of every customer (`always`), or a column with one or more of them."""

    always: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(default=(), strict=False)
    column: Word = ""
    separator: str = " "
    values: dict[str, Word] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.column) == bool(self.always):
            raise ValueError("needs a list such as [EU], or {column: name}")
        return self


def _jurisdictions(value: object) -> object:
    return {"always": value} if isinstance(value, list | str) else value


class ImportMap(Strict):
    """A whole MAP.yaml."""

    file: FileFormat = FileFormat()
    customer_number: Source
    jurisdictions: Annotated[Jurisdictions, BeforeValidator(_jurisdictions)]
    attributes: dict[str, AttributeSource] = Field(min_length=1)
    ignore: tuple[Word, ...] = Field(default=(), strict=False)

    @property
    def columns(self) -> frozenset[str]:
        """Every column it uses."""
        sources: list[Source] = [self.customer_number, *self.attributes.values()]
        used = {column for source in sources for column in source.columns}
        return frozenset(used | ({self.jurisdictions.column} - {""}))


_KEYS: Final = frozenset(
    name
    for model in (ImportMap, FileFormat, AttributeSource, Convert, NumberFormat, Jurisdictions)
    for name in model.model_fields
    if name != "always"
)


@dataclass(frozen=True, slots=True)
class MapFile:
    """A map and the document it was read from, so that later findings can name their place too."""

    map: ImportMap
    document: Document


def load_map(path: Path) -> MapFile:
    """Read a MAP.yaml by itself; `checks.py` holds it against a file and the policies.

    Raises:
        MapError: every problem with its place.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MapError([PolicyProblem(str(path), *START, f"cannot be read: {error.strerror}")]) from None
    problems = Problems()
    text = decode(str(path), content, problems)
    document = read_yaml(str(path), text, problems) if text is not None else None
    if document is None:
        raise_problems(problems)
        raise AssertionError("a file without a document has a problem")
    try:
        return MapFile(ImportMap.model_validate(document.data), document)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            _add(problems, document, detail)
    raise_problems(problems)
    raise AssertionError("a map that is not valid has a problem")


def raise_problems(problems: Problems) -> None:
    """Raises: MapError: when there is at least one problem."""
    try:
        problems.raise_any()
    except PolicyError as error:
        raise MapError(error.errors) from None


def _add(problems: Problems, document: Document, detail: Mapping[str, Any]) -> None:
    where = _place(document, detail["loc"])
    if detail["type"] == "extra_forbidden":
        problems.unknown(document.path, document.key(*where), "key", str(where[-1]), _KEYS)
    elif detail["type"] == "missing":
        problems.add(document.path, document.value(*where), f"`{detail['loc'][-1]}` is missing")
    else:
        field = f"`{where[-1]}`: " if where else ""
        problems.add(document.path, document.value(*where), field + plain_fault(detail))


def _place(document: Document, loc: tuple[str | int, ...]) -> Where:
    """The part of pydantic's path that stands in the file; the rest names types and model fields."""
    where: Where = ()
    for part in loc:
        if (*where, part) in document.values:
            where = (*where, part)
    return where
