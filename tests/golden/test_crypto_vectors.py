"""The bytes of every format of the crypto room, fixed: data written today must open for decades.

`crypto_vectors.json` holds inputs and outputs in hex. Each output is checked against our code, and derived a
second time here by nothing but hmac and AES-GCM, from the words of the specification (keys.md).
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.crypto import MemoryTenantKeys, local_provider
from vault.crypto.encoding import integer, lp, value_binding
from vault.crypto.envelope import DataKey, dek_id_of, key_context
from vault.crypto.local import LocalKeyProvider
from vault.crypto.lookup_keys import LookupKey
from vault.crypto.tenant_keys import TenantKeys
from vault.domain.protocols import UnwrapItem, WrapItem
from vault.domain.system import SystemRandomness
from vault.domain.types import KeyScope, ValueScope
from vault.testing import FixedRandomness

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "crypto_vectors.json").read_text("utf-8"))
RAW = bytes.fromhex(VECTORS["key"])
NONCE = bytes.fromhex(VECTORS["nonce"])
SUBJECT = bytes.fromhex(VECTORS["subject"])


def spec_lp(*parts: bytes) -> bytes:
    """LP, written down a second time."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def spec_hkdf(key: bytes, info: bytes) -> bytes:
    """One block of HKDF-SHA-256 without salt (RFC 5869, sections 2.2 and 2.3)."""
    extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def spec_hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def spec_envelope(key: bytes, parts: tuple[bytes, ...], plaintext: bytes) -> bytes:
    """The envelope of keys.md, "Ciphertext", with the fixed nonce."""
    header = b"DV" + bytes([1, 1]) + spec_hkdf(key, b"datavault dek id v1") + NONCE
    return header + AESGCM(key).encrypt(NONCE, plaintext, header + spec_lp(*parts))


def scope_of(vector: dict[str, Any]) -> ValueScope:
    return ValueScope(
        vector["tenant"], SUBJECT, vector["attribute"], vector["type_version"], vector["version"]
    )


def parts_of(vector: dict[str, Any]) -> tuple[bytes, ...]:
    return (
        vector["tenant"].encode(),
        SUBJECT,
        vector["attribute"].encode(),
        vector["type_version"].to_bytes(8, "big"),
        vector["version"].to_bytes(8, "big"),
    )


@pytest.mark.parametrize("vector", VECTORS["lp"])
def test_lp(vector: dict[str, Any]) -> None:
    """Length as uint32 big-endian, then the bytes, of each part."""
    parts = [bytes.fromhex(part) for part in vector["parts"]]
    assert lp(*parts).hex() == spec_lp(*parts).hex() == vector["lp"]


@pytest.mark.parametrize("vector", VECTORS["integers"])
def test_integers(vector: dict[str, Any]) -> None:
    """8 bytes big-endian."""
    assert integer(vector["number"]).hex() == vector["bytes"]


@pytest.mark.parametrize("number", [-1, 2**64])
def test_integers_out_of_range_are_refused(number: int) -> None:
    """Only what 8 unsigned bytes hold is an integer here."""
    with pytest.raises(ValueError, match="64-bit"):
        integer(number)


def test_dek_id() -> None:
    """HKDF-SHA-256 of the key, without salt."""
    assert DataKey(RAW).id.hex() == spec_hkdf(RAW, b"datavault dek id v1").hex() == VECTORS["dek_id"]


@pytest.mark.parametrize("vector", VECTORS["envelopes"], ids=lambda vector: vector["attribute"])
def test_binding(vector: dict[str, Any]) -> None:
    """What is authenticated beside the header: LP of tenant, subject, attribute and the two versions."""
    scope = scope_of(vector)
    bound = value_binding(scope.tenant, scope.subject, scope.attribute, scope.type_version, scope.version)
    assert bound.hex() == spec_lp(*parts_of(vector)).hex() == vector["binding"]


@pytest.mark.parametrize("vector", VECTORS["envelopes"], ids=lambda vector: vector["attribute"])
def test_envelope(vector: dict[str, Any]) -> None:
    """The envelope of a value with the fixed nonce, sealed, derived a second time, and opened."""
    plaintext = bytes.fromhex(vector["plaintext"])
    sealed = DataKey(RAW).seal(scope_of(vector), plaintext, FixedRandomness(NONCE))
    assert sealed.hex() == spec_envelope(RAW, parts_of(vector), plaintext).hex() == vector["envelope"]
    assert DataKey(RAW).open(scope_of(vector), sealed) == plaintext
    assert dek_id_of(sealed).hex() == VECTORS["dek_id"]


@pytest.mark.parametrize("vector", VECTORS["key_contexts"])
def test_key_context(vector: dict[str, Any]) -> None:
    """What binds a wrapped DEK: LP of tenant, subject and key class."""
    context = key_context(KeyScope(vector["tenant"], SUBJECT, vector["key_class"]))
    expected = spec_lp(vector["tenant"].encode(), SUBJECT, vector["key_class"].encode())
    assert context.hex() == expected.hex() == vector["context"]


@pytest.mark.parametrize("vector", VECTORS["lookups"])
def test_lookup(vector: dict[str, Any]) -> None:
    """HMAC-SHA-256 of LP(tenant) || LP(number) under the lookup key."""
    mac = LookupKey(vector["tenant"], 1, RAW).mac(vector["number"])
    expected = spec_hmac(RAW, spec_lp(vector["tenant"].encode(), vector["number"].encode()))
    assert mac.hex() == expected.hex() == vector["mac"]


def test_fingerprint() -> None:
    """HMAC-SHA-256 under a key derived from the lookup key."""
    vector = VECTORS["fingerprint"]
    content = bytes.fromhex(vector["content"])
    expected = spec_hmac(spec_hkdf(RAW, b"datavault request fingerprint key v1"), content)
    made = LookupKey("retail", 1, RAW).fingerprint(content)
    assert made.hex() == expected.hex() == vector["fingerprint"]


def test_customer_number() -> None:
    """An envelope of the reserved attribute under a key derived from the lookup key."""
    vector = VECTORS["customer_number"]
    key = LookupKey(vector["tenant"], 1, RAW)
    sealed = key.seal_number(SUBJECT, vector["number"], FixedRandomness(NONCE))
    one = (1).to_bytes(8, "big")
    parts = (vector["tenant"].encode(), SUBJECT, b"$customer-number", one, one)
    derived = spec_hkdf(RAW, b"datavault customer number key v1")
    expected = spec_envelope(derived, parts, vector["number"].encode())
    assert sealed.hex() == expected.hex() == vector["envelope"]
    assert key.open_number(SUBJECT, sealed) == vector["number"]


@pytest.mark.parametrize("vector", VECTORS["pseudonyms"])
def test_pseudonym(vector: dict[str, Any], tmp_path: Path) -> None:
    """HMAC-SHA-256 under a key derived from the root for a caller, an attribute and perhaps a purpose."""
    provider = local_provider(tmp_path)
    repository = MemoryTenantKeys()
    context = spec_lp(vector["tenant"].encode(), b"pseudonym")
    [wrapped] = provider.wrap("datavault-pseudonym", [WrapItem(RAW, context)])
    repository.rows[(vector["tenant"], "pseudonym")] = {1: wrapped}
    names = [vector[name] for name in ("tenant", "caller", "attribute", "purpose")]
    key = TenantKeys(provider, repository, SystemRandomness()).pseudonym_key(*names)
    value = bytes.fromhex(vector["value"])
    info = spec_lp(b"datavault pseudonym key v1", *[name.encode() for name in names if name is not None])
    expected = spec_hmac(spec_hkdf(RAW, info), value)
    assert key.pseudonym(value).hex() == expected.hex() == vector["pseudonym"]


def test_local_wrap(tmp_path: Path) -> None:
    """A wrapped key of the local provider: AES-256-GCM under a key derived by the context."""
    vector = VECTORS["local_wrap"]
    file = tmp_path / "keys.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(vector["file"]))
    provider = LocalKeyProvider(file, environment="development", randomness=FixedRandomness(NONCE))
    context = bytes.fromhex(vector["context"])
    [wrapped] = provider.wrap(vector["key"], [WrapItem(RAW, context)])
    assert wrapped.decode("ascii") == vector["wrapped"]
    kek = spec_hkdf(bytes(range(32)), context)
    sealed = AESGCM(kek).encrypt(NONCE, RAW, vector["key"].encode())
    assert wrapped == b"local:v2:" + base64.b64encode(NONCE + sealed)
    assert provider.unwrap(vector["key"], [UnwrapItem(wrapped, context)]) == [RAW]
