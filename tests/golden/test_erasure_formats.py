"""The exact bytes of a receipt of erasure, what its signature covers, and of a tombstone."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vault.crypto.receipts import verify_receipt
from vault.domain.canonical import canonical_json
from vault.erasing.receipts import Made, Tombstone, build_receipt, read_receipt, read_tombstone
from vault.erasing.retention import Plan, Retained
from vault.recording import RecordedAt
from vault.store.erasure import Holding

PLAN = Plan(
    erased=(Holding("contact", 1, 2, 5),),
    retained=(
        Retained("identity", "AML", False, 1_940_544_000_000_000, ("aml-screening", "subject-rights")),
        Retained("identity", "Fall 7, Zürich", True, None, ("collections",)),
    ),
    whole=False,
)
MADE = Made(
    receipt_id="01a20c00-6fb5-7f94-9767-695fdd4cc059",
    tenant="retail",
    at=1_795_497_684_938_731,
    record=RecordedAt("01a20c00-6fff-7033-980b-c780cb47fea4", 4),
    origin="datavault.local/log",
    policy="67a65ec0",
    legal_hold="Fall 7, Zürich",
    events=2,
    evidence_until=1_984_713_684_938_731,
)
RECEIPT = (
    b'{"erased":[{"class":"contact","keys":1,"values":2}],"erased_at":1795497684938731,'
    b'"evidence":{"events":2,"kept_until":1984713684938731},"legal_hold":"Fall 7, Z\\u00fcrich",'
    b'"log":{"origin":"datavault.local/log","position":4,"record":"01a20c00-6fff-7033-980b-c780cb47fea4"},'
    b'"policy":"67a65ec0","receipt":"01a20c00-6fb5-7f94-9767-695fdd4cc059",'
    b'"retained":[{"class":"identity","ends_at":1940544000000000,"ground":"AML","legal_hold":0,'
    b'"purposes":["aml-screening","subject-rights"]},'
    b'{"class":"identity","ground":"Fall 7, Z\\u00fcrich","legal_hold":1,"purposes":["collections"]}],'
    b'"survives":[{"until":"the last backup from before this moment, of the database or its file system, is'
    b' destroyed","where":"backups"},{"until":"the database file is rewritten: subject erase --scrub'
    b' (SQLite), VACUUM FULL (PostgreSQL)","where":"database pages"},{"until":"it is emptied:'
    b' subject erase --scrub (SQLite), its files are recycled (PostgreSQL)","where":"write-ahead log"}],'
    b'"tenant":"retail","v":1,"whole":0}'
)


def test_a_receipt_has_these_bytes_and_reads_back() -> None:
    """Canonical JSON, as the guide of the privacy office shows it."""
    receipt = build_receipt(PLAN, MADE)
    assert receipt.raw == RECEIPT
    assert read_receipt(RECEIPT) == receipt
    assert receipt.retained == PLAN.retained


def test_the_signature_covers_prefix_and_bytes() -> None:
    """Any Ed25519 implementation verifies it from the documentation alone."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    signature = key.sign(b"datavault erasure receipt v1\n" + RECEIPT)
    verify_receipt(RECEIPT, signature, key.public_key().public_bytes_raw())


def test_a_tombstone_has_these_bytes_and_reads_back() -> None:
    """What the outside store keeps for a restore."""
    tombstone = Tombstone(MADE.receipt_id, ("contact",), False, True, 0, MADE.at)
    document = tombstone.document("retail", bytes(range(16)))
    assert canonical_json(document) == (
        b'{"erased":["contact"],"event":"01a20c00-6fb5-7f94-9767-695fdd4cc059","evidence_until":0,'
        b'"kind":"tombstone","legal_hold":1,"only_retained":0,"recorded_at":1795497684938731,'
        b'"subject":"000102030405060708090a0b0c0d0e0f","tenant":"retail","whole":0}'
    )
    assert read_tombstone(document) == tombstone
