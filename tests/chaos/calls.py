"""The calls, one per kind, and what their answers say as fields of the history's entries."""

import datetime
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos.history import Answer, Kind
from vault.client import Client, ConsentState, Disclosure

PURPOSE: Final = "email-campaigns"
ATTRIBUTE: Final = "email"
CALLERS: Final = {
    Kind.READ: "marketing-platform",
    Kind.WRITE: "importer",
    Kind.GRANT: "importer",
    Kind.WITHDRAW: "marketing-platform",
    Kind.OBJECT: "privacy-office",
    Kind.LIFT: "privacy-office",
    Kind.ERASE: "privacy-office",
    Kind.SWITCH: "security-team",
}
_DOMAIN: Final = "@mail.example"
# the same at every attempt: another content is another request
_EXPIRES: Final = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=300)


@dataclass(frozen=True, slots=True)
class Asked:
    """One call, however often it is tried."""

    kind: Kind
    customer: str
    request_id: str = ""
    value: str = ""


def ask(client: Client, asked: Asked, timeout: float) -> dict[str, Any]:
    """Make a call; what was answered. Raises what the client raises."""
    number = asked.customer
    request: dict[str, Any] = {"request_id": asked.request_id, "timeout": timeout}
    told: dict[str, Any] = {}
    receipt: Any
    match asked.kind:
        case Kind.READ:
            return _disclosed(
                client.read_attributes(number, purpose=PURPOSE, attributes=[ATTRIBUTE], timeout=timeout)
            )
        case Kind.WRITE:
            values = {ATTRIBUTE: asked.value + _DOMAIN}
            receipt = client.write_attributes(number, values, jurisdictions=["EU"], **request)
            told = {"value": asked.value, "version": receipt.versions[ATTRIBUTE]}
        case Kind.GRANT:
            receipt = client.record_consent(
                number,
                purpose=PURPOSE,
                state=ConsentState.GIVEN,
                channel="app",
                notice="offers",
                notice_version=2,
                language="en",
                expires_at=_EXPIRES,
                jurisdiction="EU",
                jurisdictions=["EU"],
                **request,
            )
        case Kind.WITHDRAW:
            receipt = client.withdraw_consent(number, purpose=PURPOSE, channel="app", **request)
        case Kind.OBJECT | Kind.LIFT:
            lift = asked.kind is Kind.LIFT
            receipt = client.object_to_purpose(number, purpose=PURPOSE, lift=lift, channel="app", **request)
        case _:
            receipt = client.erase_subject(number, **request)
    return told | {
        "answer": Answer.DONE,
        "seq": getattr(receipt, "seq", 0),
        "record_id": receipt.record_id,
        "position": receipt.position,
        "replayed": receipt.replayed,
    }


def _disclosed(answer: Disclosure) -> dict[str, Any]:
    recorded = {"record_id": answer.record_id, "position": answer.position, "bundle": answer.bundle_hash}
    if ATTRIBUTE not in answer:
        return recorded | {"answer": Answer.DENIED, "reason": answer.denied[ATTRIBUTE].reason.value}
    found = answer[ATTRIBUTE]
    tag = str(found.value).removesuffix(_DOMAIN)
    return recorded | {"answer": Answer.DONE, "value": tag, "version": found.version}
