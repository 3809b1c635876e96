"""Readers: awkward files become rows, and every row is accounted for, byte by byte."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import write
from vault.cli.importing.mapping import FileFormat
from vault.cli.importing.readers import open_table
from vault.cli.importing.rows import ReadError, Row


def read(path: Path, **layout: Any) -> tuple[tuple[str, ...], list[Row]]:
    with open_table(path, FileFormat(**layout)) as table:
        return table.columns, list(table.rows())


def cells(path: Path, **layout: Any) -> list[list[str | None]]:
    return [list(row.cells.values()) for row in read(path, **layout)[1]]


def test_blanks_after_commas_and_in_the_header_are_no_part_of_names_and_values(tmp_path: Path) -> None:
    """The FEBRL shape: `a, b` has the columns a and b, and a quoted value may follow the blank."""
    path = write(tmp_path, "a.csv", 'rec_id, given name\nr1, "O\'Neil, Sr"\n')
    columns, found = read(path)
    assert columns == ("rec_id", "given name")
    assert dict(found[0].cells) == {"rec_id": "r1", "given name": "O'Neil, Sr"}


def test_quoted_values_hold_delimiters_doubled_quotes_and_line_ends(tmp_path: Path) -> None:
    """RFC 4180 quoting; the raw text of a row of several lines comes back whole."""
    path = write(tmp_path, "a.csv", 'a;b\n"x;y";"say ""hi""\nand go"\nlast;one\n')
    _, found = read(path, delimiter=";")
    assert [list(row.cells.values()) for row in found] == [["x;y", 'say "hi"\nand go'], ["last", "one"]]
    assert [(row.number, row.line) for row in found] == [(1, 2), (2, 4)]
    assert found[0].raw == '"x;y";"say ""hi""\nand go"\n'


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, mark: bytes) -> None:
    """Excel writes one."""
    assert read(write(tmp_path, "a.csv", mark + b"id,b\n1,2\n"))[0] == ("id", "b")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8"])
def test_the_encoding_is_the_one_that_was_said(tmp_path: Path, encoding: str) -> None:
    """Accents survive in every encoding."""
    path = write(tmp_path, "a.csv", "id,name\n1,José Ãlvares\n", encoding)
    assert cells(path, encoding=encoding) == [["1", "José Ãlvares"]]


def test_a_row_that_does_not_decode_is_one_bad_row_with_its_bytes(tmp_path: Path) -> None:
    """The rows around it are read, and its raw text gives the very bytes of the file."""
    content = b"id,name\n1,Ana\n2,Jos\xe9\n3,Rui\n"
    _, found = read(write(tmp_path, "a.csv", content))
    assert [row.problem for row in found] == ["", "is not valid utf-8", ""]
    assert found[1].raw.encode("utf-8", "surrogateescape") == b"2,Jos\xe9\n"


def test_torn_rows_are_counted_and_named(tmp_path: Path) -> None:
    """Too few and too many values, with the counts."""
    _, found = read(write(tmp_path, "a.csv", "a,b\n1\n1,2,3\n1,2\n"))
    assert [row.problem for row in found] == [
        "has 1 value, the header has 2 columns",
        "has 3 values, the header has 2 columns",
        "",
    ]


def test_an_unclosed_quote_costs_its_own_row_alone(tmp_path: Path) -> None:
    """It would otherwise swallow the rest of the file as one value."""
    _, found = read(write(tmp_path, "a.csv", 'a,b\n1,"oops\n2,x\n3,y\n'))
    assert [bool(row.problem) for row in found] == [True, False, False]
    assert [(row.number, row.line) for row in found] == [(1, 2), (2, 3), (3, 4)]
    assert found[0].raw == '1,"oops\n'


def test_text_after_a_closing_quote_is_a_bad_row(tmp_path: Path) -> None:
    """`"a"b` is not glued together."""
    _, found = read(write(tmp_path, "a.csv", 'a,b\n1,"x"y\n2,z\n'))
    assert [bool(row.problem) for row in found] == [True, False]


def test_a_torn_row_of_several_lines_is_rejected_whole(tmp_path: Path) -> None:
    """What stands inside of its quoted value must never be read as a row of its own."""
    _, found = read(write(tmp_path, "a.csv", 'a,b\n1,"note\nC2,evil\n",x\n3,y\n'))
    assert [bool(row.problem) for row in found] == [True, False]
    assert list(found[1].cells.values()) == ["3", "y"]


def test_apostrophes_and_quotes_inside_of_words_are_characters(tmp_path: Path) -> None:
    """`kersey' south` and `5" disk` are values."""
    path = write(tmp_path, "a.csv", "a,b\nkersey' south,5\" disk\n")
    assert cells(path) == [["kersey' south", '5" disk']]


def test_without_quoting_a_quote_is_a_character(tmp_path: Path) -> None:
    """`quote: none`."""
    assert cells(write(tmp_path, "a.csv", 'a,b\n"x,y"\n'), quote="none") == [['"x', 'y"']]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    """They neither count nor are rejected."""
    _, found = read(write(tmp_path, "a.csv", "\na,b\n\n1,2\n   \n3,4\n\n"))
    assert [(row.number, row.line) for row in found] == [(1, 4), (2, 6)]


def test_lines_may_end_in_any_way(tmp_path: Path) -> None:
    """CRLF, CR and a last line without end."""
    for ending in ("\r\n", "\r", "\n"):
        assert cells(write(tmp_path, "a.csv", ending.join(["a,b", "1,2", "3,4"]))) == [["1", "2"], ["3", "4"]]


def test_a_file_without_header_gets_its_columns_from_the_map(tmp_path: Path) -> None:
    """`columns: [...]` means that the first line is data."""
    assert cells(write(tmp_path, "a.csv", "1,2\n"), columns=["x", "y"]) == [["1", "2"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("a,b,a\n", "column 'a' is there twice"),
        ('"a,b\n', "a quote is not closed"),
    ],
)
def test_a_header_that_cannot_be_used_refuses_the_file(tmp_path: Path, content: str, message: str) -> None:
    """Nothing can be mapped on it."""
    with pytest.raises(ReadError, match=message):
        read(write(tmp_path, "a.csv", content))


def test_a_column_without_name_is_named_by_its_place(tmp_path: Path) -> None:
    """The index column that data frames write."""
    assert read(write(tmp_path, "a.csv", ",b\n1,2\n"))[0] == ("column 1", "b")


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    """No traceback, no other file."""
    with pytest.raises(ReadError, match=r"none\.csv"):
        read(tmp_path / "none.csv")


def test_json_lines_keep_digits_and_tell_missing_from_text(tmp_path: Path) -> None:
    """Numbers as written, null as missing, objects as JSON text, keys in any order."""
    first = '{"n": 12.50, "e": 1e3, "t": true, "z": null, "o": {"b": [1.0, "x"], "a": null}, "s": "05"}'
    columns, found = read(write(tmp_path, "a.jsonl", first + '\n{"s": "y"}\n'))
    assert columns == ("n", "e", "t", "z", "o", "s")
    assert dict(found[0].cells) == {
        "n": "12.50",
        "e": "1e3",
        "t": "true",
        "z": None,
        "o": '{"a":null,"b":[1.0,"x"]}',
        "s": "05",
    }
    assert dict(found[1].cells) == {"s": "y"}


@pytest.mark.parametrize(
    "line", ['{"a": 1, "a": 2}', "[1]", '{"a": NaN}', "{oops", '{"a": "\\ud800"}', "{" * 4000]
)
def test_a_line_that_is_no_strict_json_object_is_a_bad_row(tmp_path: Path, line: str) -> None:
    """Duplicate keys, NaN, lone surrogates and nesting without end among them."""
    _, found = read(write(tmp_path, "a.jsonl", f'{{"a": 1}}\n{line}\n{{"a": 2}}\n'))
    assert [bool(row.problem) for row in found] == [False, True, False]


def test_parquet_cells_become_text_and_missing_numbers_stay_missing(tmp_path: Path) -> None:
    """NaN is how data frames write a missing number."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.table(
        {
            "n": pa.array([1, None], pa.int64()),
            "f": pa.array([1.5, float("nan")], pa.float64()),
            "d": pa.array([Decimal("12.50"), None], pa.decimal128(9, 2)),
            "b": pa.array([b"\x00\xff", None], pa.binary()),
            "t": pa.array([True, None], pa.bool_()),
            "s": pa.array(["05", None], pa.string()),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    columns, found = read(tmp_path / "a.parquet")
    assert columns == ("n", "f", "d", "b", "t", "s")
    assert list(found[0].cells.values()) == ["1", "1.5", "12.50", "AP8=", "true", "05"]
    assert set(found[1].cells.values()) == {None}


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    """Damage is an error that names the file."""
    with pytest.raises(ReadError, match="not a Parquet file"):
        read(write(tmp_path, "a.parquet", b"PAR1 and more"))


def test_a_name_without_known_ending_needs_a_format(tmp_path: Path) -> None:
    """The message says how to give it."""
    with pytest.raises(ReadError, match="format: csv"):
        read(write(tmp_path, "data.bin", "a\n1\n"))


def test_rows_show_no_data_in_repr(tmp_path: Path) -> None:
    """Rows end up in tracebacks."""
    _, found = read(write(tmp_path, "a.csv", "a,b\nsecret,2\n"))
    assert "secret" not in repr(found)
