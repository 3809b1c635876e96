"""What commands print: tables for people, JSON for programs.

Colours only on a terminal, never with NO_COLOR.
"""

import base64
import dataclasses
import datetime
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])
_WIDE: Final = 100_000
TABLE: Final = "table"
JSON: Final = "json"


def output_option(*more: str) -> Callable[[F], F]:
    """`--output table|json` and whatever else a command can print."""
    return click.option(
        "--output",
        type=click.Choice([TABLE, JSON, *more]),
        default=TABLE,
        show_default=True,
        help="How to print the result.",
    )


def console(*, stderr: bool = False) -> "Console":
    """A rich console that wraps and colours for a terminal only."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    plain = not stream.isatty()
    return Console(
        file=stream,
        width=_WIDE if plain else None,
        no_color=plain or bool(os.environ.get("NO_COLOR")),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table on stdout. Cells are shown as they are: no markup, control characters made visible."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, show_edge=False
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console().print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """`name: value` lines on stdout."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name + ':':<{width + 1}} {printable(value)}")


def request_facts(receipt: Any) -> dict[str, object]:
    """Which request and which record of the log a receipt of a change names."""
    done_before = " (done before, nothing changed)" if receipt.replayed else ""
    return {
        "request id": receipt.request_id + done_before,
        "record": receipt.record_id,
        "position": receipt.position,
    }


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(plain(document), indent=2, ensure_ascii=False))


def print_json_line(document: object) -> None:
    """One line of JSON lines on stdout."""
    click.echo(json.dumps(plain(document), separators=(",", ":"), ensure_ascii=False))


def printable(value: object) -> str:
    """The text of a cell. A stored value could otherwise steer the reader's terminal."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "" if value is None else str(plain(value)) if not isinstance(value, str) else value
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def plain(value: object) -> Any:
    """What JSON can hold: moments and dates as ISO 8601, decimals as text, bytes as base64."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
