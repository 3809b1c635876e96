"""The examples of docs/architecture/formats.md are what the code makes and reads."""

import contextlib
import io
import json
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vault.audit.announcement import announcement_detail, verified_announcement
from vault.audit.checkpoint import parse_and_verify, sign, vkey
from vault.audit.merkle import leaf_hash
from vault.audit.record import encode, parse

PAGE = (Path(__file__).parents[2] / "docs/architecture/formats.md").read_text("utf-8")
VECTORS = json.loads((Path(__file__).parent / "crypto_vectors.json").read_text("utf-8"))
ORIGIN = "datavault.local/log"


class FixedSigner:
    """Signs with a private key that the page names. Implements `vault.domain.protocols.Signer`."""

    def __init__(self, first: int = 1) -> None:
        self._key: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(bytes(range(first, first + 32)))

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()


def example_record() -> bytes:
    """The record of the page."""
    (line,) = re.findall(r'^    (\{"action".+\})$', PAGE, re.MULTILINE)
    return str(line).encode("ascii")


def test_the_python_example_opens_the_golden_envelope() -> None:
    """The page's program opens the first golden envelope and prints the value it says."""
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, {})  # noqa: S102 - the page is ours
    assert printed.getvalue().strip() == repr(bytes.fromhex(VECTORS["envelopes"][0]["plaintext"]))


def test_the_hex_of_the_page_is_that_of_the_golden_vectors() -> None:
    """Key, id, envelope, binding and lookup of the page are golden vectors."""
    shown = re.sub(r"[^0-9a-f]", "", "".join(re.findall(r"\b(?:[0-9a-f]{2}){4,}\b", PAGE)))
    envelope = VECTORS["envelopes"][0]
    for expected in (VECTORS["key"], VECTORS["dek_id"], envelope["binding"], envelope["envelope"]):
        assert expected in shown
    assert VECTORS["lookups"][0]["mac"] in shown


def test_the_example_record_is_canonical() -> None:
    """The page's record is read strictly, written again as it is, and has the size and hash that are said."""
    entry = example_record()
    assert encode(parse(entry)) == entry
    assert f"{len(entry)} bytes; their leaf hash is `{leaf_hash(entry).hex()}`" in PAGE


def test_the_example_checkpoint_is_what_the_code_signs() -> None:
    """The page's note and verifier key are those of a log with that record and the key it names."""
    signer = FixedSigner()
    note = sign(ORIGIN, 1, leaf_hash(example_record()), signer)
    key = vkey(ORIGIN, signer.public_key())
    indented = "".join(f"    {line}".rstrip() + "\n" for line in note.splitlines())
    assert indented in PAGE
    assert f"verifier key: {key}" in PAGE
    assert parse_and_verify(note, key).size == 1


def test_the_example_announcement_is_what_the_code_signs() -> None:
    """The page's announcement of a log key is what the two keys that it names sign, and counts."""
    detail = announcement_detail(ORIGIN, FixedSigner(), FixedSigner(2))
    assert "".join(f"    {name}: {value}\n" for name, value in detail.items()) in PAGE
    assert verified_announcement(detail).verifier_key == detail["verifier_key"]
