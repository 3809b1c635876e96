"""Plans: a row becomes what is sent, or all that is wrong with it."""

from pathlib import Path

import pytest

from tests.support.cli import CANARY, MAP, attributes, write
from vault.cli.importing.mapping import load_map
from vault.cli.importing.outcome import Ready, Record, Rejected
from vault.cli.importing.plan import Plan
from vault.cli.importing.rows import Row


def plan(tmp_path: Path, text: str = MAP, *, last_wins: bool = False) -> Plan:
    return Plan(load_map(write(tmp_path, "map.yaml", text)).map, attributes(), last_wins=last_wins)


def row(place: int = 1, cells: dict[str, str | None] | None = None, **more: str | None) -> Row:
    good = {"number": f"C{place}", "first name": "Ana", "born": "19840530", "balance": "1"}
    return Row(place, place + 1, {**good, **(cells or {}), **more}, "raw")


def record(outcome: Ready[Record] | Rejected) -> Record:
    assert isinstance(outcome, Ready)
    return outcome.item


def faults(outcome: Ready[Record] | Rejected) -> list[tuple[str, str]]:
    assert isinstance(outcome, Rejected)
    return [(fault.column, fault.reason) for fault in outcome.faults]


def test_a_good_row_becomes_values_without_the_missing_ones(tmp_path: Path) -> None:
    """Missing values are not written."""
    found = record(plan(tmp_path).convert(row(balance="unknown")))
    assert found.customer_number == "C1"
    assert found.values == {"given-name": "Ana", "birth-date": "1984-05-30"}
    assert found.jurisdictions == ("EU",)
    assert CANARY not in repr(Record(CANARY, {"x": CANARY}, ()))


def test_all_faults_of_a_row_are_told(tmp_path: Path) -> None:
    """Column and reason of each."""
    found = faults(plan(tmp_path).convert(row(born="19371233", balance="x", number=" ")))
    assert found == [
        ("born", "must be a calendar date as %Y%m%d"),
        ("balance", "must be a number"),
        ("number", "the customer number is missing"),
    ]


def test_a_customer_that_comes_again_is_rejected_with_the_first_line(tmp_path: Path) -> None:
    """Which of both is right only a person knows."""
    tried = plan(tmp_path)
    record(tried.convert(row(1)))
    assert faults(tried.convert(row(5, number=" C1 "))) == [
        ("number", "the same customer number as in line 2")
    ]


def test_a_rejected_row_does_not_block_the_next_one_of_its_customer(tmp_path: Path) -> None:
    """Only rows that go in count as seen."""
    tried = plan(tmp_path)
    faults(tried.convert(row(1, balance="x")))
    record(tried.convert(row(2, number="C1")))


def test_with_last_wins_a_customer_may_come_again(tmp_path: Path) -> None:
    """`--duplicates last`."""
    tried = plan(tmp_path, last_wins=True)
    record(tried.convert(row(1)))
    record(tried.convert(row(2, number="C1")))


def test_a_template_numbers_customers_by_row(tmp_path: Path) -> None:
    """A file without customer numbers."""
    tried = plan(
        tmp_path, MAP.replace("{column: number}", '{template: "UCI-{row:06d}"}') + "ignore: [number]\n"
    )
    assert record(tried.convert(row(42))).customer_number == "UCI-000042"


def test_half_a_customer_number_is_none(tmp_path: Path) -> None:
    """It could be another customer's."""
    tried = plan(tmp_path, MAP.replace("{column: number}", '{template: "{number}-{first name}"}'))
    assert record(tried.convert(row())).customer_number == "C1-Ana"
    assert faults(tried.convert(row(cells={"first name": ""})))[0] == (
        "number + first name",
        "the customer number is missing",
    )


def test_a_row_without_any_value_is_rejected(tmp_path: Path) -> None:
    """There is nothing to write."""
    found = faults(plan(tmp_path).convert(row(cells={"first name": "", "born": None, "balance": "unknown"})))
    assert found == [("", "holds no value: every mapped column is missing")]


def test_an_invalid_value_can_be_left_out_and_is_counted(tmp_path: Path) -> None:
    """`invalid: omit` keeps the row."""
    text = MAP.replace('"%Y%m%d"}}', '"%Y%m%d"}, invalid: omit}')
    tried = plan(tmp_path, text)
    assert "birth-date" not in record(tried.convert(row(born="19371233"))).values
    assert tried.omitted == {("born", "must be a calendar date as %Y%m%d"): 1}


def test_jurisdictions_can_come_from_a_column(tmp_path: Path) -> None:
    """One or more in a cell, translated by `values`."""
    text = MAP.replace("[EU]", "{column: land, values: {DE: EU}}") + "ignore: [other]\n"
    tried = plan(tmp_path, text)
    assert record(tried.convert(row(land="DE CH"))).jurisdictions == ("EU", "CH")
    assert faults(tried.convert(row(2, land=""))) == [("land", "the jurisdiction is missing")]
    assert faults(tried.convert(row(3, land="eu")))[0][0] == "land"


def test_a_key_that_the_map_does_not_know_is_a_fault_of_its_row(tmp_path: Path) -> None:
    """JSON lines can bring one in any row."""
    assert faults(plan(tmp_path).convert(row(extra="x"))) == [("extra", "is neither mapped nor ignored")]


@pytest.mark.parametrize("number", ["x" * 257, "é" * 129])
def test_a_customer_number_has_at_most_256_bytes(tmp_path: Path, number: str) -> None:
    """Bytes, not characters."""
    assert faults(plan(tmp_path).convert(row(number=number))) == [
        ("number", "a customer number has at most 256 bytes")
    ]
