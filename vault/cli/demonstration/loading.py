"""Puts the customers into the vault, and what they said about personalised offers."""

import contextlib
import datetime
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from vault.cli.demonstration.engine import PURPOSE
from vault.cli.demonstration.people import Customer
from vault.cli.exits import CommandError
from vault.cli.output import console
from vault.client import Client, ConsentState, WriteItem

T = TypeVar("T")

NOTICE: Final = "offers"
CURRENT: Final = 2
"""The version of the notice that counts; the one before did not name balances and holdings."""
_LIFETIME: Final = datetime.timedelta(days=700)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a customer said when asked: a state, and the version of the notice that was shown."""

    state: ConsentState
    version: int = 0


GIVEN: Final = Answer(ConsentState.GIVEN, CURRENT)
_ANSWERS: Final[tuple[tuple[Answer | None, int], ...]] = (
    (GIVEN, 55),
    (Answer(ConsentState.GIVEN, CURRENT - 1), 10),
    (Answer(ConsentState.REFUSED), 10),
    (None, 25),
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What went in, and how long it took."""

    customers: int
    values: int
    consents: int
    seconds: float


def answers_of(customers: Sequence[Customer], seed: int) -> list[Answer | None]:
    """What each said; the first said yes to the current notice, the second was never asked."""
    chance = random.Random(seed)  # noqa: S311 - people are made up, nothing is secret
    kinds, shares = zip(*_ANSWERS, strict=True)
    drawn: list[Answer | None] = chance.choices(kinds, shares, k=max(len(customers) - 2, 0))
    return [GIVEN, None, *drawn]


def load(
    client: Client, customers: Sequence[Customer], answers: Sequence[Answer | None], now: datetime.datetime
) -> Loaded:
    """Write all customers, then record what they said.

    Raises:
        CommandError: a customer was refused.
        DatavaultClientError: a consent was refused, or the service does not answer.
    """
    began = time.monotonic()
    values = 0
    items = [WriteItem(each.number, each.values, jurisdictions=(_jurisdiction(each),)) for each in customers]
    with _progress("customers", len(items)) as shown:
        for result in shown(client.write_many(items)):
            if result.error is not None or result.receipt is None:
                raise CommandError(f"{result.customer_number} was not written: {result.error}")
            values += len(result.receipt.versions)
    asked = [(each, answer) for each, answer in zip(customers, answers, strict=True) if answer is not None]
    with _progress("consents", len(asked)) as shown_too:
        for customer, answer in shown_too(asked):
            _record(client, customer, answer, now)
    return Loaded(len(items), values, len(asked), time.monotonic() - began)


def _record(client: Client, customer: Customer, answer: Answer, now: datetime.datetime) -> None:
    given = answer.state is ConsentState.GIVEN
    client.record_consent(
        customer.number,
        purpose=PURPOSE,
        state=answer.state,
        channel="app",
        notice=NOTICE if given else "",
        notice_version=answer.version,
        language=("pt" if customer.country.language == "pt" else "en") if given else "",
        jurisdiction=_jurisdiction(customer),
        expires_at=now + _LIFETIME if given else None,
    )


def _jurisdiction(customer: Customer) -> str:
    return customer.country.jurisdiction


@contextlib.contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[Iterable[T]], Iterable[T]]]:
    """Shows a bar while something is iterated over, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda items: items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        yield lambda items: bar.track(items, total=total, description=name)
