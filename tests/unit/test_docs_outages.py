"""The table of outages in docs/operations/keys.md is what the tests show."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_row_is_produced_by_a_test() -> None:
    """Each row of the table names tests, and each of them is one of the outage tests."""
    section = (ROOT / "docs/operations/keys.md").read_text("utf-8").partition("\n## Outages\n")[2]
    section = section.partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2]) for row in rows]
    known = {
        name
        for path in (ROOT / "tests/integration").glob("test_outages_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text("utf-8"), re.MULTILINE)
    }
    assert len(rows) > 15
    assert [names for names in named if not names or not known.issuperset(names)] == []
