"""The C2SP formats: byte for byte those of the golden files, and third parties' published vectors."""

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.support.audit import BASE, ORIGIN, KeySigner, vkey_of
from vault.audit import receipt
from vault.audit.checkpoint import key_id, parse_and_verify, parse_vkey, sign
from vault.audit.merkle import EMPTY_ROOT, inclusion_proof, leaf_hash
from vault.audit.record import encode
from vault.audit.tree import TreeBuilder

HERE = Path(__file__).parent
ENTRIES = [encode(BASE), b"one", b"two", b"three", b"four"]


def golden(name: str) -> str:
    return (HERE / name).read_bytes().decode()


def small_tree() -> tuple[TreeBuilder, bytes]:
    tree = TreeBuilder()
    tiles = tree.add(map(leaf_hash, ENTRIES))
    return tree, tiles[0, 0]


def test_checkpoint_is_the_golden_one() -> None:
    """A fixed key signs the checkpoint of a fixed tree to the bytes that were written down."""
    tree, _ = small_tree()
    note = sign(ORIGIN, tree.size, tree.root(), KeySigner())
    assert note == golden("audit_checkpoint.txt")
    assert parse_and_verify(note, vkey_of()).root == tree.root()


def test_empty_checkpoint_is_the_golden_one() -> None:
    """The checkpoint of an empty log holds size 0 and the hash of no bytes."""
    assert sign(ORIGIN, 0, EMPTY_ROOT, KeySigner()) == golden("audit_checkpoint_empty.txt")


def test_vkey_is_the_golden_one() -> None:
    """The verifier key of the fixed key is the text that was written down."""
    assert vkey_of() + "\n" == golden("audit_vkey.txt")


def test_receipt_is_the_golden_one() -> None:
    """The receipt of a fixed record is the text that was written down, and verifies with the vkey alone."""
    tree, tile = small_tree()
    proof = inclusion_proof(0, tree.size, lambda _level, _index: tile)
    text = receipt.build(ENTRIES[0], 0, proof, golden("audit_checkpoint.txt"))
    assert text == golden("audit_receipt.tlog-proof")
    assert receipt.verify(text, golden("audit_vkey.txt").strip()).entry == ENTRIES[0]


def test_vkeys_of_go_are_read() -> None:
    """The verifier keys that Go publishes are read, and their ids are recomputed."""
    for text in (
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    ):
        key = parse_vkey(text)
        assert key_id(key.name, key.public_key).hex() == text.split("+")[1]


def test_signature_of_go_is_made_as_ours() -> None:
    """The signature line of Go's published example is an id and pure Ed25519 over the text, as ours is."""
    key = parse_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    line = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    signature = base64.b64decode(line)
    assert signature[:4] == key.key_id
    Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature[4:], text.encode())
