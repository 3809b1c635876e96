"""`--propose-map`: a map to begin with, and attributes.yaml entries for columns that no attribute fits.

It prints names of columns, counts, formats and words of fixed lists (`unknown`, `yes`), never other values.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from vault.cli.importing.columns import Column, sample
from vault.cli.importing.guess import Guess, guess_attributes, guess_customer_number
from vault.cli.importing.mapping import FileFormat
from vault.cli.importing.readers import open_table
from vault.cli.importing.rows import looks_like_data
from vault.cli.importing.sniff import sniff
from vault.domain.types import NAME, Attribute, ValueType

_PLAIN: Final = re.compile(r"[A-Za-z_%][A-Za-z0-9_ .%/-]*[A-Za-z0-9_%]|[A-Za-z_]")
_RESERVED: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_BYTES_STEP: Final = 50


def propose(path: Path, attributes: Mapping[str, Attribute]) -> str:
    """The proposal as YAML text, which is a valid map of this file when at least one column was recognised.

    Raises:
        ReadError: the file cannot be read.
    """
    layout = sniff(path)
    with open_table(path, layout) as table:
        names = table.columns
    if layout.format == "csv" and looks_like_data(names):
        layout = layout.model_copy(update={"columns": tuple(f"column {n}" for n in range(1, len(names) + 1))})
    with open_table(path, layout) as table:
        columns = sample(table)
    number = guess_customer_number(columns)
    guesses = guess_attributes({name: each for name, each in columns.items() if name != number}, attributes)
    unknown = [name for name in columns if name not in guesses and name != number]
    rows = max((column.rows for column in columns.values()), default=0)
    return "\n".join(
        [
            f"# Proposed from {rows} rows of {path.name}. Read every line: these are guesses.",
            *_file(layout),
            "",
            *_customer(number),
            "jurisdictions: [EU]  # CHECK: whose law protects these customers?",
            "",
            "attributes:" if guesses else "attributes: {}  # no column was recognised: see below",
            *(line for guess in guesses.values() for line in _guessed(guess, columns[guess.column])),
            *_ignored(unknown),
            *(_missing_attributes([columns[name] for name in unknown]) if unknown else ()),
            "",
        ]
    )


def _file(layout: FileFormat) -> Iterator[str]:
    yield "file:"
    yield f"  format: {layout.format}"
    if layout.format == "csv":
        yield f"  delimiter: {'tab' if layout.delimiter == chr(9) else _text(layout.delimiter)}"
        if layout.quote != '"':
            yield f"  quote: {_text(layout.quote)}"
    if layout.columns:
        yield "  # CHECK: the first line looks like data, so the columns have no names yet."
        yield f"  columns: {_flow(list(layout.columns))}"
    if layout.format != "parquet" and layout.encoding != "utf-8":
        yield f"  encoding: {layout.encoding}  # CHECK: do names with accents look right?"


def _customer(number: str) -> Iterator[str]:
    if number:
        yield "# Never missing and never twice in the sample."
        yield f"customer_number: {{column: {_text(number)}}}"
    else:
        yield "# CHECK: no column names a customer once and for all; this uses the number of the row."
        yield 'customer_number: {template: "ROW-{row:08d}"}'


def _guessed(guess: Guess, column: Column) -> Iterator[str]:
    notes = []
    if guess.score < 1:
        notes.append("the names are only alike")
    if guess.fit < 1:
        notes.append(
            f"{1 - guess.fit:.1%} of the values do not fit: their rows are rejected, or say invalid: omit"
        )
    if any(word.startswith("-") and word[1:].isdigit() for word in guess.missing):
        notes.append("the only negative number: is it a missing value?")
    if "date" in guess.convert and guess.convert["date"] in ("%d/%m/%Y", "%m/%d/%Y"):
        notes.append("is the day or the month first?")
    if notes:
        yield f"  # CHECK: {'; '.join(notes)}"
    source: dict[str, Any] = {"column": guess.column}
    if guess.missing:
        source["missing"] = list(guess.missing)
    if guess.convert:
        source["convert"] = dict(guess.convert)
    empty = f"  # {column.empty} of {column.rows} are empty" if column.empty else ""
    yield f"  {guess.attribute}: {_flow(source)}{empty}"


def _ignored(unknown: list[str]) -> Iterator[str]:
    if unknown:
        yield ""
        yield "# No attribute fits these columns: they stay out until they move up."
        yield f"ignore: {_flow(unknown)}"


def _missing_attributes(columns: list[Column]) -> Iterator[str]:
    yield ""
    yield "# Entries for attributes.yaml, should these columns be kept (choose category and key class) ..."
    for column in columns:
        yield from (f"#   {line}" for line in _entry(column))
    yield "# ... and their lines for `attributes` above:"
    for column in columns:
        yield f"#   {_name(column.name)}: {_flow(_source(column))}"


def _entry(column: Column) -> Iterator[str]:
    missing = column.missing_words()
    kind, scale = column.kind(missing)
    distinct = len(column.values(missing))
    yield f"{_name(column.name)}:"
    note = f"  # {distinct} different words: consider validation.allowed" if distinct <= 20 else ""
    yield f"  type: {kind.value}{note if kind is ValueType.STRING else ''}"
    if kind is ValueType.DECIMAL:
        yield f"  scale: {scale}"
    if kind is ValueType.STRING:
        yield f"  validation: {{max_bytes: {(column.longest // _BYTES_STEP + 1) * _BYTES_STEP}}}"
    yield "  category: pd:CHOOSE"
    yield "  key_class: CHOOSE"
    yield "  forms: [clear, exists]"


def _source(column: Column) -> dict[str, Any]:
    missing = column.missing_words()
    source: dict[str, Any] = {"column": column.name}
    if missing:
        source["missing"] = missing
    if column.kind(missing)[0] is ValueType.BOOL:
        source["convert"] = {"boolean": column.truth_words(missing)}
    return source


def _name(column: str) -> str:
    """A column's name as an attribute id."""
    words = re.findall(r"[a-z0-9]+", column.lower())
    name = "-".join(words) if words and words[0][0].isalpha() else "-".join(["column", *words])
    return name if NAME.fullmatch(name) else "column"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(str(key))}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(str(value))


def _text(text: str) -> str:
    """A YAML scalar; quoted wherever another reader could take it for something else."""
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED and not text.startswith("%"):
        return text
    return json.dumps(text, ensure_ascii=False)
