"""Requests to the KMS: repeated where that helps, refused at once where it cannot, always bounded in time."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.scripted_kms import (
    GOOD,
    LOOKED_UP,
    PLAIN,
    REFUSED,
    SECRET,
    TOKEN,
    Reply,
    ScriptedKms,
    results,
    said,
    scripted_kms,
)
from vault.crypto import transit_batches
from vault.crypto.transit import TransitKeyProvider, TransitSettings
from vault.crypto.transit_batches import PARALLEL
from vault.crypto.transit_transport import FORBIDDEN_SECONDS
from vault.domain.errors import (
    DatavaultError,
    IntegrityError,
    KeyForbiddenError,
    KeyMissingError,
    KeysUnavailableError,
    KeyTooOldError,
)
from vault.domain.protocols import UnwrapItem, WrapItem
from vault.domain.system import SystemClock, SystemRandomness
from vault.testing import FakeClock

CONTACT = "datavault-contact"
IDENTITY = "datavault-identity"
ITEM = UnwrapItem(b"vault:v1:AAAA", b"context")
SEALED = said(503, {"errors": ["Vault is sealed"]})
PAGE = b"<html><body>" + SECRET + b"</body></html>"


@pytest.fixture
def kms() -> Iterator[ScriptedKms]:
    with scripted_kms() as kms:
        yield kms


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def provider(kms: ScriptedKms, clock: FakeClock, pauses: list[float]) -> Iterator[TransitKeyProvider]:
    provider = made(kms, clock, pauses)
    yield provider
    provider.close()


def made(kms: ScriptedKms, clock: FakeClock, pauses: list[float], **changes: object) -> TransitKeyProvider:
    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    known: dict[str, object] = {"token": TOKEN, "timeout_seconds": 20.0}
    settings = TransitSettings(kms.address, **{**known, **changes})  # type: ignore[arg-type]
    return TransitKeyProvider(settings, clock, randomness=SystemRandomness(), sleep=sleep)


def failure(provider: TransitKeyProvider, key: str = CONTACT) -> KeysUnavailableError:
    with pytest.raises(KeysUnavailableError) as caught:
        provider.unwrap(key, [ITEM])
    return caught.value


# --- keys this replica may not use --------------------------------------------------------------------------


def test_a_key_that_is_refused_is_not_asked_for_again_soon(
    kms: ScriptedKms, clock: FakeClock, provider: TransitKeyProvider
) -> None:
    """A replica that may not use a class costs the KMS one request in ten seconds, not one per read."""
    kms.answers = [REFUSED]
    for _ in range(5):
        assert isinstance(failure(provider), KeyForbiddenError)
    assert len(kms.requests) == 1
    clock.advance(FORBIDDEN_SECONDS)
    kms.answers = [GOOD]
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]


def test_a_refused_key_leaves_other_keys_and_verbs_alone(
    kms: ScriptedKms, provider: TransitKeyProvider
) -> None:
    """What is remembered is that key and what was to be done with it."""
    kms.by_key = {CONTACT: REFUSED}
    assert isinstance(failure(provider), KeyForbiddenError)
    assert provider.unwrap(IDENTITY, [ITEM]) == [SECRET]
    kms.by_key = {CONTACT: results(200, {"ciphertext": "vault:v1:AAAA"})}
    assert provider.wrap(CONTACT, [WrapItem(SECRET, b"context")]) == [b"vault:v1:AAAA"]


def test_refusals_never_open_the_circuit(
    kms: ScriptedKms, clock: FakeClock, provider: TransitKeyProvider
) -> None:
    """However often a key is refused, the KMS answers."""
    kms.by_key = {CONTACT: REFUSED}
    for _ in range(20):
        failure(provider)
        clock.advance(FORBIDDEN_SECONDS)
    assert provider.unwrap(IDENTITY, [ITEM]) == [SECRET]


def test_the_missing_capability_is_told_to_operators_alone(
    kms: ScriptedKms, provider: TransitKeyProvider
) -> None:
    """The log names path and capability as a policy does, once; the caller's message neither."""
    kms.answers = [REFUSED]
    with structlog.testing.capture_logs() as logs:
        errors = [failure(provider), failure(provider)]
    [told] = [entry for entry in logs if entry["event"] == "kms_forbids"]
    assert told["capability"] == "update transit/decrypt/datavault-contact"
    assert [error.message for error in errors] == ["this replica may not use a key that this needs"] * 2


def test_a_capability_that_is_taken_away_again_is_told_again(
    kms: ScriptedKms, clock: FakeClock, provider: TransitKeyProvider
) -> None:
    """Between two refusals it was granted: the second one is news."""
    with structlog.testing.capture_logs() as logs:
        for answer in (REFUSED, GOOD, REFUSED):
            kms.answers = [answer]
            with contextlib.suppress(KeyForbiddenError):
                provider.unwrap(CONTACT, [ITEM])
            clock.advance(FORBIDDEN_SECONDS)
    assert [entry["event"] for entry in logs].count("kms_forbids") == 2


def test_a_refused_token_is_replaced_and_the_call_repeated(
    kms: ScriptedKms, clock: FakeClock, tmp_path: Path
) -> None:
    """When it is the token that is refused, and its file holds another, nobody notices."""
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text("old-token")
    provider = made(kms, clock, [], token="", token_file=file)
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]
    file.write_text("new-token")
    kms.answers = [REFUSED, GOOD]
    kms.token_answers = [REFUSED, LOOKED_UP]
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]
    assert kms.tokens == ["old-token", "old-token", "new-token"]
    provider.close()


def test_a_missing_token_is_no_fault_of_the_kms(kms: ScriptedKms, clock: FakeClock, tmp_path: Path) -> None:
    """Without a token nothing is asked, the message names no file, and with one all is well at once."""
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(TOKEN)
    provider = made(kms, clock, [], token="", token_file=file)
    file.rename(tmp_path / "elsewhere")
    for _ in range(10):
        error = failure(provider)
        assert error.retry_after_seconds
        assert str(tmp_path) not in error.message
        clock.advance(1)
    assert kms.requests == []
    (tmp_path / "elsewhere").rename(file)
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]
    provider.close()


# --- the circuit --------------------------------------------------------------------------------------------


def test_failures_in_a_row_open_the_circuit(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """After five failures the KMS is left alone, and callers are told at once when to come again."""
    kms.answers = [SEALED]
    errors = [failure(provider) for _ in range(10)]
    assert len(kms.requests) == 5
    assert all(0 < (error.retry_after_seconds or 0) <= 1 for error in errors)


@pytest.mark.parametrize("trouble", [SEALED, None, Reply(502, PAGE), Reply(200, PAGE)])
def test_when_the_kms_is_back_so_are_the_keys(
    kms: ScriptedKms, clock: FakeClock, provider: TransitKeyProvider, trouble: Reply | None
) -> None:
    """After the pause one request goes through, and its answer ends the outage without a restart."""
    kms.answers = [trouble]
    failure(provider)
    failure(provider)
    asked = len(kms.requests)
    assert "not asked for a moment" in failure(provider).message
    assert len(kms.requests) == asked
    clock.advance(0.5)
    kms.answers = [GOOD]
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]


@pytest.mark.parametrize(
    "answer",
    [
        said(400, {"errors": ["no"]}),
        said(404, {"errors": []}),
        said(412, {"errors": []}),
        said(429, {"errors": []}),
        said(400, {"errors": ["encryption key not found"]}),
        said(500, {"errors": ["1 error occurred:\n\t* no such key version\n\n"]}),
    ],
    ids=["400", "404", "412", "429", "no key", "no version"],
)
def test_an_answer_is_no_failure_to_answer(
    kms: ScriptedKms, provider: TransitKeyProvider, answer: Reply
) -> None:
    """A KMS that refuses, limits or lags is there: the circuit stays closed."""
    kms.by_key = {CONTACT: answer}
    for _ in range(10):
        failure(provider)
    assert provider.unwrap(IDENTITY, [ITEM]) == [SECRET]


# --- when to come again -------------------------------------------------------------------------------------


PASSING: dict[str, Reply | None] = {
    "sealed": SEALED,
    "rate limit": said(429, {}),
    "replica behind": said(412, {}),
    "standby": said(307, {}),
    "a proxy's page": Reply(200, PAGE),
    "a proxy's refusal": Reply(403, PAGE),
    "a proxy's 404": Reply(404, PAGE),
    "cut JSON": Reply(200, GOOD.body[:-3]),
    "other count": results(200),
    "cut connection": None,
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
def test_trouble_that_may_pass_says_when_to_come_again(
    kms: ScriptedKms, provider: TransitKeyProvider, answer: Reply | None
) -> None:
    """Callers get RetryInfo, and are told neither of a forbidden nor of a missing key."""
    kms.answers = [answer]
    error = failure(provider)
    assert error.retry_after_seconds
    assert type(error) is KeysUnavailableError


LASTING: dict[str, tuple[Reply, type[KeysUnavailableError]]] = {
    "refused": (said(400, {"errors": ["no"]}), KeysUnavailableError),
    "no key": (said(400, {"errors": ["encryption key not found"]}), KeyMissingError),
    "no mount": (said(404, {"errors": ["no handler for route"]}), KeyMissingError),
    "forbidden": (REFUSED, KeyForbiddenError),
}


@pytest.mark.parametrize(("answer", "kind"), LASTING.values(), ids=LASTING)
def test_trouble_that_lasts_does_not(
    kms: ScriptedKms, provider: TransitKeyProvider, answer: Reply, kind: type[KeysUnavailableError]
) -> None:
    """What an operator has to change is not worth a caller's retry."""
    kms.answers = [answer]
    error = failure(provider)
    assert error.retry_after_seconds is None
    assert type(error) is kind


def test_a_short_retry_after_is_honoured(
    kms: ScriptedKms, provider: TransitKeyProvider, pauses: list[float]
) -> None:
    """A KMS that asks for three seconds gets them, where the call has the time."""
    kms.answers = [said(429, {}, Retry_After="3"), GOOD]
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]
    assert pauses == [3.0]


def test_a_long_retry_after_is_handed_on(
    kms: ScriptedKms, provider: TransitKeyProvider, pauses: list[float]
) -> None:
    """A pause beyond the call's time is the caller's to make."""
    kms.answers = [said(429, {}, Retry_After="45")]
    assert failure(provider).retry_after_seconds == 45
    assert pauses == []
    assert len(kms.requests) == 1


@pytest.mark.parametrize("words", ["soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "²", "1e9"])
def test_a_strange_retry_after_is_ignored(
    kms: ScriptedKms, provider: TransitKeyProvider, pauses: list[float], words: str
) -> None:
    """Anything but whole seconds is as good as none."""
    kms.answers = [Reply(429, b"{}", {"Retry-After": words}), GOOD]
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]
    assert pauses[0] <= 0.1


def test_an_uncertain_rotation_does_not_invite_a_second(
    kms: ScriptedKms, provider: TransitKeyProvider
) -> None:
    """Nobody is told to try again what may have been done."""
    state = said(200, {"data": {"latest_version": 1, "min_decryption_version": 1, "type": "aes256-gcm96"}})
    kms.answers = [state, None]
    with pytest.raises(KeysUnavailableError) as caught:
        provider.rotate(CONTACT)
    assert caught.value.retry_after_seconds is None


# --- connections --------------------------------------------------------------------------------------------


def test_a_connection_that_died_idle_costs_nothing(
    kms: ScriptedKms, provider: TransitKeyProvider, pauses: list[float]
) -> None:
    """After a restart of the KMS each old connection is replaced at once, without a pause."""
    kms.answers = [GOOD, None, GOOD]
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]
    assert pauses == []


def test_a_kms_that_hangs_is_given_up(kms: ScriptedKms) -> None:
    """A question that is never answered ends in an error, for each of several callers."""
    kms.gate.clear()
    settings = TransitSettings(kms.address, token=TOKEN, timeout_seconds=0.3)
    provider = TransitKeyProvider(settings, SystemClock())
    errors: list[KeysUnavailableError] = []
    callers = [threading.Thread(target=lambda: errors.append(failure(provider))) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert len(errors) == 3
    assert all(error.retry_after_seconds for error in errors)
    provider.close()


# --- batches ------------------------------------------------------------------------------------------------


def test_requests_of_one_call_go_out_together(kms: ScriptedKms, clock: FakeClock) -> None:
    """As many as are meant to be are under way at a time."""
    provider = made(kms, clock, [], batch_items=1)
    kms.gate.clear()
    answers: list[object] = []
    caller = threading.Thread(target=lambda: answers.extend(provider.unwrap(CONTACT, [ITEM] * 6)))
    caller.start()
    reached = threading.Event()
    while kms.most_at_once < PARALLEL and caller.is_alive():
        reached.wait(0.01)
    kms.gate.set()
    caller.join(30)
    assert answers == [SECRET] * 6
    assert kms.most_at_once == PARALLEL > 1
    provider.close()


def test_a_part_that_fails_leaves_the_others_their_keys(kms: ScriptedKms, clock: FakeClock) -> None:
    """Of two requests one is refused: its items get an error each, the others their keys."""
    provider = made(kms, clock, [], batch_items=2)
    kms.answers = [results(200, PLAIN, PLAIN), said(400, {"errors": ["no"]})]
    answers = provider.unwrap(CONTACT, [ITEM] * 4)
    assert sorted(type(answer).__name__ for answer in answers) == ["KeysUnavailableError"] * 2 + ["bytes"] * 2
    assert len({id(answer) for answer in answers if isinstance(answer, DatavaultError)}) == 2
    provider.close()


def test_a_call_that_has_failed_sends_no_more(kms: ScriptedKms, clock: FakeClock) -> None:
    """A batch of fifty requests does not meet a dead KMS fifty times."""
    provider = made(kms, clock, [], batch_items=1)
    kms.answers = [said(400, {"errors": ["no"]})]
    with pytest.raises(KeysUnavailableError):
        provider.unwrap(CONTACT, [ITEM] * 50)
    assert len(kms.requests) <= 3
    provider.close()


def test_nothing_is_wrapped_when_a_part_fails(kms: ScriptedKms, clock: FakeClock) -> None:
    """Keys are made all or none."""
    provider = made(kms, clock, [], batch_items=1)
    kms.answers = [results(200, {"ciphertext": "vault:v1:AAAA"}), said(400, {"errors": ["no"]})]
    with pytest.raises(KeysUnavailableError):
        provider.wrap(CONTACT, [WrapItem(SECRET, b"context")] * 2)
    provider.close()


def test_a_slow_kms_ends_a_large_batch(
    kms: ScriptedKms, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request of a batch begins after twice the timeout; what came until then is kept."""
    monkeypatch.setattr(transit_batches, "PARALLEL", 1)
    provider = made(kms, clock, [], batch_items=1)
    kms.answers = [said(429, {}, Retry_After="19"), GOOD] * 40
    answers = provider.unwrap(CONTACT, [ITEM] * 40)
    assert answers[:3] == [SECRET] * 3
    assert {str(answer) for answer in answers[3:]} == {"the KMS answered too slowly for so many keys"}
    provider.close()


def test_a_version_below_the_minimum_is_too_old(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """The row may have been rewrapped meanwhile: its own kind of error says so."""
    message = "ciphertext or signature version is disallowed by policy (too old)"
    kms.answers = [results(400, PLAIN, {"plaintext": "", "error": message})]
    assert [type(answer) for answer in provider.unwrap(CONTACT, [ITEM] * 2)] == [bytes, KeyTooOldError]


# --- versions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"vault:v0:AAAA",
        b"vault:v1:",
        b"vault:1:AAAA",
        b"local:v1:AAAA",
        b"vault:v1:AAAA\n",
        b"vault:v1:\xff",
    ],
)
def test_what_is_no_wrapped_key_has_no_version(provider: TransitKeyProvider, text: bytes) -> None:
    """Only what Transit writes is read."""
    with pytest.raises(IntegrityError):
        provider.wrapped_version(text)


def test_a_wrapped_key_tells_its_version(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """Without asking the KMS."""
    assert provider.wrapped_version(b"vault:v12:AAAA") == 12
    assert kms.requests == []


def test_a_signature_of_another_version_is_refused(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """Who asks for version 2 gets no signature of version 3."""
    signature = "vault:v3:" + "A" * 86 + "=="
    kms.answers = [said(200, {"data": {"signature": signature}})]
    assert provider.sign("datavault-log", b"m", 3) == bytes(64)
    with pytest.raises(KeysUnavailableError):
        provider.sign("datavault-log", b"m", 2)


def test_a_provider_is_closed_twice_without_harm(provider: TransitKeyProvider) -> None:
    """Stopping may come from two sides."""
    provider.unwrap(CONTACT, [ITEM])
    provider.close()
    provider.close()
