"""Step 6: the auditor asks who read what, and why."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vault.cli.demonstration.callers import AUDITOR, ENGINE, FRAUD
from vault.cli.demonstration.people import Customer
from vault.cli.demonstration.stage import Asked, Stage
from vault.client import LogRecord

_SECRETS: Final = ("family-name", "email", "mobile-phone", "national-id", "iban", "card-number", "street")
_READ: Final = "read"


def who_read_what(stage: Stage) -> None:
    """Step 6: every step before is on record, with its basis, and without any value."""
    customer, client = stage.consented, stage.clients[AUDITOR]
    stage.screen.say(f"{AUDITOR} asks for all records of customer {customer.number}:")
    records = list(client.query_records(customer_number=customer.number))
    stage.screen.table(
        ["record", "who, and why", "what", "on the basis of"],
        [list(_row(record, stage.bases)) for record in records],
    )
    reads = [record for record in records if record.document["action"] == _READ]
    stage.check(
        "each read of this customer is there, with the caller, purpose and outcome that its caller saw",
        [_as_asked(record) for record in reads]
        == [asked for asked in stage.asked if asked.customer_number == customer.number],
    )
    stage.check(
        "the engine was given data on consent alone, fraud detection on legitimate interest alone",
        {(record.document["caller"], basis) for record in reads for basis in _bases(record, stage.bases)}
        == {(ENGINE, "consent"), (FRAUD, "legitimate-interest")},
    )
    actions = [record.document["action"] for record in records]
    stage.check(
        "so are the import, the consent and its withdrawal",
        [action for action in actions if action != _READ][:3]
        == ["write", "consent.record", "consent.withdraw"],
    )
    stage.check("no record holds a value", not any(_holds_value(record, customer) for record in records))
    newest = next(iter(client.query_records(caller=AUDITOR, newest_first=True, page_size=1)), None)
    stage.check(
        "the auditor's own question is on record too",
        newest is not None and newest.document["action"].startswith("audit."),
    )


def _row(record: LogRecord, bases: Mapping[str, str]) -> Iterator[object]:
    document = record.document
    yield record.position, f"{_time(document['time']):%H:%M:%S}"
    yield document["caller"], document["action"], document.get("purpose", "")
    yield document["outcome"], *_what(document)
    yield tuple(_bases(record, bases))


def _what(document: dict[str, Any]) -> Iterator[str]:
    """Lines such as `mask: email` and `denied, not-permitted: iban`. An import is told by its size."""
    attributes: dict[str, dict[str, Any]] = document.get("attributes", {})
    if document["action"] != _READ:
        return iter([f"{len(attributes)} attributes"] if attributes else [])
    names: dict[str, list[str]] = {}
    for name, entry in attributes.items():
        done = f"denied, {entry['reason']}" if "reason" in entry else entry["act"].removeprefix("read.")
        names.setdefault(done, []).append(name)
    return (f"{done}: {', '.join(listed)}" for done, listed in sorted(names.items()))


def _bases(record: LogRecord, bases: Mapping[str, str]) -> list[str]:
    """What the attributes given rest on: the basis of each deciding rule, which held at that moment."""
    given = [each for each in record.document.get("attributes", {}).values() if "reason" not in each]
    if record.document["action"] != _READ:
        return []
    return sorted(
        {
            basis if (basis := bases.get(each.get("rule", ""), "")) in each.get("bases", []) else "nothing"
            for each in given
        }
    )


def _as_asked(record: LogRecord) -> Asked:
    document = record.document
    return Asked(
        document["id"], record.position, document["caller"], document.get("purpose", ""), document["outcome"]
    )


def _holds_value(record: LogRecord, customer: Customer) -> bool:
    text = record.entry.decode("utf-8", "replace")
    return any(str(customer.values[name]) in text for name in _SECRETS if name in customer.values)


def _time(microseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(microseconds / 1_000_000, datetime.UTC)
