"""Files of any content: every row is read or named, and nothing is changed on the way."""

import csv
import io
import json
import string
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.cli import attributes
from vault.cli.importing.convert import Cell, CellError
from vault.cli.importing.mapping import AttributeSource, FileFormat
from vault.cli.importing.readers import open_table
from vault.cli.importing.rows import Row
from vault.cli.importing.templates import parse_template
from vault.domain.values import decode_value, encode_value

ATTRIBUTES = attributes()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TABLES = st.integers(2, 5).flatmap(
    lambda width: st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1, max_size=8)
)


def read(content: bytes, name: str, **layout: object) -> tuple[str, list[Row]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        with open_table(path, FileFormat(**layout)) as table:  # type: ignore[arg-type]
            return table.preamble, list(table.rows())


@given(
    TABLES, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["utf-8", "utf-16"])
)
@settings(max_examples=60, deadline=None)
def test_what_a_csv_writer_writes_is_read_back(
    table: list[list[str]], delimiter: str, ending: str, encoding: str
) -> None:
    """Any text, delimiter, line end and encoding; the raw rows are the file again."""
    columns = [f"c{place}" for place in range(len(table[0]))]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([columns, *table])
    preamble, rows = read(
        out.getvalue().encode(encoding), "a.csv", delimiter=delimiter, encoding=encoding, trim=False
    )
    assert [list(row.cells.values()) for row in rows] == table
    assert preamble + "".join(row.raw for row in rows) == out.getvalue()
    assert [row.number for row in rows] == list(range(1, len(table) + 1))


@given(
    st.lists(
        st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b" ", b"\xff", b"\0", b"\xc3\xa9"]), max_size=30
    )
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_rows_or_problems_and_none_is_lost(pieces: list[bytes]) -> None:
    """The raw rows are the bytes of the file, in order, but for blank lines."""
    content = b"".join(pieces)
    _, rows = read(b"a,b\n" + content, "a.csv")
    rest = content
    for row in rows:
        skipped, found, rest = rest.partition(row.raw.encode("utf-8", "surrogateescape"))
        assert found
        assert not skipped.strip(b' \r\n"')
        assert bool(row.problem) != bool(row.cells)
    assert not rest.strip(b' \r\n"')


@given(
    st.lists(
        st.dictionaries(TEXT.filter(bool), TEXT | st.none() | st.integers(), min_size=1),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=60, deadline=None)
def test_json_lines_come_back_as_they_were_written(documents: list[dict[str, object]]) -> None:
    """Text as text, integers as digits, null as missing."""
    content = "".join(json.dumps(each) + "\n" for each in documents)
    _, rows = read(content.encode(), "a.jsonl")
    assert [dict(row.cells) for row in rows] == [
        {key: value if value is None or isinstance(value, str) else str(value) for key, value in each.items()}
        for each in documents
    ]


@given(
    st.sampled_from(sorted(ATTRIBUTES)),
    TEXT | st.from_regex(r"-?[0-9]{1,6}([.,][0-9]{1,4})?", fullmatch=True),
)
@settings(max_examples=300, deadline=None)
def test_a_cell_becomes_a_value_that_can_be_stored_or_a_reason(attribute: str, text: str) -> None:
    """No other exception, and the value is one of the declared type."""
    declared = ATTRIBUTES[attribute]
    cell = Cell(AttributeSource(column="x"), declared, trim=True)
    try:
        value = cell.value({"x": text}, 1)
    except CellError:
        return
    if value is not None:
        decode_value(declared.type, encode_value(declared, value))


@given(st.text(alphabet=string.ascii_letters + "{}:! ", max_size=15))
@settings(max_examples=200, deadline=None)
def test_a_template_is_read_or_refused(text: str) -> None:
    """And one that was read can be filled."""
    try:
        template = parse_template(text)
    except ValueError:
        return
    assert template.fill(dict.fromkeys(template.columns, "x"), 1) is not None
