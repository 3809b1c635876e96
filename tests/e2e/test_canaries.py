"""Nothing that is secret is anywhere in clear: marked values go in, and everything left behind is searched.

One life of the service with local keys and one with a Transit server: values of every type are written, read
in all forms, put into every field of every request where they do not belong; then everything the service left
behind or said is searched for them, raw and in the encodings in which they could hide.
"""

import base64
import datetime
import hashlib
import json
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.e2e.test_acts import MODULES
from tests.support import identity, wire
from tests.support.service import RunningService
from vault.client import Form
from vault.crypto.dev_server import DevTransit
from vault.crypto.envelope import key_context
from vault.crypto.names import class_key
from vault.domain.protocols import UnwrapItem
from vault.domain.types import KeyScope
from vault.v1 import audit_service_pb2

TEXT = "Zebrafink7391"
NUMBER = f"{TEXT}-number-4711"
INT64 = 730_091_837_465_829
"""Distinct numbers of so many digits that they stand nowhere by chance."""
DECIMAL = Decimal("918273645.46")
DOUBLE = 7.123456789012345e207
MOMENT = datetime.datetime(2041, 3, 17, 5, 43, 21, 987_654, datetime.UTC)
BYTES = hashlib.sha384(TEXT.encode()).digest()

VALUES: dict[str, Any] = {
    "given-name": f"{TEXT} Łukasz \U0001f99c",
    "email": f"{TEXT}@{TEXT}.example",
    "iban": "PT50" + TEXT.upper() + "0001",
    "card-number": "4929731846275913",
    "national-id": f"{TEXT}-id",
    "income": DECIMAL,
    "balance": Decimal("-912837465.64"),
    "sensor-reading": DOUBLE,
    "counter": INT64,
    "pep-flag": True,
    "date-of-birth": datetime.date(1907, 11, 23),
    "last-login": MOMENT,
    "biometric-template": BYTES,
    "product-holdings": [{"product": f"{TEXT}-account"}],
    "transactions-summary": {f"{TEXT}-shop": INT64},
    "vulnerability-note": f"{TEXT} needs a chair",
}


def needles() -> dict[str, bytes]:
    """What must not be found, in the encodings of database, log, JSON, headers and base64."""
    return {
        "text": TEXT.encode(),
        "text, upper case": TEXT.upper().encode(),
        "card number": b"4929731846275913",
        "income": b"918273645",
        "balance": b"912837465",
        "integer": str(INT64).encode(),
        "integer, stored": struct.pack(">q", INT64),
        "double": b"7.123456789012345",
        "double, stored": struct.pack(">d", DOUBLE),
        "date": b"1907-11-23",
        "moment": b"2041-03-17",
        "moment, stored": struct.pack(">q", int(MOMENT.timestamp()) * 1_000_000 + 987_654),
        "moment, seconds": str(int(MOMENT.timestamp())).encode(),
        "bytes": BYTES,
    }


def encodings(name: str, raw: bytes) -> Iterator[tuple[str, bytes]]:
    """A needle as it is, and as it would look after common ways to write bytes down."""
    yield name, raw
    yield f"{name}, hex", raw.hex().encode()
    yield f"{name}, HEX", raw.hex().upper().encode()
    yield f"{name}, repr", repr(raw)[2:-1].encode()
    yield f"{name}, quoted", quote(raw).encode()
    yield f"{name}, UTF-16", raw.decode("latin-1").encode("utf-16-le")
    # base64 looks different at each of three offsets; what does not depend on the neighbours is searched
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw)
        inner = encoded[4 if offset else 0 : -4]
        if len(inner) >= 8:
            yield f"{name}, base64 at {offset}", inner
            yield f"{name}, base64url at {offset}", inner.translate(bytes.maketrans(b"+/", b"-_"))


@dataclass
class Said:
    """All that left the service by another way than an answer to the entitled."""

    errors: list[wire.Failure] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)


def live(service: RunningService) -> Said:
    """One life: written, read in all forms, asked wrongly in every way, looked at by everybody."""
    said = Said()
    _use(service)
    _put_canaries_everywhere(service, said)
    _be_nobody(service, said)
    _tamper(service, said)
    _look(service, said)
    return said


def _use(service: RunningService) -> None:
    service.client("importer").write_attributes(NUMBER, VALUES, jurisdictions=["EU"])
    office = service.client("privacy-office")
    for max_form in (None, *Form):
        office.read_attributes(NUMBER, purpose="subject-rights", attributes=list(VALUES), max_form=max_form)
    for caller, purpose in (("fraud-detection", "fraud-detection"), ("customer-portal", "account-servicing")):
        service.client(caller).read_attributes(NUMBER, purpose=purpose, attributes=list(VALUES))
    portal = service.client("customer-portal")
    portal.record_consent(NUMBER, purpose="marketing", state="refused", channel="app")
    portal.withdraw_consent(NUMBER, purpose="marketing", channel="app")
    office.restrict_subject(NUMBER)
    office.lift_restriction(NUMBER)
    list(service.client("auditor").query_records(customer_number=NUMBER))


def _put_canaries_everywhere(service: RunningService, said: Said) -> None:
    """Every request of every RPC with a marked text in one text field at a time, and in all at once."""
    for module in MODULES:
        for descriptor in module.DESCRIPTOR.services_by_name.values():
            for method in descriptor.methods:
                for caller in ("importer", "privacy-office", "auditor"):
                    channel = service.channel(caller)
                    for request in _spoiled(method.input_type):
                        _call(channel, method, request, said)


def _call(channel: grpc.Channel, method: Any, request: Message, said: Said) -> None:
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            call: Any = channel.stream_stream(path, request_serializer=type(request).SerializeToString)
            said.answers += call(iter([request]), timeout=30)
        else:
            call = channel.unary_unary(path, request_serializer=type(request).SerializeToString)
            said.answers.append(call(request, timeout=30))
    except grpc.RpcError as error:
        said.errors.append(wire.failure_of(error))


def _spoiled(descriptor: Any) -> Iterator[Message]:
    yield _filled(GetMessageClass(descriptor)())
    for spoiled in descriptor.fields:
        request = GetMessageClass(descriptor)()
        _fill(request, spoiled)
        yield request


def _filled(message: Message) -> Message:
    """Marked text in every text field; of a oneof in the first member."""
    for each in message.DESCRIPTOR.fields:
        if each.containing_oneof is None or each is each.containing_oneof.fields[0]:
            _fill(message, each)
    return message


def _fill(message: Any, each: FieldDescriptor) -> None:
    if each.message_type is not None and each.message_type.full_name.startswith("vault."):
        target = getattr(message, each.name)
        _filled(target.add() if each.is_repeated else target)
    elif each.type == FieldDescriptor.TYPE_STRING:
        if each.is_repeated:
            getattr(message, each.name).append(f"{TEXT}-in-{each.name}")
        else:
            setattr(message, each.name, f"{TEXT}-in-{each.name}")


def _be_nobody(service: RunningService, said: Said) -> None:
    """Tokens with marked claims, a marked authorization header, a certificate with a marked name."""
    good = service.token("privacy-office")
    said.tokens.append(good)
    request = wire.read_request(NUMBER, "subject-rights", ["email"])
    for header in (
        f"Bearer {good}x",
        f"Bearer {TEXT}",
        f"Basic {TEXT}",
        f"Bearer {service.token(TEXT)}",
        f"Bearer {identity.forged({'alg': TEXT, 'kid': TEXT}, {'iss': TEXT, 'sub': TEXT})}",
    ):
        stub = wire.data_stub(service.bare_channel(port="jwt"))
        said.errors.append(
            wire.refused(
                lambda stub=stub, header=header: stub.ReadAttributes(  # type: ignore[misc]
                    request, timeout=30, metadata=[("authorization", header)]
                )
            )
        )
    said.errors.append(
        wire.refused(
            lambda: wire.data_stub(service.channel(f"{TEXT}-nobody")).ReadAttributes(request, timeout=30)
        )
    )
    service.jwt_client("privacy-office").read_attributes(
        NUMBER, purpose="subject-rights", attributes=["email"]
    )


def _tamper(service: RunningService, said: Said) -> None:
    """A value that does not open, a key that does not unwrap: what is logged then holds neither."""
    service.sql(
        "UPDATE attribute_value SET ciphertext = substr(ciphertext, 1, 70) WHERE attribute = 'given-name'"
    )
    service.sql("UPDATE subject_key SET wrapped = ? WHERE key_class = 'special'", b"local:v1:AAAA")
    office = service.client("privacy-office")
    answer = office.read_attributes(NUMBER, purpose="subject-rights", attributes=list(VALUES))
    assert {str(each.reason) for each in answer.denied.values()} == {"integrity"}
    for attribute in ("vulnerability-note", "biometric-template"):
        request = wire.write_request(NUMBER, {attribute: VALUES[attribute]})
        stub = wire.data_stub(service.channel("importer"))
        said.errors.append(wire.refused(lambda stub=stub, asked=request: stub.WriteAttributes(asked)))  # type: ignore[misc]


def _look(service: RunningService, said: Said) -> None:
    """What an auditor sees: every record there is."""
    method = audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].methods_by_name["QueryRecords"]
    _call(service.channel("auditor"), method, audit_service_pb2.QueryRecordsRequest(page_size=1_000), said)


def left_behind(service: RunningService) -> dict[str, bytes]:
    """Every file of the home and the service's log; what clients and keys need is not the service's."""
    files = {
        str(path.relative_to(service.folder)): path.read_bytes()
        for path in sorted(service.folder.rglob("*"))
        if path.is_file() and path.name != "keys.json" and "clients" not in path.parts
    }
    return files


def data_keys(service: RunningService) -> dict[str, bytes]:
    """Every DEK and tenant key of the home, unwrapped, and the keys of the local key file."""
    provider = service.key_provider()
    found: dict[str, bytes] = {}
    for subject, key_class, wrapped in service.sql("SELECT subject, key_class, wrapped FROM subject_key"):
        scope = KeyScope("retail", bytes(subject), key_class)
        (raw,) = provider.unwrap(class_key(key_class), [UnwrapItem(bytes(wrapped), key_context(scope))])
        if isinstance(raw, bytes):
            found[f"DEK of {key_class}"] = raw
    assert len(found) >= 4
    if service.options.transit is None:
        document = json.loads((service.home / "keys.json").read_text("utf-8"))
        found |= {
            f"local key {place}": base64.b64decode(text)
            for place, text in _texts(document)
            if len(text) == 44
        }
        assert len(found) > 10
    return found


def _texts(document: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield from _texts(value, f"{place}/{name}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _texts(value, f"{place}/{index}")
    elif isinstance(document, str):
        yield place, document


def search(haystacks: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    """Where something was found that must not be there."""
    return [
        f"{what} in {place}"
        for name, raw in wanted.items()
        for what, needle in encodings(name, raw)
        for place, hay in haystacks.items()
        if needle in hay
    ]


def everything(service: RunningService, said: Said) -> dict[str, bytes]:
    return {
        **left_behind(service),
        **{f"error {n}": each.text.encode() for n, each in enumerate(said.errors)},
        **{f"records, {n}": json.dumps(each).encode() for n, each in enumerate(service.records())},
    }


@pytest.fixture(params=["local", "transit"])
def keys(request: pytest.FixtureRequest) -> DevTransit | None:
    """Both key providers."""
    if request.param == "local":
        return None
    server: DevTransit = request.getfixturevalue("transit_server")
    return server


def test_nothing_secret_is_found_anywhere(
    tmp_path: Path, test_policies: Path, keys: DevTransit | None
) -> None:
    """Values, customer numbers, data keys and tokens are in no file, log line, record or error."""
    service = RunningService.start(tmp_path, policies=test_policies, jwt=True, transit=keys)
    with service:
        said = live(service)
        # the WAL is searched before the stop, which folds it into the database
        running = left_behind(service)
        assert any(name.endswith("datavault.db-wal") for name in running)
    secrets = data_keys(service)
    if keys is not None:
        secrets["transit token"] = keys.token_file.read_bytes().strip()
    for number, token in enumerate(said.tokens):
        secrets[f"bearer token {number}"] = token.encode()
        secrets[f"signature of bearer token {number}"] = token.rpartition(".")[2].encode()
    haystacks = everything(service, said)
    wanted = {**needles(), **secrets}
    assert len(said.errors) > 50
    assert any(place.startswith("home/outside/") for place in haystacks)
    assert search({f"running: {name}": content for name, content in running.items()}, wanted) == []
    assert search(haystacks, wanted) == []
    assert not any(TEXT.encode() in answer for answer in said.answers)


def test_the_search_finds_what_it_should(tmp_path: Path) -> None:
    """The same search over a file in which each needle stands once in each encoding: it misses none."""
    for name, raw in needles().items():
        for what, needle in encodings(name, raw):
            found = search({"file": b"before " + needle + b" after"}, {name: raw})
            assert f"{what} in file" in found


def test_the_customer_is_really_in_the_searched_database(tmp_path: Path, test_policies: Path) -> None:
    """What is searched is where the data are: the ciphertexts stand in that file and open to the values."""
    with RunningService.start(tmp_path, policies=test_policies) as service:
        service.client("importer").write_attributes(NUMBER, VALUES, jurisdictions=["EU"])
    with sqlite3.connect(service.database_path) as connection:
        rows = connection.execute("SELECT attribute, ciphertext FROM attribute_value").fetchall()
    connection.close()
    assert {name for name, _ in rows} >= set(VALUES)
    content = service.database_path.read_bytes()
    assert all(ciphertext[:64] in content for _, ciphertext in rows)
