"""Every RPC asks exactly one act: the protos say which, the docs say the same, the service does it."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from tests.support import wire
from tests.support.service import REPOSITORY, RunningService, policies_copy
from vault.domain.types import Act
from vault.v1 import (
    audit_service_pb2,
    consent_service_pb2,
    data_service_pb2,
    key_service_pb2,
    policy_service_pb2,
    rights_service_pb2,
)

MODULES = (
    data_service_pb2,
    consent_service_pb2,
    rights_service_pb2,
    policy_service_pb2,
    audit_service_pb2,
    key_service_pb2,
)
NOBODY = "no-rights"
READ = "read.*"


def methods() -> list[MethodDescriptor]:
    """Every RPC of vault.v1, from the descriptors."""
    return [
        method
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def acts_of_protos() -> dict[str, str]:
    """`Service.Method` to act, from the comment above each RPC."""
    found: dict[str, str] = {}
    for path in (REPOSITORY / "proto" / "vault" / "v1").glob("*.proto"):
        service, comment = "", ""
        for line in path.read_text("utf-8").splitlines():
            if opened := re.match(r"service (\w+)", line):
                service = opened[1]
            elif text := re.match(r"\s*// (.*)", line):
                comment += text[1] + " "
            else:
                if rpc := re.match(r"\s*rpc (\w+)", line):
                    (act,) = re.findall(r"Act: (\S+)", comment)
                    found[f"{service}.{rpc[1]}"] = act
                comment = ""
    return found


def acts_of_docs() -> dict[str, str]:
    """The same from the table of docs/rpc-acts.md."""
    rows = re.findall(
        r"^\| (\w+) \| (\w+) \| `([^`]+)` \|", (REPOSITORY / "docs" / "rpc-acts.md").read_text("utf-8"), re.M
    )
    return {f"{service}.{method}": act for service, method, act in rows}


def name_of(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}.{method.name}"


def test_every_rpc_names_exactly_one_act_and_the_docs_agree() -> None:
    """Protos, their comments and the table list the same RPCs with the same acts."""
    protos = acts_of_protos()
    assert set(protos) == {name_of(method) for method in methods()}
    assert protos == acts_of_docs()
    assert set(protos.values()) <= {READ, *Act}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that knows one caller more: it has no role and so no right at all."""
    folder = tmp_path_factory.mktemp("acts")
    caller = (
        f'  {NOBODY}:\n    tenant: retail\n    description: "Known, and permitted nothing"\n'
        f"    identities: [{{spiffe: spiffe://bank.example/{NOBODY}}}]\n"
    )
    policies = policies_copy(folder / "policies", {"callers.yaml": lambda text: text + caller})
    with RunningService.start(folder, policies=policies) as running:
        yield running


ONE_WRITE = {"attribute": "email", "value": {"string_value": "a@b.example"}}
QUESTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "DataService.ReadAttributes": lambda number: {
        "customer_number": number,
        "purpose": "fraud-detection",
        "attributes": ["email"],
    },
    "DataService.BatchReadAttributes": lambda number: {
        "customer_numbers": [number],
        "purpose": "fraud-detection",
        "attributes": ["email"],
    },
    "DataService.WriteAttributes": lambda number: {
        "request_id": wire.request_id(),
        "customer_number": number,
        "writes": [ONE_WRITE],
        "jurisdictions": ["EU"],
    },
    "DataService.BatchWriteAttributes": lambda number: {
        "items": [
            {
                "request_id": wire.request_id(),
                "customer_number": number,
                "writes": [ONE_WRITE],
                "jurisdictions": ["EU"],
            }
        ]
    },
    "ConsentService.RecordConsent": lambda number: {
        "request_id": wire.request_id(),
        "customer_number": number,
        "purpose": "marketing",
        "state": consent_service_pb2.CONSENT_STATE_REFUSED,
        "channel": "app",
    },
    "ConsentService.WithdrawConsent": lambda number: {
        "request_id": wire.request_id(),
        "customer_number": number,
        "purpose": "marketing",
        "channel": "app",
    },
    "ConsentService.GetConsent": lambda number: {"customer_number": number},
    "ConsentService.ListConsentEvents": lambda number: {"customer_number": number},
    "RightsService.RestrictSubject": lambda number: {
        "request_id": wire.request_id(),
        "customer_number": number,
    },
    "RightsService.LiftRestriction": lambda number: {
        "request_id": wire.request_id(),
        "customer_number": number,
    },
    "RightsService.ObjectToPurpose": lambda number: {
        "request_id": wire.request_id(),
        "customer_number": number,
        "purpose": "marketing",
        "channel": "app",
    },
    "RightsService.EraseSubject": lambda number: {
        "request_id": wire.request_id(),
        "customer_number": number,
    },
    "RightsService.SetRetention": lambda number: {
        "request_id": wire.request_id(),
        "customer_number": number,
        "legal_hold": "Case 7",
    },
    "RightsService.GetErasureEvidence": lambda receipt: {"receipt_id": receipt},
    "PolicyService.ExplainDecision": lambda _: {
        "caller": "fraud-detection",
        "purpose": "fraud-detection",
        "attributes": ["email"],
    },
    "PolicyService.GetBundle": lambda _: {},
    "AuditService.QueryRecords": lambda _: {"page_size": 1},
    "AuditService.GetCheckpoint": lambda _: {},
    "KeyService.GetKeyStatus": lambda _: {},
    "KeyService.RotateKey": lambda _: {"key": "index"},
    "KeyService.RewrapKeys": lambda _: {"key": "contact", "dry_run": True},
    "KeyService.RotateLookupKey": lambda _: {"dry_run": True},
    "KeyService.RekeySubject": lambda number: {
        "request_id": wire.request_id(),
        "customer_number": number,
    },
}
ENTITLED = {
    READ: "fraud-detection",
    "write": "importer",
    "consent.record": "customer-portal",
    "consent.withdraw": "customer-portal",
    "consent.read": "customer-portal",
    "subject.restrict": "privacy-office",
    "subject.object": "privacy-office",
    "subject.erase": "privacy-office",
    "subject.retention": "privacy-office",
    "subject.history": "privacy-office",
    "policy.explain": "security-team",
    "policy.read": "security-team",
    "audit.read": "auditor",
    "keys.read": "operator",
    "keys.rotate": "operator",
    "keys.rewrap": "operator",
}
RECORDED_AS = {
    "DataService.ReadAttributes": "read",
    "DataService.BatchReadAttributes": "read",
    "RightsService.LiftRestriction": "subject.lift-restriction",
    "KeyService.RotateLookupKey": "keys.rotate-lookup",
    "KeyService.RekeySubject": "subject.rekey",
}
"""Actions of records that are not spelt as the act: one act restricts and lifts, the log tells them apart."""
RECORDS = {"KeyService.RotateKey": 2}
"""What cannot be taken back is on record before and after."""
METHODS = pytest.mark.parametrize("method", methods(), ids=name_of)


def ask(service: RunningService, method: MethodDescriptor, caller: str, number: str) -> Any:
    """Call `method` by its descriptor alone. For a batch the one result; for its item's error, the item; of a
    job the end."""
    request = GetMessageClass(method.input_type)(**QUESTIONS[name_of(method)](number))
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer_type = GetMessageClass(method.output_type)
    channel = service.channel(caller)
    codecs = {
        "request_serializer": type(request).SerializeToString,
        "response_deserializer": answer_type.FromString,
    }
    if method.client_streaming:
        (response,) = channel.stream_stream(path, **codecs)(iter([request]), timeout=30)
        (result,) = response.results
        return result
    if method.server_streaming:
        *_, end = channel.unary_stream(path, **codecs)(request, timeout=30)
        return end
    return channel.unary_unary(path, **codecs)(request, timeout=30)


def known_customer(service: RunningService) -> str:
    number = service.customer()
    service.client("importer").write_attributes(number, {"email": "a@b.example"}, jurisdictions=["EU"])
    return number


def asked_about(service: RunningService, method: MethodDescriptor) -> str:
    """What the question is about: a known customer, or the receipt of one who was erased."""
    number = known_customer(service)
    if name_of(method) != "RightsService.GetErasureEvidence":
        return number
    office = service.client("privacy-office")
    office.withdraw_consent(number, purpose="marketing", channel="letter")
    return office.erase_subject(number).receipt_id


def new_records(service: RunningService, caller: str, before: int) -> list[dict[str, Any]]:
    return [each for each in service.records()[before:] if each["caller"] == caller]


@METHODS
def test_an_rpc_is_there_for_who_has_its_act(strict: RunningService, method: MethodDescriptor) -> None:
    """One caller with the right is answered, and the record of the call has the act as its action."""
    act = acts_of_protos()[name_of(method)]
    number = asked_about(strict, method)
    before = len(strict.records())
    answer = ask(strict, method, ENTITLED[act], number)
    assert not (hasattr(answer, "error") and answer.HasField("error"))
    records = new_records(strict, ENTITLED[act], before)
    told = [(record["outcome"], record["action"]) for record in records]
    expected = ("authorised", RECORDED_AS.get(name_of(method), act))
    assert told == [expected] * RECORDS.get(name_of(method), 1)


@METHODS
def test_an_rpc_is_denied_without_its_act_and_the_denial_is_on_record(
    strict: RunningService, method: MethodDescriptor
) -> None:
    """A known caller without any right: nothing is done, nothing is told, and the log says who asked."""
    act = acts_of_protos()[name_of(method)]
    number = asked_about(strict, method)
    before = len(strict.records())
    if act == READ:
        answer = ask(strict, method, NOBODY, number)
        answer = answer.answer if method.client_streaming else answer
        assert [each.denial.reason for each in answer.attributes] == [1]
    elif method.client_streaming:
        assert ask(strict, method, NOBODY, number).error.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    else:
        failure = wire.refused(lambda: ask(strict, method, NOBODY, number))
        assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
    (record,) = new_records(strict, NOBODY, before)
    assert record["outcome"] == "denied"
    assert record["identity"] == f"spiffe://bank.example/{NOBODY}"


@METHODS
def test_the_act_of_another_rpc_does_not_open_it(strict: RunningService, method: MethodDescriptor) -> None:
    """Callers that have the acts of other RPCs and not this one's are refused."""
    act = acts_of_protos()[name_of(method)]
    number = asked_about(strict, method)
    for caller in sorted(set(ENTITLED.values()) - RIGHTS[act]):
        if act == READ:
            answer = ask(strict, method, caller, number)
            answer = answer.answer if method.client_streaming else answer
            assert [each.denial.reason for each in answer.attributes] == [1], caller
        elif method.client_streaming:
            assert ask(strict, method, caller, number).HasField("error"), caller
        else:
            assert wire.refused(lambda: ask(strict, method, caller, number)).reason == "NOT_PERMITTED"  # noqa: B023


RIGHTS: dict[str, set[str]] = {
    READ: {"fraud-detection"},
    "write": {"importer", "customer-portal", "privacy-office"},
    "consent.record": {"importer", "customer-portal"},
    "consent.withdraw": {"importer", "customer-portal", "privacy-office"},
    "consent.read": {"importer", "customer-portal", "privacy-office"},
    "subject.restrict": {"privacy-office"},
    "subject.object": {"customer-portal", "privacy-office"},
    "subject.erase": {"privacy-office"},
    "subject.retention": {"privacy-office"},
    "subject.history": {"privacy-office"},
    "policy.explain": {"security-team"},
    "policy.read": {"security-team", "auditor"},
    "audit.read": {"auditor", "privacy-office"},
    "keys.read": {"operator"},
    "keys.rotate": {"operator"},
    "keys.rewrap": {"operator"},
}
"""Who of the callers above may do what, by policies/policy.csv."""


def test_what_is_on_record_of_the_denials_verifies(strict: RunningService) -> None:
    """Denials stand in the same log as all else."""
    report = strict.verify()
    assert report.ok, report.problems
