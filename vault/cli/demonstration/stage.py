"""Where the story is told: who is there, how one asks, and what was answered so far."""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vault.cli.demonstration.engine import Ranking
from vault.cli.demonstration.people import Customer
from vault.cli.demonstration.screen import Check, Screen
from vault.cli.demonstration.signals import products_of
from vault.client import Client, DenialReason, Disclosure, PyValue

_SHORT_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """A read that was answered: what the log has to say about it, as its caller knows it.

    The log names no customer number, so it is not compared.
    """

    record_id: str
    position: int
    caller: str
    purpose: str
    outcome: str
    customer_number: str = field(default="", compare=False)


@dataclass(slots=True)
class Stage:
    """`consented` said yes to personalised offers and will withdraw; `unasked` never said anything.

    `bases` maps the rules of policy.csv to the basis each rests on.
    """

    screen: Screen
    home: Path
    bases: Mapping[str, str]
    clients: Mapping[str, Client]
    consented: Customer
    unasked: Customer
    asked: list[Asked] = field(default_factory=list)

    def ask(self, caller: str, customer: Customer, purpose: str, attributes: Sequence[str]) -> Disclosure:
        """Read, and show what was asked and what came back. Raises DatavaultClientError."""
        self.screen.say(f"{caller} asks for {purpose}, customer {customer.number} ({customer.name}):")
        answer = self.clients[caller].read_attributes(customer.number, purpose=purpose, attributes=attributes)
        outcome = _outcome(answer, attributes)
        self.asked.append(Asked(answer.record_id, answer.position, caller, purpose, outcome, customer.number))
        self.screen.table(
            ["attribute", "in the vault", "came back", "as"],
            [list(_row(name, customer, answer)) for name in attributes],
        )
        self.screen.say(f"on record at {answer.position}: {answer.record_id}", "dim")
        return answer

    def ranking(self, ranking: Ranking) -> None:
        """Show what the engine made of it."""
        self.screen.table(
            ["what the engine ranks", "score", "because"],
            [
                (
                    each.offer.title,
                    each.score,
                    ", ".join(f"{reason.because} +{reason.points}" for reason in each.reasons),
                )
                for each in ranking.offers
            ],
        )
        for note in ranking.notes:
            self.screen.say(note, "dim")

    def check(self, what: str, ok: bool) -> None:
        """One thing that is as it should be, or is not."""
        self.screen.check(Check(what, ok))


def denied_for(answer: Disclosure, names: Iterable[str], reason: DenialReason) -> bool:
    """Whether each of `names` was denied, and for this reason."""
    return all(name in answer.denied and answer.denied[name].reason is reason for name in names)


def show(value: PyValue | None) -> str:
    """A value in a table's cell, shortened where it is long."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{value[:_SHORT_BYTES].hex()}... ({len(value)} bytes)"
    if isinstance(value, list):
        return ", ".join(sorted(products_of(value))) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in sorted(value.items())) or "none"
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="minutes")
    return str(value)


def _row(name: str, customer: Customer, answer: Disclosure) -> Iterator[str]:
    yield name
    yield show(customer.values.get(name))
    disclosed, denial = answer.attributes.get(name), answer.denied.get(name)
    yield show(disclosed.value) if disclosed else ""
    yield disclosed.form.value if disclosed else f"denied: {denial.reason.value}" if denial else "no answer"


def _outcome(answer: Disclosure, attributes: Sequence[str]) -> str:
    given = len(answer.attributes)
    return "authorised" if given == len(attributes) else "partial" if given else "denied"
