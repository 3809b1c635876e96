"""Batches: results in order, an error per item, chunks that are cut, streams that end early."""

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.support import wire
from tests.support.service import RunningService
from vault.client import WriteItem
from vault.v1 import data_service_pb2 as data
from vault.v1 import values_pb2


def customers(service: RunningService, count: int) -> list[str]:
    """New customers, each with an e-mail address that tells its number."""
    numbers = [service.customer() for _ in range(count)]
    items = [WriteItem(number, {"email": f"{number}@b.example"}, jurisdictions=("EU",)) for number in numbers]
    assert all(result.error is None for result in service.client("importer").write_many(items, chunk=500))
    return numbers


def chunk(numbers: list[str], **more: Any) -> Any:
    return data.BatchReadAttributesRequest(
        customer_numbers=numbers, **{"purpose": "fraud-detection", "attributes": ["email"], **more}
    )


def read(service: RunningService, *chunks: Any, caller: str = "fraud-detection") -> list[Any]:
    """The results of a stream of chunks."""
    stub = wire.data_stub(service.channel(caller))
    return [
        result
        for response in stub.BatchReadAttributes(iter(chunks), timeout=60)
        for result in response.results
    ]


def emails(results: list[Any]) -> list[str]:
    return [result.answer.attributes[0].value.string_value for result in results]


def write(service: RunningService, *chunks: list[Any], caller: str = "importer") -> list[Any]:
    """The results of a stream of chunks of writes."""
    stub = wire.data_stub(service.channel(caller))
    requests = [data.BatchWriteAttributesRequest(items=items) for items in chunks]
    return [
        result
        for response in stub.BatchWriteAttributes(iter(requests), timeout=60)
        for result in response.results
    ]


def test_results_come_in_the_order_of_the_customers(either: RunningService) -> None:
    """Index and answer follow the numbers, over more than one chunk."""
    numbers = customers(either, 30)
    asked = [*numbers, *reversed(numbers), numbers[7], numbers[7]]
    results = read(either, chunk(asked[:25]), chunk(asked[25:26]), chunk(asked[26:]))
    assert [result.index for result in results] == list(range(len(asked)))
    assert emails(results) == [f"{number}@b.example" for number in asked]


def test_every_customer_of_a_batch_has_a_record_of_its_own(service: RunningService) -> None:
    """As many records as results, each at the position its result names, with the request id of the chunk."""
    numbers = customers(service, 20)
    results = read(service, chunk(numbers, request_id="batch.4"))
    records = service.records()
    named = [records[result.answer.record.position] for result in results]
    assert [each["id"] for each in named] == [result.answer.record.record_id for result in results]
    assert len({each["subject"] for each in named}) == 20
    assert {each["request"] for each in named} == {"batch.4"}


def test_a_bad_customer_number_is_an_error_of_its_own(service: RunningService) -> None:
    """The good ones around it are answered."""
    first, last = customers(service, 2)
    results = read(service, chunk([first, "", "no-such-customer", last]))
    assert [result.WhichOneof("result") for result in results] == ["answer", "error", "answer", "answer"]
    assert results[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert results[1].error.reason == values_pb2.ERROR_REASON_INVALID_ARGUMENT
    assert results[2].answer.attributes[0].denial.reason == values_pb2.DENIAL_REASON_NOT_AVAILABLE


def test_require_all_fails_per_customer(service: RunningService) -> None:
    """Who has a value is answered, who has none is an error without a value."""
    (full,) = customers(service, 1)
    empty = service.customer()
    service.client("importer").write_attributes(empty, {"given-name": "Ana"}, jurisdictions=["EU"])
    results = read(service, chunk([empty, full], require_all=True))
    assert results[0].error.reason == values_pb2.ERROR_REASON_REQUIRE_ALL
    assert emails(results[1:]) == [f"{full}@b.example"]


def test_a_chunk_of_1000_is_taken_and_one_of_1001_is_not(service: RunningService) -> None:
    """The limit itself is allowed; above it the stream ends."""
    number = customers(service, 1)
    assert len(read(service, chunk(number * 1_000))) == 1_000
    failure = wire.refused(lambda: read(service, chunk(number * 1_001)))
    assert (failure.code, list(failure.fields)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ["customer_numbers"],
    )


def test_a_chunk_without_customers_ends_the_stream(service: RunningService) -> None:
    """Nothing to read is a mistake of the caller."""
    assert wire.refused(lambda: read(service, chunk([]))).reason == "INVALID_ARGUMENT"


def test_a_stream_without_chunks_is_an_empty_answer(service: RunningService) -> None:
    """No question, no result, no error."""
    assert read(service) == []


def test_results_before_a_bad_chunk_are_delivered(service: RunningService) -> None:
    """A stream that ends in an error has answered what came before."""
    numbers = customers(service, 3)
    stub = wire.data_stub(service.channel("fraud-detection"))
    seen: list[Any] = []

    def go() -> None:
        for response in stub.BatchReadAttributes(iter([chunk(numbers), chunk([])]), timeout=60):
            seen.extend(response.results)

    wire.refused(go)
    assert emails(seen) == [f"{number}@b.example" for number in numbers]


def test_an_answer_of_many_large_values_is_cut_into_messages(service: RunningService) -> None:
    """100 customers of 64 KiB each: no response is near the 4 MiB that a message may have."""
    number = service.customer()
    service.client("importer").write_attributes(number, {"long-note": "x" * 65_536}, jurisdictions=["EU"])
    asked = chunk([number] * 100, purpose="subject-rights", attributes=["long-note"])
    stub = wire.data_stub(service.channel("privacy-office"))
    sizes = [response.ByteSize() for response in stub.BatchReadAttributes(iter([asked]), timeout=60)]
    assert sum(sizes) > 6 * 1024 * 1024
    assert max(sizes) < 2 * 1024 * 1024


def test_a_batch_may_change_its_question_from_chunk_to_chunk(service: RunningService) -> None:
    """Purpose and attributes are those of each chunk."""
    numbers = customers(service, 1)
    results = read(
        service,
        chunk(numbers),
        chunk(numbers, attributes=["given-name", "email"], max_form=values_pb2.FORM_MASK),
        chunk(numbers, purpose="personalised-offers"),
    )
    forms = [[each.form for each in result.answer.attributes] for result in results]
    assert forms == [[values_pb2.FORM_CLEAR], [0, values_pb2.FORM_MASK], [0]]


def test_a_caller_has_eight_streams_at_once(service: RunningService) -> None:
    """The ninth is refused with the time to wait; when one ends there is room again."""
    stub = wire.data_stub(service.channel("compliance-checks"))
    number = customers(service, 1)
    held = [_Held(stub, chunk(number, purpose="aml-screening", attributes=["email"])) for _ in range(8)]
    ninth = wire.refused(lambda: list(stub.BatchReadAttributes(iter([]), timeout=60)))
    assert (ninth.code, ninth.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert ninth.retry_seconds is not None
    held[0].finish()
    assert list(stub.BatchReadAttributes(iter([]), timeout=60)) == []
    for stream in held[1:]:
        stream.finish()


class _Held:
    """A stream that was answered once and stays open."""

    def __init__(self, stub: Any, first: Any) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        self._requests.put(first)
        self._call = stub.BatchReadAttributes(iter(self._requests.get, None), timeout=60)
        next(self._call)

    def finish(self) -> None:
        self._requests.put(None)
        assert list(self._call) == []


# --- writes -----------------------------------------------------------------------------------------------


def test_writes_are_answered_in_order(service: RunningService) -> None:
    """Over more than one chunk and more than one transaction."""
    numbers = [service.customer() for _ in range(250)]
    items = [wire.write_request(number, {"email": f"{number}@b.example"}) for number in numbers]
    results = write(service, items[:210], items[210:])
    assert [result.index for result in results] == list(range(250))
    assert all(result.answer.subject_created for result in results)
    assert emails(read(service, chunk(numbers))) == [f"{number}@b.example" for number in numbers]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param({"request_id": ""}, values_pb2.ERROR_REASON_INVALID_ARGUMENT, id="no request id"),
        pytest.param({"customer_number": ""}, values_pb2.ERROR_REASON_INVALID_ARGUMENT, id="no customer"),
        pytest.param(
            {"writes": [data.AttributeWrite(attribute="email", value=values_pb2.Value(string_value="bad"))]},
            values_pb2.ERROR_REASON_INVALID_ARGUMENT,
            id="a value that does not match",
        ),
        pytest.param(
            {"writes": [data.AttributeWrite(attribute="email", value=values_pb2.Value())]},
            values_pb2.ERROR_REASON_INVALID_ARGUMENT,
            id="a value of no kind",
        ),
        pytest.param(
            {"writes": [data.AttributeWrite(attribute="no-such-attribute", clear=True)]},
            values_pb2.ERROR_REASON_NOT_PERMITTED,
            id="an attribute nobody declared",
        ),
        pytest.param(
            {"writes": [data.AttributeWrite(attribute="email", clear=True, expected_version=3)]},
            values_pb2.ERROR_REASON_VERSION_MISMATCH,
            id="a version that is not the current one",
        ),
        pytest.param({"jurisdictions": []}, values_pb2.ERROR_REASON_INVALID_ARGUMENT, id="no jurisdictions"),
    ],
)
def test_one_bad_write_in_a_group_of_good_ones_is_an_error_of_its_own(
    service: RunningService, spoil: dict[str, Any], reason: int
) -> None:
    """The others are written, in the same transaction."""
    numbers = [service.customer() for _ in range(5)]
    items = [wire.write_request(number, {"email": f"{number}@b.example"}) for number in numbers]
    bad = items[2]
    for name, value in spoil.items():
        bad.ClearField(name)
        if isinstance(value, str):
            setattr(bad, name, value)
        else:
            getattr(bad, name).extend(value)
    results = write(service, items)
    assert [result.WhichOneof("result") for result in results] == [
        "answer",
        "answer",
        "error",
        "answer",
        "answer",
    ]
    assert results[2].error.reason == reason
    good = numbers[:2] + numbers[3:]
    assert emails(read(service, chunk(good))) == [f"{number}@b.example" for number in good]


def test_the_same_customer_twice_in_a_chunk_is_written_in_order(service: RunningService) -> None:
    """The second write builds on the first."""
    number = service.customer()
    items = [wire.write_request(number, {"email": f"v{version}@b.example"}) for version in (1, 2, 3)]
    results = write(service, items)
    assert [result.answer.versions[0].version for result in results] == [1, 2, 3]
    assert [result.answer.subject_created for result in results] == [True, False, False]
    assert emails(read(service, chunk([number]))) == ["v3@b.example"]


def test_the_same_request_twice_in_a_chunk_happens_once(service: RunningService) -> None:
    """The second is the answer of the first."""
    item = wire.write_request(service.customer(), {"email": "a@b.example"})
    first, second = write(service, [item, item])
    assert second.answer.replayed
    assert second.answer.record == first.answer.record
    assert second.answer.versions == first.answer.versions


def test_a_batch_that_is_sent_again_changes_nothing(service: RunningService) -> None:
    """A broken stream is resumed with the same ids: answers, customers and versions are as they were."""
    items = [wire.write_request(service.customer(), {"email": "a@b.example"}) for _ in range(20)]
    first = write(service, items)
    values = "SELECT subject, attribute, version, ciphertext FROM attribute_value"
    before = service.sql(values)
    again = write(service, items)
    assert all(result.answer.replayed for result in again)
    assert [result.answer.record for result in again] == [result.answer.record for result in first]
    assert service.sql(values) == before


def test_two_tasks_that_write_one_customer_do_not_lose_a_version(service: RunningService) -> None:
    """Concurrent streams of one customer: every version from 1 on was given exactly once."""
    number = service.customer()

    def go(_: int) -> list[int]:
        items = [wire.write_request(number, {"app-usage": 1}) for _ in range(10)]
        return [result.answer.versions[0].version for result in write(service, items)]

    with ThreadPoolExecutor(4) as pool:
        versions = [version for part in pool.map(go, range(4)) for version in part]
    assert sorted(versions) == list(range(1, 41))


# --- calls that end early ---------------------------------------------------------------------------------


def test_a_batch_cancelled_midway_leaves_the_service_serving(service: RunningService) -> None:
    """After the first response the caller goes away: later calls are answered, and the log verifies."""
    numbers = customers(service, 10)
    stub = wire.data_stub(service.channel("fraud-detection"))

    def endless() -> Iterator[Any]:
        while True:
            yield chunk(numbers * 20)

    for _ in range(3):
        call = stub.BatchReadAttributes(endless(), timeout=60)
        assert next(call).results
        call.cancel()
    assert emails(read(service, chunk(numbers))) == [f"{number}@b.example" for number in numbers]


def test_a_call_cancelled_at_once_is_answered_or_dropped_and_never_half_done(
    service: RunningService,
) -> None:
    """Reads cancelled before, during or after their group: those that were answered are on record."""
    (number,) = customers(service, 1)
    stub = wire.data_stub(service.channel("fraud-detection"))
    request = wire.read_request(number, "fraud-detection", ["email"])
    calls = [stub.ReadAttributes.future(request, timeout=60) for _ in range(60)]
    for call in calls[::2]:
        call.cancel()
    answers = [call.result() for call in calls[1::2]]
    answers += [call.result() for call in calls[::2] if not call.cancelled() and not call.exception()]
    records = service.records()
    assert all(records[answer.record.position]["id"] == answer.record.record_id for answer in answers)


def test_a_write_cancelled_at_once_happens_wholly_or_not_at_all(service: RunningService) -> None:
    """Whatever became of the first try, sending it again gives one version and one record."""
    stub = wire.data_stub(service.channel("importer"))
    requests = [wire.write_request(service.customer(), {"email": "a@b.example"}) for _ in range(30)]
    calls = [stub.WriteAttributes.future(request, timeout=60) for request in requests]
    for call in calls:
        call.cancel()
    again = [stub.WriteAttributes(request, timeout=60) for request in requests]
    assert [answer.versions[0].version for answer in again] == [1] * 30
    done = [each.get("request") for each in service.records() if "replay_of" not in each.get("detail", {})]
    assert all(done.count(request.request_id) == 1 for request in requests)


def test_a_deadline_that_has_passed_discloses_nothing(service: RunningService) -> None:
    """DEADLINE_EXCEEDED for the caller, and no answer."""
    (number,) = customers(service, 1)
    stub = wire.data_stub(service.channel("fraud-detection"))
    for seconds in (0, 0.000_001):
        with pytest.raises(grpc.RpcError) as caught:
            stub.ReadAttributes(wire.read_request(number, "fraud-detection", ["email"]), timeout=seconds)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_call_without_a_deadline_is_answered(service: RunningService) -> None:
    """It gets the default one."""
    (number,) = customers(service, 1)
    stub = wire.data_stub(service.channel("fraud-detection"))
    answer = stub.ReadAttributes(wire.read_request(number, "fraud-detection", ["email"]))
    assert answer.attributes[0].value.string_value == f"{number}@b.example"
