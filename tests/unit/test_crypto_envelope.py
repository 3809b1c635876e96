"""The envelope: what opens, what does not, and what a key object gives away."""

import copy
import pickle

import pytest

from tests.support.crypto import KEY_SCOPE, SUBJECT, VALUE_SCOPE
from vault.crypto.envelope import DataKey, dek_id_of, key_context
from vault.domain.errors import DatavaultError, IntegrityError, InvalidArgumentError
from vault.domain.system import SystemRandomness
from vault.domain.types import KeyScope, ValueScope

RAW = bytes(range(32))
KEY = DataKey(RAW)
ENVELOPE = KEY.seal(VALUE_SCOPE, b"anna@bank.example", SystemRandomness())

ELSEWHERE = {
    "tenant": VALUE_SCOPE._replace(tenant="private"),
    "subject": VALUE_SCOPE._replace(subject=bytes(16)),
    "attribute": VALUE_SCOPE._replace(attribute="phone"),
    "type_version": VALUE_SCOPE._replace(type_version=2),
    "version": VALUE_SCOPE._replace(version=2),
    "boundary": VALUE_SCOPE._replace(tenant="retai", subject=b"l" + SUBJECT),
}
MALFORMED = {
    "empty": b"",
    "too short": ENVELOPE[:63],
    "magic": b"XX" + ENVELOPE[2:],
    "format": ENVELOPE[:2] + b"\x02" + ENVELOPE[3:],
    "algorithm": ENVELOPE[:3] + b"\x02" + ENVELOPE[4:],
}


def test_an_envelope_opens_with_its_key_at_its_place() -> None:
    """What was sealed comes back, with 64 bytes around it."""
    assert KEY.open(VALUE_SCOPE, ENVELOPE) == b"anna@bank.example"
    assert len(ENVELOPE) == 64 + len(b"anna@bank.example")


def test_an_empty_value_has_an_envelope_of_64_bytes() -> None:
    """The shortest envelope is one without a value."""
    envelope = KEY.seal(VALUE_SCOPE, b"", SystemRandomness())
    assert len(envelope) == 64
    assert KEY.open(VALUE_SCOPE, envelope) == b""


def test_sealing_twice_gives_two_envelopes() -> None:
    """The nonce is fresh, so equal values cannot be told from their ciphertexts."""
    assert KEY.seal(VALUE_SCOPE, b"x", SystemRandomness()) != KEY.seal(VALUE_SCOPE, b"x", SystemRandomness())


@pytest.mark.parametrize("scope", ELSEWHERE.values(), ids=ELSEWHERE)
def test_an_envelope_moved_elsewhere_does_not_open(scope: ValueScope) -> None:
    """A ciphertext copied to another tenant, subject, field, type or version is refused."""
    with pytest.raises(IntegrityError):
        KEY.open(scope, ENVELOPE)


@pytest.mark.parametrize("envelope", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_envelope_does_not_open(envelope: bytes) -> None:
    """Whatever is not this format and algorithm is refused before any decryption."""
    with pytest.raises(IntegrityError):
        KEY.open(VALUE_SCOPE, envelope)


@pytest.mark.parametrize("envelope", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_envelope_has_no_dek_id(envelope: bytes) -> None:
    """No key is looked up by bytes that are no envelope."""
    with pytest.raises(IntegrityError):
        dek_id_of(envelope)


def test_an_envelope_names_the_key_that_sealed_it() -> None:
    """The dek id in the header is the id of the key."""
    assert dek_id_of(ENVELOPE) == KEY.id


def test_another_key_is_refused_by_its_id() -> None:
    """A key other than the one named in the header is not even tried."""
    with pytest.raises(IntegrityError, match="another key"):
        DataKey(bytes(32)).open(VALUE_SCOPE, ENVELOPE)


def test_an_envelope_relabelled_for_another_key_does_not_open() -> None:
    """The header is authenticated: writing another key's id into it does not help."""
    other = DataKey(bytes(32))
    with pytest.raises(IntegrityError):
        other.open(VALUE_SCOPE, ENVELOPE[:4] + other.id + ENVELOPE[36:])


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33), bytes(16)])
def test_a_data_key_is_32_bytes(raw: bytes) -> None:
    """AES-128 and AES-192 keys are no data keys, however well they would work."""
    with pytest.raises(IntegrityError):
        DataKey(raw)


@pytest.mark.parametrize(
    "scope",
    [
        VALUE_SCOPE._replace(tenant="\ud800"),
        VALUE_SCOPE._replace(version=-1),
        VALUE_SCOPE._replace(version=2**64),
    ],
    ids=["surrogate", "negative", "too large"],
)
def test_an_impossible_scope_is_a_domain_error(scope: ValueScope) -> None:
    """Neither sealing nor opening lets a codec or struct error out."""
    with pytest.raises(InvalidArgumentError):
        KEY.seal(scope, b"x", SystemRandomness())
    with pytest.raises(IntegrityError):
        KEY.open(scope, ENVELOPE)


def test_an_impossible_key_scope_is_a_domain_error() -> None:
    """The context of a wrapped key is made of UTF-8."""
    with pytest.raises(InvalidArgumentError):
        key_context(KeyScope("\ud800", SUBJECT, "contact"))


def test_key_contexts_differ_where_scopes_differ() -> None:
    """Moving a byte from one part of the scope to the next gives another context."""
    scopes = [KEY_SCOPE, KEY_SCOPE._replace(tenant="retai"), KeyScope("retai", b"l" + SUBJECT, "contact")]
    assert len({key_context(scope) for scope in scopes}) == len(scopes)


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_data_key_is_neither_pickled_nor_copied(attempt: object) -> None:
    """Key bytes do not leave the process by the language's own conveniences."""
    with pytest.raises(TypeError):
        attempt(KEY)  # type: ignore[operator]


def test_a_data_key_shows_and_compares_nothing() -> None:
    """Its repr is its type; two keys of the same bytes are two keys."""
    assert repr(KEY) == "<DataKey>"
    assert DataKey(RAW) != KEY


def test_errors_hold_no_value() -> None:
    """Neither the message nor the chain of a failed open carries the envelope or the plaintext."""
    with pytest.raises(DatavaultError) as caught:
        KEY.open(VALUE_SCOPE._replace(version=4), ENVELOPE)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "anna" not in str(caught.value)
