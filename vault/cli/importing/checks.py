"""Holds a map against the columns of a file and the attributes of the policies, before any row is read."""

from collections.abc import Iterator, Mapping
from typing import Final

from vault.cli.importing.convert import parsing_kinds
from vault.cli.importing.mapping import AttributeSource, MapFile, raise_problems
from vault.cli.importing.rows import Table, looks_like_data
from vault.cli.importing.templates import ROW
from vault.domain.types import Attribute
from vault.policy.problems import Problems
from vault.policy.yamlfile import Where

_MOST_NAMED: Final = 20
_DELIMITERS: Final = ",;\t|"


def check_map(found: MapFile, table: Table, attributes: Mapping[str, Attribute]) -> None:
    """Every column of the file is mapped or ignored; every column and attribute of the map exists.

    Raises:
        MapError: each column or attribute that file, map or policies do not know, with a suggestion.
    """
    problems = Problems()
    _check_columns(problems, found, table)
    for name, source in found.map.attributes.items():
        if name not in attributes:
            problems.unknown(
                found.document.path, found.document.key("attributes", name), "attribute", name, attributes
            )
            continue
        _check_conversion(problems, found, source, attributes[name])
    if len(problems) and table.fixed and not found.map.file.columns:
        problems = _without_values(problems, found, table.columns)
    raise_problems(problems)


def _without_values(problems: Problems, found: MapFile, columns: tuple[str, ...]) -> Problems:
    """The problems, or one instead of all where the names of columns may be the values of a first row."""
    uncut = len(columns) == 1 and any(delimiter in columns[0] for delimiter in _DELIMITERS)
    if not uncut and not looks_like_data(columns):
        return problems
    instead = Problems()
    message = (
        f"the header is one column: is {found.map.file.delimiter!r} the right delimiter?"
        if uncut
        else "the first line of the file looks like data: name its columns by `file: {columns: [...]}`"
    )
    instead.add(found.document.path, found.document.key("file"), message)
    return instead


def _check_columns(problems: Problems, found: MapFile, table: Table) -> None:
    document, columns = found.document, table.columns
    if table.fixed:
        for where, column in _named(found):
            if column not in columns:
                problems.unknown(document.path, document.value(*where), "column", column, columns)
    for place, column in enumerate(found.map.ignore):
        if column in found.map.columns:
            problems.add(
                document.path, document.value("ignore", place), f"column {column!r} is mapped and ignored"
            )
    left = [name for name in columns if name not in found.map.columns and name not in found.map.ignore]
    for column in left[:_MOST_NAMED]:
        problems.add(
            document.path,
            document.key("attributes"),
            f"column {column!r} is neither mapped nor ignored: add it under `attributes` or `ignore`",
        )
    if len(left) > _MOST_NAMED:
        problems.add(
            document.path, document.key("attributes"), f"... and {len(left) - _MOST_NAMED} more columns"
        )


def _named(found: MapFile) -> Iterator[tuple[Where, str]]:
    import_map = found.map
    for column in import_map.customer_number.columns:
        yield ("customer_number", "column"), column
    if import_map.jurisdictions.column:
        yield ("jurisdictions", "column"), import_map.jurisdictions.column
    for name, source in import_map.attributes.items():
        for column in source.columns:
            yield ("attributes", name, "column"), column
    for place, column in enumerate(import_map.ignore):
        yield ("ignore", place), column


def _check_conversion(
    problems: Problems, found: MapFile, source: AttributeSource, attribute: Attribute
) -> None:
    document = found.document
    where = ("attributes", attribute.id)
    if source.template and source.template.counts_rows:
        problems.add(document.path, document.value(*where), f"`{{{ROW}}}` is for customer_number alone")
    kinds = parsing_kinds(source.convert)
    wanted = attribute.type.value
    for kind, types in kinds.items():
        if attribute.type not in types:
            problems.add(
                document.path,
                document.key(*where, "convert", kind),
                f"`{kind}` does not make a {wanted}, which {attribute.id!r} is in attributes.yaml",
            )
    if len(kinds) > 1:
        problems.add(
            document.path,
            document.key(*where, "convert"),
            "at most one of " + ", ".join(f"`{kind}`" for kind in kinds),
        )
