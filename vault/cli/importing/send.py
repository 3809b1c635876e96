"""The two senders: rows through `write_many`, consent events one by one.

Both give one answer per item, in the order of the items.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from vault.cli.importing.outcome import Answer, ConsentRecord, Ready, Record
from vault.domain.errors import ErrorReason
from vault.domain.types import Attribute, ConsentState, ValueType
from vault.domain.values import Value

if TYPE_CHECKING:
    from vault.client import Client
    from vault.client.errors import DatavaultClientError
    from vault.client.results import WriteItem

_NOTHING_TO_WITHDRAW: Final = "unknown customer: nothing to withdraw; record the state `refused` instead"
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def send_attributes(
    client: "Client", import_id: str, attributes: Mapping[str, Attribute]
) -> Callable[[Iterable[Ready[Record]]], Iterator[Answer]]:
    """Sends rows of attributes; the request id of a row is `import-<id>-<row>`."""
    from vault.client.results import WriteItem

    wire = _wire_forms()

    def item(ready: Ready[Record]) -> "WriteItem":
        record = ready.item
        return WriteItem(
            customer_number=record.customer_number,
            values={name: wire(attributes[name].type, value) for name, value in record.values.items()},
            jurisdictions=record.jurisdictions,
            request_id=f"import-{import_id}-{ready.row.number}",
        )

    def send(items: Iterable[Ready[Record]]) -> Iterator[Answer]:
        for result in client.write_many(map(item, items)):
            if result.error is not None:
                yield _refusal(result.error)
            else:
                yield Answer(replayed=result.receipt is not None and result.receipt.replayed)

    return send


def send_consents(
    client: "Client", import_id: str
) -> Callable[[Iterable[Ready[ConsentRecord]]], Iterator[Answer]]:
    """Sends consent events; the request id of a row is `import-<id>-c<row>`."""
    from vault.client.errors import DatavaultClientError

    def send(items: Iterable[Ready[ConsentRecord]]) -> Iterator[Answer]:
        for ready in items:
            try:
                receipt = _record(client, ready.item, f"import-{import_id}-c{ready.row.number}")
            except DatavaultClientError as error:
                yield _refusal_of_event(ready.item, error)
            else:
                yield Answer(replayed=receipt.replayed)

    return send


def _record(client: "Client", event: ConsentRecord, request_id: str) -> Any:
    if event.state == ConsentState.WITHDRAWN:
        allowed = {name: event.details[name] for name in ("channel", "evidence") if name in event.details}
        return client.withdraw_consent(
            event.customer_number, purpose=event.purpose, request_id=request_id, **allowed
        )
    return client.record_consent(
        event.customer_number,
        purpose=event.purpose,
        state=event.state,
        request_id=request_id,
        **event.details,
    )


def _refusal_of_event(event: ConsentRecord, error: "DatavaultClientError") -> Answer:
    refusal = _refusal(error)
    if event.state == ConsentState.WITHDRAWN and refusal.reason == ErrorReason.NOT_FOUND:
        return Answer(refusal.reason, _NOTHING_TO_WITHDRAW)
    return refusal


def _refusal(error: "DatavaultClientError") -> Answer:
    return Answer(str(error.reason), error.message)


def _wire_forms() -> Callable[[ValueType, Value], Any]:
    """From the domain's values to those of the client, which tells types apart by Python's."""
    from vault.client.values import Json

    forms: Mapping[ValueType, Callable[[Any], Any]] = {
        ValueType.DECIMAL: Decimal,
        ValueType.DATE: datetime.date.fromisoformat,
        ValueType.TIMESTAMP: lambda value: _EPOCH + datetime.timedelta(microseconds=value),
        ValueType.JSON: Json,
    }
    return lambda kind, value: forms[kind](value) if kind in forms else value
