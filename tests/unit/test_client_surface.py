"""The face of the SDK: twins, words that match the proto, what importing it costs, what a repr shows."""

import inspect
import json
import subprocess
import sys
from types import MappingProxyType
from typing import Any

import pytest

import vault.client as sdk
from tests.support.client import SERVICES
from vault.client import (
    AsyncClient,
    AttributeNotDisclosed,
    Client,
    ClientConfigurationError,
    Denial,
    DenialReason,
    DisclosedAttribute,
    Disclosure,
    Form,
    Internal,
    Json,
    LogRecord,
    ReadResult,
    RetryPolicy,
    WriteItem,
)
from vault.client.channel import service_config
from vault.client.methods import ONCE, STREAMING, UNARY
from vault.client.words import CLIENT_REASONS, DENIALS, ERRORS, FORMS, PHASES, STATES, ErrorReason
from vault.v1 import consent_service_pb2, key_service_pb2, values_pb2


def public(kind: type) -> list[str]:
    return sorted(name for name, _ in inspect.getmembers(kind) if not name.startswith("_"))


PUBLIC = public(Client)


def arguments(method: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(method).parameters.values()
    return [(each.name, each.kind, each.default) for each in found]


def test_the_twins_have_the_same_methods() -> None:
    """Client and AsyncClient offer the same names."""
    assert public(AsyncClient) == PUBLIC


@pytest.mark.parametrize("name", [*PUBLIC, "__init__"])
def test_the_twins_have_the_same_arguments(name: str) -> None:
    """Each method takes the same arguments with the same defaults in both clients."""
    assert arguments(getattr(Client, name)) == arguments(getattr(AsyncClient, name))


def test_every_method_of_the_proto_is_called_with_its_types() -> None:
    """The table of methods is exactly that of the proto: paths, requests, answers and streams."""
    declared = {
        f"/vault.v1.{service.name}/{method.name}": (method.input_type, method.output_type)
        for descriptor, _, service_name in SERVICES
        for service in [descriptor.services_by_name[service_name]]
        for method in service.methods
    }
    called = {
        method.path: (method.request.DESCRIPTOR, method.answer.DESCRIPTOR)
        for method in (*UNARY, *ONCE, *STREAMING)
    }
    assert called == declared


@pytest.mark.parametrize(
    ("spelling", "proto"),
    [
        (FORMS, values_pb2.Form),
        (DENIALS, values_pb2.DenialReason),
        (ERRORS, values_pb2.ErrorReason),
        (STATES, consent_service_pb2.ConsentState),
        (PHASES, key_service_pb2.RewrapPhase),
    ],
    ids=["forms", "denials", "errors", "states", "phases"],
)
def test_every_word_of_the_proto_is_known(spelling: Any, proto: Any) -> None:
    """Each number of the proto enum but 0 has its word, and each word leads back to its number."""
    numbers = [number for number in proto.values() if number]
    assert [spelling.number(spelling.word(number)) for number in numbers] == numbers


def test_the_reasons_of_the_client_are_not_those_of_the_server() -> None:
    """A server cannot make the client believe one of the client's own reasons."""
    assert [ERRORS.number(reason) for reason in ErrorReason if reason in CLIENT_REASONS] == [None] * 7


def test_importing_the_client_imports_no_server() -> None:
    """`import vault.client` works with the three dependencies of the client alone."""
    code = "import json, sys, vault.client; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    ours = {name for name in loaded if name.split(".")[0] == "vault"}
    assert {name.split(".")[1] for name in ours if "." in name} == {"client", "v1"}
    unwanted = {
        "sqlalchemy",
        "pydantic",
        "casbin",
        "hvac",
        "cryptography",
        "yaml",
        "orjson",
        "uvloop",
        "grpc_status",
    }
    assert not unwanted & {name.split(".")[0] for name in loaded}


def test_all_that_is_exported_is_there() -> None:
    """Every name in __all__ can be imported."""
    assert [name for name in sdk.__all__ if not hasattr(sdk, name)] == []


def disclosure() -> Disclosure:
    email = DisclosedAttribute("email", Form.CLEAR, "anna@bank.example", 3)
    seen = DisclosedAttribute("iban", Form.EXISTS, None, 1)
    return Disclosure(
        attributes=MappingProxyType({"email": email, "iban": seen}),
        denied=MappingProxyType({"income": Denial(DenialReason.OBJECTED, "the customer objects")}),
        record_id="r",
        position=1,
        bundle_hash="h",
    )


def test_a_repr_shows_name_and_form_only() -> None:
    """The repr of a disclosed attribute is its name and form."""
    shown = repr(disclosure()["email"])
    assert shown == "DisclosedAttribute(name='email', form=<Form.CLEAR: 'clear'>)"


@pytest.mark.parametrize(
    "shown",
    [
        disclosure(),
        ReadResult(0, "secret", disclosure(), None),
        WriteItem("secret", {"email": "secret"}),
        Json('{"a":"secret"}'),
        LogRecord(1, b"secret"),
    ],
    ids=lambda shown: type(shown).__name__,
)
def test_no_repr_shows_a_value_or_a_customer_number(shown: Any) -> None:
    """Results can be logged without showing what they hold."""
    assert "secret" not in repr(shown)
    assert "anna@bank.example" not in repr(shown)


def test_a_disclosure_is_asked_by_name() -> None:
    """`in`, [] and value() tell disclosed, denied and existing attributes apart."""
    answer = disclosure()
    assert ["email" in answer, "income" in answer] == [True, False]
    assert [answer.value(name, "-") for name in ("email", "iban", "income", "age")] == [
        "anna@bank.example",
        "-",
        "-",
        "-",
    ]


@pytest.mark.parametrize(("name", "told"), [("income", "objected"), ("age", "not among")])
def test_a_denied_attribute_tells_its_reason(name: str, told: str) -> None:
    """disclosure[name] raises a KeyError that is one of our own, with the reason of the denial."""
    with pytest.raises(AttributeNotDisclosed, match=told) as caught:
        disclosure()[name]
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize("entry", [b"", b"[1]", b"\xff", b"[" * 100_000])
def test_a_record_that_is_no_object_is_an_error(entry: bytes) -> None:
    """A log entry that cannot be read raises Internal."""
    with pytest.raises(Internal):
        _ = LogRecord(0, entry).document


def test_unary_calls_are_retried_where_nothing_was_answered() -> None:
    """The service config retries every unary method on UNAVAILABLE and CANCELLED, but for those that must be
    sent once, and no stream."""
    unary, others = json.loads(service_config(RetryPolicy(attempts=3)))["methodConfig"]
    assert unary["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "CANCELLED"]
    assert unary["retryPolicy"]["maxAttempts"] == 3
    assert [f"/{each['service']}/{each['method']}" for each in unary["name"]] == [each.path for each in UNARY]
    assert "retryPolicy" not in others
    assert {"service": "vault.v1.KeyService", "method": "RotateKey"} in others["name"]


def test_one_attempt_means_no_retry() -> None:
    """gRPC takes no policy with one attempt, so there is none."""
    unary, _ = json.loads(service_config(RetryPolicy(attempts=1)))["methodConfig"]
    assert "retryPolicy" not in unary


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"attempts": 6}, {"first_seconds": -1}, {"first_seconds": 9.0}]
)
def test_a_senseless_retry_policy_is_refused(wrong: dict[str, Any]) -> None:
    """Attempts and waits out of bounds raise ClientConfigurationError."""
    with pytest.raises(ClientConfigurationError):
        RetryPolicy(**wrong)
