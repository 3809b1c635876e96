"""`datavault audit`: the log of who read what, when and why."""

import csv
import datetime
import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click

from vault.cli.arguments import Moment
from vault.cli.connection import Connector, client_options
from vault.cli.output import JSON, output_option, print_json_line, print_table, printable
from vault.domain.actions import ACTIONS

_CSV: Final = "csv"
_LARGEST_PAGE: Final = 1_000
_ACTION_HELP: Final = f"What was done: {', '.join(ACTIONS)}."
_COLUMNS: Final = (
    "position",
    "time",
    "caller",
    "action",
    "purpose",
    "subject",
    "outcome",
    "attributes",
    "id",
    "log",
)


@click.group()
def audit() -> None:
    """Look into the audit log."""


@audit.command()
@click.option(
    "--from", "start_time", type=Moment(past=True), help="At or after this moment, or so long ago: 24h."
)
@click.option("--to", "end_time", type=Moment(past=True), help="Before this moment, or so long ago.")
@click.option("--caller", default="", help="Caller id.")
@click.option("--customer", "customer_number", default="", help="Customer number.")
@click.option("--purpose", default="", help="Purpose id.")
@click.option("--attribute", default="", help="Attribute the record mentions.")
@click.option("--outcome", type=click.Choice(["authorised", "partial", "denied", "error"]), default=None)
@click.option("--action", type=click.Choice(ACTIONS), default=None, metavar="ACTION", help=_ACTION_HELP)
@click.option("--newest-first", is_flag=True, help="Newest first instead of oldest first.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most so many; 0: all."
)
@client_options
@output_option(_CSV)
def query(
    limit: int,
    outcome: str | None,
    action: str | None,
    start_time: datetime.datetime | None,
    end_time: datetime.datetime | None,
    connector: Connector,
    output: str,
    **filters: Any,
) -> None:
    """Records that match all given filters, page after page; the query is itself on record.

    JSON output is JSON lines: the exact record, with its position and its log.

    \b
      datavault audit query --customer 4711 --from 30d
      datavault audit query --outcome denied --purpose personalised-offers --limit 0 --output csv
    """
    if start_time and end_time and start_time > end_time:
        raise click.UsageError("--from is later than --to: no record can match")
    with connector.open() as client:
        records = client.query_records(
            outcome=outcome or "",
            action=action or "",
            start_time=start_time,
            end_time=end_time,
            # one more than is shown tells whether there are more
            page_size=min(limit + 1, _LARGEST_PAGE) if limit else _LARGEST_PAGE,
            **filters,
        )
        wanted = itertools.islice(records, limit) if limit else records
        documents = ({"position": each.position, "log": each.log, **each.document} for each in wanted)
        _PRINTERS[output](documents)
        if limit and next(records, None) is not None:
            click.echo("more records follow: --limit 0 shows all", err=True)


def _print_json(documents: Iterable[dict[str, Any]]) -> None:
    for document in documents:
        print_json_line(document)


def _print_csv(documents: Iterable[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for document in documents:
        writer.writerow([_formula_free(cell) for cell in _cells(document)])


def _print_table(documents: Iterable[dict[str, Any]]) -> None:
    print_table(_COLUMNS[:-2], (list(_cells(document))[:-2] for document in documents))


def _cells(document: dict[str, Any]) -> Iterator[str]:
    for column in _COLUMNS:
        value = document.get(column, "")
        if column == "time":
            value = _moment(value)
        elif column == "attributes":
            value = " ".join(_attribute(name, each) for name, each in sorted(value.items())) if value else ""
        yield printable(value)


def _attribute(name: str, entry: Any) -> str:
    """`income=generalise`, or `iban!not-permitted` for a denial."""
    if not isinstance(entry, dict):
        return name
    return f"{name}!{entry['reason']}" if "reason" in entry else f"{name}={entry.get('act', '')}"


def _moment(microseconds: Any) -> str:
    if not isinstance(microseconds, int):
        return ""
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(
        microseconds=microseconds
    )
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _formula_free(cell: str) -> str:
    """A spreadsheet runs cells that begin like a formula; an apostrophe makes them text."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell


_PRINTERS: Final = {JSON: _print_json, _CSV: _print_csv, "table": _print_table}
