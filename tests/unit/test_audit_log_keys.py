"""Which keys sign a checkpoint, and what counts as the announcement of one."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.audit import ORIGIN, KeySigner, encoded, make_record, vkey_of
from vault.audit.announcement import (
    ACTION,
    Announcement,
    announcement_detail,
    announcement_text,
    parse_announcement,
)
from vault.audit.checkpoint import UnknownSignerError, parse_and_verify, sign, signed_by, vkey
from vault.audit.log_keys import LogKey, key_in_force, signer_of, signing
from vault.domain.errors import IntegrityError

OLD, NEW, THIEF = KeySigner(bytes(32)), KeySigner(bytes([1] * 32)), KeySigner(bytes([2] * 32))
ROOT = bytes(32)


def key_of(signer: KeySigner, origin: str = ORIGIN) -> str:
    return vkey(origin, signer.public_key())


@pytest.mark.parametrize(
    ("announced", "previous", "size", "numbers"),
    [
        ([-1], 0, 5, [1]),
        ([-1], 5, 9, [1]),
        ([-1, 7], 5, 7, [1]),
        ([-1, 7], 5, 8, [1, 2]),
        ([-1, 7], 7, 20, [1, 2]),
        ([-1, 7], 8, 9, [2]),
        ([-1, 0], 0, 1, [1, 2]),
        ([-1, 7, 8], 5, 8, [1, 2]),
        ([-1, 7, 8], 5, 9, [1, 2, 3]),
        ([-1, 7, 8], 8, 9, [2, 3]),
        ([-1, 7, 8], 9, 10, [3]),
    ],
)
def test_keys_that_sign(announced: list[int], previous: int, size: int, numbers: list[int]) -> None:
    """The first checkpoint over an announcement is signed by the key before too, others by one key."""
    assert list(range(1, len(announced) + 1))[signing(announced, previous, size)] == numbers


@given(st.lists(st.integers(0, 30), unique=True, max_size=4), st.sets(st.integers(1, 40), min_size=1))
def test_signatures_form_an_unbroken_chain(places: list[int], sizes: set[int]) -> None:
    """Whatever checkpoints there are, each key is announced by exactly one that the key before signed too."""
    announced = [-1, *sorted(places)]
    numbers = list(range(len(announced)))
    signed = {
        size: numbers[signing(announced, previous, size)] for previous, size in pairwise([0, *sorted(sizes)])
    }
    for number in numbers[1:]:
        both = [size for size, by in signed.items() if {number - 1, number} <= set(by)]
        assert both == [size for size in sorted(sizes) if size > announced[number]][:1]
    for size, by in signed.items():
        assert by[-1] == max(number for number in numbers if announced[number] < size)


def test_key_in_force() -> None:
    """The newest key that a checkpoint carries; before the first checkpoint the log's first key."""
    keys = [LogKey(1, "local", 1, b"a", -1), LogKey(2, "local", 2, b"b", 7)]
    assert [key_in_force(keys, size).number for size in (0, 7, 8, 100)] == [1, 1, 2, 2]
    with pytest.raises(IntegrityError):
        key_in_force([], 3)


def test_pinned_key_must_be_the_provider_s() -> None:
    """A row whose public key is not that of the provider's version signs nothing."""

    class One:
        providers = ("local",)

        def signer(self, provider: str, version: int) -> KeySigner:
            return OLD

    row = LogKey(1, "local", 1, OLD.public_key(), -1)
    assert signer_of(row, One()) is OLD  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="not the key that the log has pinned"):
        signer_of(replace(row, public_key=NEW.public_key()), One())  # type: ignore[arg-type]


# --- announcements ----------------------------------------------------------------------------------------


def entry(detail: dict[str, str | int], **changes: object) -> bytes:
    about = {"action": ACTION, "outcome": "authorised", "attributes": {}, "detail": detail}
    return encoded(make_record(1, **(about | changes))).entry


def detail_of(**changes: str | int) -> dict[str, str | int]:
    return announcement_detail(ORIGIN, OLD, NEW) | changes


def test_announcement_is_read_back() -> None:
    """An announcement names both keys, and is signed by both."""
    assert parse_announcement(entry(detail_of())) == Announcement(key_of(OLD), key_of(NEW))


def test_text_is_no_checkpoint() -> None:
    """What the keys sign when they announce can never be taken for a checkpoint, nor a checkpoint for it."""
    text = announcement_text(key_of(OLD), key_of(NEW)).decode()
    for origin in (ORIGIN, "datavault log key v1"):
        with pytest.raises(IntegrityError):
            parse_and_verify(f"{text}\n— {origin} AAAA\n", vkey_of(origin))
    assert " " in text.split("\n")[0]


STOLEN = announcement_detail(ORIGIN, OLD, NEW)["previous_signature"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"verifier_key": key_of(THIEF)}, "not signed by both"),
        ({"previous": key_of(THIEF)}, "not signed by both"),
        ({"signature": STOLEN}, "not signed by both"),
        ({"previous_signature": ""}, "not signed by both"),
        ({"signature": 5}, "not signed by both"),
        ({"signature": "AAAA"}, "not signed by both"),
        ({"verifier_key": key_of(OLD)}, "no other key"),
        ({"verifier_key": key_of(NEW, "other.example/log")}, "no other key"),
        ({"verifier_key": "nonsense"}, "no verifier key"),
        ({"previous": 7}, "no verifier key"),
    ],
)
def test_changed_announcement_is_refused(changes: dict[str, str | int], what: str) -> None:
    """Another key, a missing or foreign signature, or something that is no key: not an announcement."""
    with pytest.raises(IntegrityError, match=what):
        parse_announcement(entry(detail_of(**changes)))


def test_every_bit_of_both_signatures_counts() -> None:
    """A flipped bit in either signature refuses the announcement."""
    good = detail_of()
    for name in ("previous_signature", "signature"):
        text = str(good[name])
        for place in range(0, len(text) - 2, 5):
            other = "A" if text[place] != "A" else "B"
            with pytest.raises(IntegrityError):
                parse_announcement(entry(good | {name: text[:place] + other + text[place + 1 :]}))


@pytest.mark.parametrize("changes", [{"action": "keys.rotate"}, {"outcome": "denied"}, {"outcome": "error"}])
def test_other_records_announce_nothing(changes: dict[str, object]) -> None:
    """A refused rotation, or any other record, announces no key whatever its detail says."""
    with pytest.raises(IntegrityError):
        parse_announcement(entry(detail_of(), **changes))


def test_bytes_that_are_no_record_announce_nothing() -> None:
    """The error is the domain's, whatever stands there."""
    for junk in (b"", b"{}", b"\xff", b"[1]"):
        with pytest.raises(IntegrityError):
            parse_announcement(junk)


# --- notes with several signatures ------------------------------------------------------------------------


def test_note_of_two_keys_verifies_with_either() -> None:
    """Two signature lines, the same name, the old key's first; whoever knows either key can check it."""
    note = sign(ORIGIN, 7, ROOT, OLD, NEW)
    assert note.count("\n— ") == 2
    for known in (OLD, NEW):
        assert signed_by(note, key_of(known))[1] == {key_of(known)}
    assert signed_by(note, key_of(OLD), key_of(NEW), key_of(THIEF))[1] == {key_of(OLD), key_of(NEW)}
    with pytest.raises(UnknownSignerError):
        parse_and_verify(note, key_of(THIEF))


def test_wrong_signature_of_one_known_key_refuses_the_note() -> None:
    """A good signature beside it does not make up for it."""
    good, other = sign(ORIGIN, 7, ROOT, OLD, NEW), sign(ORIGIN, 8, ROOT, OLD, NEW)
    mixed = "\n".join([*good.split("\n")[:5], other.split("\n")[5], ""])
    assert parse_and_verify(mixed, key_of(OLD)).size == 7
    with pytest.raises(IntegrityError, match="signature is wrong"):
        parse_and_verify(mixed, key_of(OLD), key_of(NEW))
