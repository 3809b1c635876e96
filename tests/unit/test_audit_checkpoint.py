"""Checkpoints, verifier keys and receipts are decoded strictly."""

import base64
import string

import pytest

from tests.support.audit import ORIGIN, KeySigner, vkey_of
from vault.audit import receipt
from vault.audit.checkpoint import (
    check_origin,
    checkpoint_text,
    key_id,
    parse_and_verify,
    parse_vkey,
    sign,
    vkey,
)
from vault.audit.merkle import inclusion_proof, leaf_hash
from vault.audit.tree import TreeBuilder
from vault.domain.errors import ConfigurationError, IntegrityError, KeysUnavailableError

ROOT = bytes(range(32))
NOTE = sign(ORIGIN, 7, ROOT, KeySigner())
OTHER = bytes(32)


def signed(text: str, *, name: str = ORIGIN, seed: bytes | None = None) -> str:
    """A note over any text, rightly signed."""
    signer = KeySigner(seed) if seed else KeySigner()
    body = key_id(name, signer.public_key()) + signer.sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(body).decode()}\n"


def test_good_checkpoint_is_read() -> None:
    """A signed checkpoint gives origin, size and root."""
    checkpoint = parse_and_verify(NOTE, vkey_of())
    assert (checkpoint.origin, checkpoint.size, checkpoint.root, checkpoint.note) == (ORIGIN, 7, ROOT, NOTE)


def test_every_flipped_bit_of_a_checkpoint_is_noticed() -> None:
    """No single bit of a checkpoint can change and leave it valid."""
    data = NOTE.encode()
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(IntegrityError):
            parse_and_verify(flipped.decode("utf-8", "surrogateescape"), vkey_of())


def test_spare_bits_of_a_signature_are_noticed() -> None:
    """Base64 that decodes to the same signature by other characters is refused."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    assert NOTE.endswith("=\n")
    last = alphabet.index(NOTE[-3])
    for spare in range(1, 4):
        with pytest.raises(IntegrityError):
            parse_and_verify(NOTE[:-3] + alphabet[last ^ spare] + "=\n", vkey_of())


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n07\n{base64.b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n+7\n{base64.b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n-7\n{base64.b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n٧\n{base64.b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n9223372036854775808\n{base64.b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n7\n{base64.b64encode(ROOT).decode()}\nextension\n",
        f"{ORIGIN}\n7\n{base64.b64encode(ROOT[1:]).decode()}\n",
        f"{ORIGIN}\n7\n{base64.b64encode(ROOT).decode().rstrip('=')}\n",
        f"{ORIGIN}\n7\n{base64.b64encode(ROOT).decode()[:-2]}9=\n",
        f"{ORIGIN}\r\n7\r\n{base64.b64encode(ROOT).decode()}\r\n",
        f"{ORIGIN}\n7\n",
        f"\n7\n{base64.b64encode(ROOT).decode()}\n",
    ],
)
def test_malformed_text_is_refused_though_signed(text: str) -> None:
    """Text that is not exactly origin, size and root is refused, even where its signature is right."""
    with pytest.raises(IntegrityError):
        parse_and_verify(signed(text), vkey_of())


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        NOTE.rstrip("\n"),
        NOTE + "\n",
        NOTE.replace("— ", "- "),
        NOTE.replace("— ", "—"),
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\n\n", "\n\n\n"),
        NOTE.replace("\n", "\r\n"),
        NOTE + "— x\n",
        NOTE + "— x !!!!\n",
        NOTE + "— x AAAA\n",
        NOTE * 400,
    ],
)
def test_malformed_notes_are_refused(note: str) -> None:
    """A note whose lines are not those of the specification is refused."""
    with pytest.raises(IntegrityError):
        parse_and_verify(note, vkey_of())


def test_signatures_of_unknown_keys_are_ignored() -> None:
    """A cosignature by a key we don't know changes nothing, and alone it is not enough."""
    text = checkpoint_text(ORIGIN, 7, ROOT)
    cosignature = signed(text, name="witness.example", seed=OTHER).removeprefix(text + "\n")
    assert parse_and_verify(NOTE + cosignature, vkey_of()).size == 7
    with pytest.raises(IntegrityError, match="not signed by a known key"):
        parse_and_verify(f"{text}\n{cosignature}", vkey_of())


def test_key_of_another_origin_does_not_count() -> None:
    """A checkpoint must be signed under its own origin's name."""
    text = checkpoint_text(ORIGIN, 7, ROOT)
    note = signed(text, name="other.example/log")
    with pytest.raises(IntegrityError):
        parse_and_verify(note, vkey_of("other.example/log"))


def test_one_of_several_known_keys_is_enough_and_none_may_be_wrong() -> None:
    """With two versions of the key known either may sign; a wrong signature by either refuses the note."""
    known = (vkey_of(), vkey_of(seed=OTHER))
    assert parse_and_verify(NOTE, *known).size == 7
    text = checkpoint_text(ORIGIN, 7, ROOT)
    both = NOTE + signed(text, seed=OTHER).removeprefix(text + "\n")
    assert parse_and_verify(both, *known).size == 7
    wrong = NOTE + signed(checkpoint_text(ORIGIN, 8, ROOT), seed=OTHER).rpartition("\n\n")[2]
    with pytest.raises(IntegrityError):
        parse_and_verify(wrong, *known)


def test_signer_that_signs_wrongly_is_noticed() -> None:
    """A signature that the signer's own public key does not verify never becomes a checkpoint."""

    class Torn(KeySigner):
        def sign(self, message: bytes) -> bytes:
            return super().sign(message + b"x")

    with pytest.raises(IntegrityError):
        sign(ORIGIN, 7, ROOT, Torn())


def test_unavailable_signer_says_so() -> None:
    """The signer's own error passes through."""
    signer = KeySigner()
    signer.fail = KeysUnavailableError("sealed")
    with pytest.raises(KeysUnavailableError):
        sign(ORIGIN, 7, ROOT, signer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        vkey_of().replace("+", " "),
        vkey_of().upper(),
        vkey_of() + "\n",
        vkey_of()[:-4],
        vkey_of().replace("bank", "tank"),
        vkey("a", bytes(31)),
        f"a+00000000+{base64.b64encode(bytes(33)).decode()}",
    ],
)
def test_malformed_vkeys_are_refused(text: str) -> None:
    """A verifier key that is damaged, of another kind, or whose id does not fit is refused."""
    with pytest.raises(ConfigurationError):
        parse_vkey(text)


@pytest.mark.parametrize(
    "origin",
    [
        *("", "a b", "a+b", "https://a", "a//b", "/a", "a/", "a/../b", "..", "a/.b"),
        *("ä.example", "a\n", "x" * 201, "a/checkpoints", "events/a", "a/r2", "a/b/r10"),
    ],
)
def test_unusable_origins_are_refused(origin: str) -> None:
    """An origin must be a schema-less URL that is a safe folder too, and no successor's."""
    with pytest.raises(ConfigurationError):
        check_origin(origin)


@pytest.mark.parametrize("origin", [ORIGIN, "a", "log.bank.example/vault/eu-1", "a/r0", "a/r2/b", "a/rx"])
def test_usable_origins_are_taken(origin: str) -> None:
    """Ordinary origins pass."""
    check_origin(origin)


# --- receipts ---------------------------------------------------------------------------------------------


def make_receipt(index: int) -> str:
    tree = TreeBuilder()
    tiles = tree.add(leaf_hash(b"%d" % number) for number in range(5))
    note = sign(ORIGIN, 5, tree.root(), KeySigner())
    return receipt.build(b"%d" % index, index, inclusion_proof(index, 5, lambda _l, _i: tiles[0, 0]), note)


@pytest.mark.parametrize("index", range(5))
def test_receipt_proves_its_record(index: int) -> None:
    """A receipt verifies offline and gives record, index and checkpoint."""
    verified = receipt.verify(make_receipt(index), vkey_of())
    assert (verified.entry, verified.index, verified.checkpoint.size) == (b"%d" % index, index, 5)


def test_every_flipped_bit_of_a_receipt_is_noticed() -> None:
    """No single bit of a receipt can change and leave it valid."""
    data = make_receipt(1).encode()
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(IntegrityError):
            receipt.verify(flipped.decode("utf-8", "surrogateescape"), vkey_of())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("index 1", "index 01"),
        ("index 1", "index 2"),
        ("index 1\n", "index 1\n" + base64.b64encode(bytes(32)).decode() + "\n"),
        ("c2sp.org/tlog-proof@v1\n", ""),
        ("\n\n", "\n"),
        ("extra ", "extra  "),
    ],
)
def test_malformed_receipts_are_refused(old: str, new: str) -> None:
    """A receipt with other lines than those of the specification is refused."""
    with pytest.raises(IntegrityError):
        receipt.verify(make_receipt(1).replace(old, new, 1), vkey_of())
