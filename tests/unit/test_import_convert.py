"""Conversions: the text of a cell becomes a value of the declared type, or a reason without the text."""

from typing import Any

import pytest

from tests.support.cli import CANARY, attributes
from vault.cli.importing.convert import Cell, CellError
from vault.cli.importing.mapping import AttributeSource

ATTRIBUTES = attributes()


def value(attribute: str, text: str | None, **source: Any) -> Any:
    """What `text` in column x becomes."""
    cell = Cell(AttributeSource.model_validate({"column": "x", **source}), ATTRIBUTES[attribute], trim=True)
    return cell.value({"x": text}, 1)


@pytest.mark.parametrize(
    ("attribute", "text", "convert", "expected"),
    [
        ("given-name", "  Ana ", {}, "Ana"),
        ("given-name", "o'brien-smith jr", {"case": "title"}, "O'brien-Smith Jr"),
        ("postcode", "0810", {}, "0810"),
        ("occupation", "admin.", {"values": {"admin.": "administration"}}, "administration"),
        ("occupation", "other", {"values": {"admin.": "administration"}}, "other"),
        ("birth-date", "1984-05-30", {}, "1984-05-30"),
        ("birth-date", "19840530", {"date": "%Y%m%d"}, "1984-05-30"),
        ("birth-date", "30/5/1984", {"date": ["%Y-%m-%d", "%d/%m/%Y"]}, "1984-05-30"),
        ("birth-date", "30 may 1984", {"date": "%d %b %Y"}, "1984-05-30"),
        ("married", "true", {}, True),
        ("married", "no", {"boolean": {"yes": True, "no": False}}, False),
        ("contacts", "42", {}, 42),
        ("contacts", "42.0", {}, 42),
        ("contacts", "1.234.567", {"number": {"point": ",", "group": "."}}, 1234567),
        ("contacts", "007", {"number": {"leading_zeros": True}}, 7),
        ("balance", "-12.5", {}, "-12.5"),
        ("balance", "12.5000", {}, "12.50"),
        ("balance", "1e3", {}, "1000"),
        ("balance", "1.234,5", {"number": {"point": ",", "group": "."}}, "1234.5"),
        ("balance", "1 234,50", {"number": {"point": ",", "group": " "}}, "1234.50"),
        ("score", "0.25", {}, 0.25),
        ("seen", "1970-01-01T01:00:00.5+01:00", {}, 500_000),
        ("seen", "1970-01-01 00:00:01", {"timestamp": "%Y-%m-%d %H:%M:%S"}, 1_000_000),
        ("seen", "1.5", {"timestamp": "unix"}, 1_500_000),
        ("seen", "1500", {"timestamp": "unix-ms"}, 1_500_000),
        ("photo", "AP8=", {}, b"\x00\xff"),
        ("photo", "00ff", {"bytes": "hex"}, b"\x00\xff"),
        ("photo", "é", {"bytes": "text"}, "é".encode()),
        ("holdings", '{"a": [1]}', {}, '{"a": [1]}'),
    ],
)
def test_text_becomes_the_declared_type(attribute: str, text: str, convert: Any, expected: Any) -> None:
    """One line of the table of conversions each."""
    found = value(attribute, text, convert=convert)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("attribute", "text", "convert"),
    [
        ("birth-date", "19371233", {"date": "%Y%m%d"}),
        ("birth-date", "1937123", {"date": "%Y%m%d"}),
        ("birth-date", "2023-02-29", {}),
        ("birth-date", "iso", {}),
        ("married", "maybe", {"boolean": {"yes": True, "no": False}}),
        ("married", "YES", {"boolean": {"yes": True, "no": False}}),
        ("contacts", "-1", {}),
        ("contacts", "1.5", {}),
        ("contacts", "007", {}),
        ("contacts", "12 monkeys", {}),
        ("contacts", "9" * 30, {}),
        ("contacts", "٤٢", {}),
        ("balance", "12.505", {}),
        ("balance", "1,234.50", {}),
        ("balance", "1.5", {"number": {"point": ","}}),
        ("balance", "1.23,5", {"number": {"point": ",", "group": "."}}),
        ("balance", "NaN", {}),
        ("balance", "1e999", {}),
        ("score", "Infinity", {}),
        ("seen", "2020-01-01T00:00:00", {}),
        ("seen", "1e300", {"timestamp": "unix"}),
        ("seen", "99999999999999", {"timestamp": "unix"}),
        ("photo", "no base64!", {}),
        ("photo", "0g", {"bytes": "hex"}),
        ("holdings", "{", {}),
        ("holdings", '{"a": 1, "a": 2}', {}),
        ("postcode", "much too long a code", {}),
        ("email", "nobody", {}),
        ("given-name", "\ud800", {}),
    ],
)
def test_what_does_not_fit_is_refused(attribute: str, text: str, convert: Any) -> None:
    """Impossible dates, wrong words, too many digits, what the attribute's validation refuses."""
    with pytest.raises(CellError):
        value(attribute, text, convert=convert)


@pytest.mark.parametrize("attribute", sorted(set(ATTRIBUTES) - {"given-name", "occupation", "health-note"}))
def test_no_reason_holds_the_text(attribute: str) -> None:
    """A reason goes to the terminal and to the report."""
    with pytest.raises(CellError) as caught:
        value(attribute, f"{CANARY} {CANARY}")
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", [None, "", "   ", "unknown", " unknown "])
def test_missing_words_and_empty_cells_are_missing(text: str | None) -> None:
    """Nothing is written for them."""
    assert value("given-name", text, missing=["unknown"]) is None


def test_a_missing_word_holds_for_its_own_column(tmp_path: Any) -> None:
    """`pdays` -1 is missing, `balance` -1 is a balance."""
    assert value("contacts", "-1", missing=["-1"]) is None
    assert value("balance", "-1") == "-1"


def test_without_trimming_blanks_are_kept() -> None:
    """`trim: false`."""
    assert value("given-name", " Ana ", trim=False) == " Ana "


def test_a_template_joins_what_is_there() -> None:
    """A missing part leaves no stray blank or comma, and all missing is missing."""
    source = AttributeSource.model_validate({"template": "{no} {street}, {town}!", "missing": ["?"]})
    cell = Cell(source, ATTRIBUTES["given-name"], trim=True)

    def joined(no: str | None, street: str | None, town: str | None) -> Any:
        return cell.value({"no": no, "street": street, "town": town}, 1)

    assert joined("7", "Green", "Rye") == "7 Green, Rye!"
    assert joined("?", " Green ", "Rye") == "Green, Rye!"
    assert joined("7", "", None) == "7!"
    assert joined("", "?", None) is None
