"""What an import did, for people and for programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

from vault.cli.importing.outcome import Totals
from vault.cli.output import print_facts, print_table

CHECKED: Final = "checked, nothing was sent"
IMPORTED: Final = "imported"
DONE_BEFORE: Final = "already imported, nothing to do"
_REASONS_SHOWN: Final = 20
_FACTS: Final = ("rows", "fit", "sent", "earlier", "replayed", "rejected", "rejects", "report")


@dataclass(frozen=True, slots=True)
class Summary:
    """`parts` maps `attributes` and `consents` to counts, reasons and where the rejects are."""

    file: str
    state: str
    import_id: str
    parts: Mapping[str, Mapping[str, Any]]

    @property
    def rejects_now(self) -> bool:
        """Whether this run, not an earlier one, rejected rows."""
        return self.state != DONE_BEFORE and any(part["rejected"] for part in self.parts.values())

    def document(self) -> dict[str, Any]:
        """The summary as JSON."""
        return {"file": self.file, "state": self.state, "import": self.import_id, "parts": self.parts}


def part_of(
    totals: Totals, omitted: Mapping[tuple[str, str], int], rejects: str, report: str
) -> dict[str, Any]:
    """Counts of one part: rows = sent + earlier + rejected, where `earlier` went in by an earlier run."""
    return {
        "rows": totals.read,
        "fit": totals.read - totals.rejected,
        "sent": totals.sent,
        "earlier": totals.earlier,
        "replayed": totals.replayed,
        "rejected": totals.rejected,
        "rejects": rejects if totals.rejected else "",
        "report": report if totals.rejected else "",
        "reasons": _ranked(totals.reasons),
        "omitted": _ranked(omitted),
    }


def all_earlier(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The counts of a finished import as a later run sees them: what was sent went in earlier."""
    return {
        name: {**part, "earlier": part["earlier"] + part["sent"], "sent": 0, "replayed": 0}
        for name, part in parts.items()
    }


def print_summary(summary: Summary) -> None:
    """The summary as text."""
    click.echo(f"{summary.file}: {summary.state}")
    for name, part in summary.parts.items():
        click.echo(f"{name}:")
        print_facts({f"  {key}": part[key] for key in _FACTS if part.get(key) or key == "rows"})
        _print_reasons("rejected because", part["reasons"])
        _print_reasons("values left out because", part["omitted"])


def _print_reasons(title: str, reasons: list[dict[str, Any]]) -> None:
    if reasons:
        shown = [(each["reason"], each["column"], each["rows"]) for each in reasons[:_REASONS_SHOWN]]
        print_table([title, "column", "rows"], shown)


def _ranked(counts: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"column": column, "reason": reason, "rows": rows} for (column, reason), rows in ordered]
