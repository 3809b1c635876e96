"""The envelope for all values, places and changes."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vault.crypto.encoding import integer, lp, value_binding
from vault.crypto.envelope import DataKey, dek_id_of, key_context
from vault.domain.errors import IntegrityError
from vault.domain.system import SystemRandomness
from vault.domain.types import KeyScope, ValueScope

KEYS = st.binary(min_size=32, max_size=32)
SUBJECTS = st.binary(min_size=16, max_size=16)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(0, 2**64 - 1)
SCOPES = st.builds(ValueScope, NAMES, SUBJECTS, NAMES, NUMBERS, NUMBERS)
KEY_SCOPES = st.builds(KeyScope, NAMES, SUBJECTS, NAMES)


@given(KEYS, SCOPES, st.binary(max_size=300))
def test_what_is_sealed_opens(raw: bytes, scope: ValueScope, plaintext: bytes) -> None:
    """Every value at every place comes back."""
    key = DataKey(raw)
    envelope = key.seal(scope, plaintext, SystemRandomness())
    assert key.open(scope, envelope) == plaintext
    assert dek_id_of(envelope) == key.id


@given(KEYS, SCOPES, st.binary(max_size=40), st.data())
def test_any_flipped_bit_is_noticed(
    raw: bytes, scope: ValueScope, plaintext: bytes, data: st.DataObject
) -> None:
    """One bit changed anywhere in an envelope, and it does not open."""
    key = DataKey(raw)
    envelope = bytearray(key.seal(scope, plaintext, SystemRandomness()))
    bit = data.draw(st.integers(0, len(envelope) * 8 - 1))
    envelope[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        key.open(scope, bytes(envelope))


@given(KEYS, SCOPES, st.binary(max_size=40), st.data())
def test_any_cut_is_noticed(raw: bytes, scope: ValueScope, plaintext: bytes, data: st.DataObject) -> None:
    """An envelope that lost bytes at its end does not open."""
    key = DataKey(raw)
    envelope = key.seal(scope, plaintext, SystemRandomness())
    with pytest.raises(IntegrityError):
        key.open(scope, envelope[: data.draw(st.integers(0, len(envelope) - 1))])


@given(KEYS, SCOPES, SCOPES)
def test_any_other_place_is_noticed(raw: bytes, scope: ValueScope, other: ValueScope) -> None:
    """An envelope opens at its own scope alone."""
    assume(scope != other)
    key = DataKey(raw)
    with pytest.raises(IntegrityError):
        key.open(other, key.seal(scope, b"value", SystemRandomness()))


@given(KEYS, SCOPES, NUMBERS)
def test_any_other_version_is_noticed(raw: bytes, scope: ValueScope, version: int) -> None:
    """An older ciphertext of the same field does not open as the newer one."""
    assume(scope.version != version)
    key = DataKey(raw)
    with pytest.raises(IntegrityError):
        key.open(scope._replace(version=version), key.seal(scope, b"value", SystemRandomness()))


@given(st.lists(st.binary(max_size=20), max_size=5), st.lists(st.binary(max_size=20), max_size=5))
def test_lp_is_injective(left: list[bytes], right: list[bytes]) -> None:
    """Two lists of parts have the same encoding only if they are equal."""
    assert (lp(*left) == lp(*right)) == (left == right)


@given(SCOPES)
def test_the_fast_binding_is_lp(scope: ValueScope) -> None:
    """The one-join form of the hot path gives the bytes of the general form."""
    fast = value_binding(scope.tenant, scope.subject, scope.attribute, scope.type_version, scope.version)
    parts = scope.tenant.encode(), scope.subject, scope.attribute.encode()
    assert fast == lp(*parts, integer(scope.type_version), integer(scope.version))


@given(KEY_SCOPES, KEY_SCOPES)
def test_key_contexts_are_injective(left: KeyScope, right: KeyScope) -> None:
    """Two scopes have the same context only if they are equal."""
    assert (key_context(left) == key_context(right)) == (left == right)
