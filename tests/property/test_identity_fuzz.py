"""Hostile input ends in UnauthenticatedError, whatever it is."""

import base64
import contextlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.support.identity import (
    AUDIENCE,
    ENGINE,
    FAKES_ARE_FINE,
    ISSUER,
    NOW,
    Directory,
    Server,
    claims,
    client_certificate,
    dns,
    forged,
    jwk,
    key_set,
    token,
    uri,
)
from vault.domain.errors import UnauthenticatedError
from vault.identity.bearer import bearer_token
from vault.identity.certificates import identity_of
from vault.identity.jwks import parse_key_set
from vault.identity.jwt import JwtAuthenticator, JwtIssuer
from vault.identity.names import is_dns_name, is_spiffe_id
from vault.testing import FakeClock

pytestmark = FAKES_ARE_FINE

GOOD_PEM = client_certificate(uri("spiffe://bank.example/engine"), dns("engine.bank.example"))
GOOD_DER = base64.b64decode(b"".join(GOOD_PEM.splitlines()[1:-1]))
GOOD_TOKEN = token()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
ASCII = st.text(st.characters(codec="ascii"), min_size=1, max_size=40)
KEY_MEMBERS = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "kid", "alg", "use", "key_ops"])


def pem(der: bytes) -> bytes:
    lines = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"


def authenticator() -> JwtAuthenticator:
    directory = Directory(ENGINE)
    issuer = JwtIssuer(ISSUER, AUDIENCE, "https://idp.bank.example/keys")
    return JwtAuthenticator([issuer], lambda: directory, FakeClock(NOW), Server(key_set(jwk("ES256"))))


@given(st.binary(max_size=2_000) | st.binary(max_size=2_000).map(pem))
def test_arbitrary_bytes_are_no_certificate(data: bytes) -> None:
    """Reading arbitrary bytes, bare or as PEM, raises UnauthenticatedError and nothing else."""
    with contextlib.suppress(UnauthenticatedError):
        identity_of(data)


@given(place=st.integers(0, len(GOOD_DER) - 1), byte=st.integers(0, 255))
def test_a_changed_certificate_proves_one_name_or_none(place: int, byte: int) -> None:
    """Any byte of a certificate changed: still exactly one kind of name, or UnauthenticatedError."""
    changed = GOOD_DER[:place] + bytes([byte]) + GOOD_DER[place + 1 :]
    with contextlib.suppress(UnauthenticatedError):
        found = identity_of(pem(changed))
        assert (found.spiffe is None) != (found.dns == ())


@given(uris=st.lists(ASCII.map(uri), max_size=2), hosts=st.lists(ASCII.map(dns), max_size=3))
def test_only_valid_names_come_out_of_a_certificate(uris: list[Any], hosts: list[Any]) -> None:
    """Whatever names a CA signs, what comes out is a valid SPIFFE id or valid DNS names."""
    with contextlib.suppress(UnauthenticatedError):
        found = identity_of(client_certificate(*uris, *hosts))
        assert len(uris) == (found.spiffe is not None)
        assert found.spiffe is None or is_spiffe_id(found.spiffe)
        assert all(is_dns_name(name) for name in found.dns)


@given(st.text(max_size=300) | st.tuples(JSON, JSON).map(lambda parts: forged(parts[0], parts[1])))
def test_arbitrary_text_is_no_token(text: str) -> None:
    """Arbitrary text and unsigned arbitrary JSON never prove a caller."""
    with contextlib.suppress(UnauthenticatedError):
        authenticator().caller(text)
        raise AssertionError("a token was accepted")


@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ"]), JSON | st.just("ES256")),
    changes=st.dictionaries(st.sampled_from(["exp", "aud", "sub", "nbf", "iat"]), JSON),
)
def test_no_unsigned_token_is_accepted(header: dict[str, Any], changes: dict[str, Any]) -> None:
    """Whatever header and claims say, without a signature there is no caller."""
    with contextlib.suppress(UnauthenticatedError):
        authenticator().caller(forged(header, {**claims(), **changes}))
        raise AssertionError("a token was accepted")


@given(place=st.integers(0, len(GOOD_TOKEN) - 1), character=st.characters(codec="ascii"))
def test_no_changed_token_is_accepted(place: int, character: str) -> None:
    """Any character of a good token changed, the last bits included, makes it a bad one."""
    changed = GOOD_TOKEN[:place] + character + GOOD_TOKEN[place + 1 :]
    with contextlib.suppress(UnauthenticatedError):
        authenticator().caller(changed)
        assert changed == GOOD_TOKEN


@given(st.dictionaries(KEY_MEMBERS, JSON | st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB"])))
def test_arbitrary_keys_are_left_out(members: dict[str, Any]) -> None:
    """A key set with arbitrary members in one entry still gives the good key beside it."""
    good = jwk("ES256", "good")
    found = parse_key_set(key_set({**jwk("ES256", "odd"), **members}, good))
    assert any(key.kid == "good" and isinstance(key.public, ec.EllipticCurvePublicKey) for key in found)


@given(st.lists(st.tuples(st.sampled_from(["authorization", "x"]), st.text() | st.binary()), max_size=3))
def test_arbitrary_metadata_is_no_crash(metadata: list[tuple[str, str | bytes]]) -> None:
    """Metadata gives a token of the bearer alphabet or UnauthenticatedError."""
    with contextlib.suppress(UnauthenticatedError):
        assert bearer_token(metadata).isascii()
