"""Operators' calls of both clients: what goes out, what comes back, and jobs whose stream breaks."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.client import KINDS, Bank, abort, client_of, fail, running_bank
from vault.client import ErrorReason, InvalidArgument, Phase, Unavailable
from vault.v1 import key_service_pb2 as key
from vault.v1 import values_pb2 as values

RECORD = values.RecordRef(record_id="record-1", position=7)
STAMP = Timestamp(seconds=1_772_368_200)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    with running_bank(tmp_path_factory.mktemp("bank")) as bank:
        yield bank


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, bank: Bank) -> Iterator[Any]:
    bank.script.clear()
    with client_of(request.param, bank.connection) as client:
        yield client


def rewrapping(count: int) -> key.RewrapKeysResponse:
    return key.RewrapKeysResponse(scanned=count, rewrapped=count, total=9, phase=key.REWRAP_PHASE_REWRAPPING)


DONE = key.RewrapKeysResponse(
    scanned=9,
    rewrapped=4,
    failed=1,
    total=9,
    phase=key.REWRAP_PHASE_DONE,
    stragglers=1,
    min_decryption_version=2,
    record=RECORD,
)


def streaming(*streams: list[Any]) -> Any:
    """A handler whose streams give these messages in turn; a string aborts with it as the reason."""
    left = list(streams)

    def run(_request: Any, context: Any) -> Iterator[Any]:
        for each in left.pop(0) if len(left) > 1 else left[0]:
            if isinstance(each, str):
                abort(context, grpc.StatusCode.UNAVAILABLE, each)
            yield each

    return run


def test_the_state_of_the_keys_is_read(client: Any, bank: Bank) -> None:
    """Health, and per key its versions with what they wrap."""
    bank.script.says(
        "GetKeyStatus",
        key.GetKeyStatusResponse(
            provider="transit",
            healthy=True,
            detail="it answers",
            token_seconds_left=0,
            keys=[
                key.KeyStatus(
                    name="datavault-contact",
                    kind="aes256-gcm96",
                    latest_version=3,
                    min_decryption_version=2,
                    versions=[key.KeyVersionCount(version=2, wrapped=5)],
                    stragglers=5,
                    problem="",
                )
            ],
            record=RECORD,
        ),
    )
    found = client.key_status()
    assert (found.provider, found.healthy, found.detail, found.token_seconds_left) == (
        "transit",
        True,
        "it answers",
        0,
    )
    (one,) = found.keys
    assert (one.name, one.kind, one.latest_version, one.min_decryption_version) == (
        "datavault-contact",
        "aes256-gcm96",
        3,
        2,
    )
    assert (dict(one.versions), one.stragglers, one.problem) == ({2: 5}, 5, "")
    assert (found.record_id, found.position) == ("record-1", 7)


def test_a_token_without_an_end_has_no_seconds(client: Any, bank: Bank) -> None:
    """None and 0 are told apart."""
    bank.script.says("GetKeyStatus", key.GetKeyStatusResponse(provider="local"))
    assert client.key_status().token_seconds_left is None


def test_a_rotation_is_sent_once(client: Any, bank: Bank) -> None:
    """Also where the server is unavailable: what is done twice is done twice."""
    bank.script.on("RotateKey", fail(grpc.StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE"))
    with pytest.raises(Unavailable):
        client.rotate_key("log")
    assert [request.key for request in bank.script.got("RotateKey")] == ["log"]
    bank.script.says("RotateKey", key.RotateKeyResponse(name="n", version=4, verifier_key="v", record=RECORD))
    rotated = client.rotate_key("log")
    assert (rotated.name, rotated.version, rotated.verifier_key) == ("n", 4, "v")


def test_a_rekey_carries_a_request_id(client: Any, bank: Bank) -> None:
    """The one given, or a new one that the receipt names."""
    answer = key.RekeySubjectResponse(
        values=2, key_classes=["contact"], rekeyed_at=STAMP, record=RECORD, replayed=True
    )
    bank.script.says("RekeySubject", answer)
    receipt = client.rekey_subject("4711", request_id="mine")
    assert (receipt.values, receipt.key_classes, receipt.replayed) == (2, ("contact",), True)
    assert receipt.rekeyed_at.timestamp() == STAMP.seconds
    made = client.rekey_subject("4711").request_id
    sent = bank.script.got("RekeySubject")
    assert [each.request_id for each in sent] == ["mine", made]
    assert sent[0].customer_number == "4711"


def test_progress_comes_as_it_is_made_and_the_last_is_the_result(client: Any, bank: Bank) -> None:
    """What was wished is in the request."""
    bank.script.on("RewrapKeys", streaming([rewrapping(1), rewrapping(2), DONE]))
    *under_way, done = client.rewrap_keys("contact", dry_run=True, keys_per_second=5, keep_old_versions=True)
    assert [(each.phase, each.rewrapped) for each in under_way] == [
        (Phase.REWRAPPING, 1),
        (Phase.REWRAPPING, 2),
    ]
    assert (done.phase, done.scanned, done.rewrapped, done.failed, done.total) == (Phase.DONE, 9, 4, 1, 9)
    assert (done.stragglers, done.min_decryption_version, done.record_id, done.position) == (
        1,
        2,
        "record-1",
        7,
    )
    (request,) = bank.script.got("RewrapKeys")
    assert (request.key, request.dry_run, request.keys_per_second, request.keep_old_versions) == (
        "contact",
        True,
        5,
        True,
    )


@pytest.mark.parametrize("end", ["", "SHUTTING_DOWN", None], ids=["cut", "stopping", "ended early"])
def test_a_stream_that_breaks_is_asked_for_again(client: Any, bank: Bank, end: str | None) -> None:
    """The job goes on with the next one: by another replica, or the same one once it is back."""
    cut = [] if end is None else [end]
    bank.script.on("RewrapKeys", streaming([rewrapping(1), *cut], [rewrapping(2), *cut], [DONE]))
    assert [each.rewrapped for each in client.rewrap_keys("contact")] == [1, 2, 4]
    assert len(bank.script.got("RewrapKeys")) == 3


def test_a_stream_that_breaks_again_and_again_is_given_up(client: Any, bank: Bank) -> None:
    """When the attempts of the retry policy brought nothing new."""
    bank.script.on("RewrapKeys", streaming([rewrapping(1), ""]))
    with pytest.raises(Unavailable):
        list(client.rewrap_keys("contact"))
    assert len(bank.script.got("RewrapKeys")) == 3


def test_what_the_server_says_of_the_job_is_not_tried_again(client: Any, bank: Bank) -> None:
    """A KMS that refuses is for the operator to look at."""
    bank.script.on("RewrapKeys", streaming([rewrapping(1), "KEYS_UNAVAILABLE"]))
    with pytest.raises(Unavailable) as raised:
        list(client.rewrap_keys("contact"))
    assert raised.value.reason is ErrorReason.KEYS_UNAVAILABLE
    assert len(bank.script.got("RewrapKeys")) == 1


def test_a_lookup_rotation_that_breaks_begins_no_second_one(client: Any, bank: Bank) -> None:
    """It may have ended just when the stream broke."""
    step = key.RotateLookupKeyResponse(indexed=3, total=9, version=2, phase=key.REWRAP_PHASE_WAITING)
    done = key.RotateLookupKeyResponse(indexed=9, total=9, version=2, phase=key.REWRAP_PHASE_DONE)
    bank.script.on("RotateLookupKey", streaming([""], [step, ""], [done]))
    found = list(client.rotate_lookup_key(subjects_per_second=7))
    assert [(each.phase, each.indexed, each.total, each.version) for each in found] == [
        (Phase.WAITING, 3, 9, 2),
        (Phase.DONE, 9, 9, 2),
    ]
    sent = bank.script.got("RotateLookupKey")
    assert [(each.resume_only, each.subjects_per_second) for each in sent] == [
        (False, 7),
        (False, 7),
        (True, 7),
    ]


def test_a_phase_of_a_newer_server_is_no_error(client: Any, bank: Bank) -> None:
    """And not the end either."""
    newer = key.RewrapKeysResponse(phase=99)  # type: ignore[arg-type]
    bank.script.on("RewrapKeys", streaming([newer, DONE]))
    assert [each.phase for each in client.rewrap_keys("contact")] == [Phase.UNRECOGNISED, Phase.DONE]


def test_whoever_stops_drawing_breaks_the_job_off(client: Any, bank: Bank) -> None:
    """The server hears of it while its job goes on."""
    broken = threading.Event()

    def endless(_request: Any, context: Any) -> Iterator[Any]:
        context.add_callback(broken.set)
        yield rewrapping(1)
        broken.wait(30)

    bank.script.on("RewrapKeys", endless)
    progress = client.rewrap_keys("contact")
    next(progress)
    progress.close()
    assert broken.wait(30)


def test_what_cannot_be_sent_is_refused_before(client: Any, bank: Bank) -> None:
    """By the name of the field."""
    with pytest.raises(InvalidArgument, match="keys_per_second"):
        list(client.rewrap_keys("contact", keys_per_second=2**40))
    assert bank.script.got("RewrapKeys") == []
