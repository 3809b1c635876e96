"""JSON Web Token -> caller."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.identity import (
    AUDIENCE,
    AUDITOR,
    ENGINE,
    FAKES_ARE_FINE,
    ISSUER,
    NOW,
    NOW_SECONDS,
    SUBJECT,
    Directory,
    Server,
    claims,
    forged,
    jwk,
    key_set,
    signed_by_hand,
    signing_key,
    token,
)
from vault.domain.errors import ConfigurationError, UnauthenticatedError
from vault.domain.types import Caller
from vault.identity.jwt import JwtAuthenticator, JwtIssuer
from vault.testing import FakeClock

pytestmark = FAKES_ARE_FINE

URL = "https://idp.bank.example/keys"
TRUSTED = JwtIssuer(ISSUER, AUDIENCE, URL)
OTHER = JwtIssuer("https://other.example", AUDIENCE, "https://other.example/keys")
PUBLIC_PEM = (
    signing_key("RS256")
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)


@pytest.fixture
def server() -> Server:
    return Server(key_set(jwk("ES256", "k1"), jwk("RS256", "r1"), jwk("EdDSA", "o1")))


@pytest.fixture
def authenticator(server: Server) -> JwtAuthenticator:
    return build(server)


def build(server: Server, *issuers: JwtIssuer) -> JwtAuthenticator:
    directory = Directory(ENGINE, AUDITOR)
    return JwtAuthenticator(issuers or (TRUSTED,), lambda: directory, FakeClock(NOW), server)


def refusal(authenticator: JwtAuthenticator, text: str) -> str:
    """The message of the refusal, which must quote nothing of the token."""
    with pytest.raises(UnauthenticatedError) as caught:
        authenticator.caller(text)
    for secret in (SUBJECT, "other-audience", "evil.example", "k9", text):
        assert not secret or secret not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.message


@pytest.mark.parametrize(("algorithm", "kid"), [("ES256", "k1"), ("RS256", "r1"), ("EdDSA", "o1")])
def test_a_good_token_proves_its_caller(authenticator: JwtAuthenticator, algorithm: str, kid: str) -> None:
    """Issuer and subject are mapped to the caller, whose identity names both."""
    caller = authenticator.caller(token(algorithm, kid))
    assert caller == Caller(ENGINE.id, "retail", f"jwt:{ISSUER}#{SUBJECT}")


def test_one_of_several_audiences_is_enough(authenticator: JwtAuthenticator) -> None:
    """A token for several audiences is good when this service is one of them."""
    assert authenticator.caller(token(aud=["x", AUDIENCE])).id == ENGINE.id


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"exp": NOW_SECONDS - 30}, "has expired"),
        ({"exp": NOW_SECONDS - 10_000_000_000}, "has expired"),
        ({"nbf": NOW_SECONDS + 31}, "not yet valid"),
        ({"iat": NOW_SECONDS + 31}, "issued in the future"),
        ({"aud": "other-audience"}, "not for this audience"),
        ({"aud": ["other-audience"]}, "not for this audience"),
        ({"aud": 7}, "not for this audience"),
        ({"aud": {"x": "datavault"}}, "not for this audience"),
        ({"iss": "https://evil.example"}, "issuer is not configured"),
        ({"iss": ISSUER + "/"}, "issuer is not configured"),
        ({"iss": [ISSUER]}, "issuer is not configured"),
        ({"sub": "someone-else"}, "no known caller"),
        ({"sub": 7}, "malformed"),
        ({"iss": None}, "issuer is not configured"),
        ({"exp": None}, "lacks one of the claims"),
        ({"aud": None}, "lacks one of the claims"),
        ({"sub": None}, "lacks one of the claims"),
        ({"exp": "soon"}, "exp is not a time"),
        ({"exp": str(NOW_SECONDS + 60)}, "exp is not a time"),
        ({"exp": True}, "exp is not a time"),
        ({"exp": float("nan")}, "exp is not a time"),
        ({"exp": float("inf")}, "exp is not a time"),
        ({"nbf": float("nan")}, "nbf is not a time"),
        ({"nbf": "now"}, "nbf is not a time"),
        ({"iat": [1]}, "iat is not a time"),
    ],
)
def test_a_token_with_a_bad_claim_is_refused(
    authenticator: JwtAuthenticator, changes: dict[str, Any], check: str
) -> None:
    """Each wrong or missing claim of a well-signed token is refused, with which check failed."""
    assert check in refusal(authenticator, token(**changes))


@pytest.mark.parametrize("changes", [{"exp": NOW_SECONDS - 29}, {"nbf": NOW_SECONDS + 30}, {"exp": 10**400}])
def test_times_have_a_leeway(authenticator: JwtAuthenticator, changes: dict[str, Any]) -> None:
    """Clocks may differ by the configured 30 seconds; times far away are times too."""
    assert authenticator.caller(token(**changes)).id == ENGINE.id


def test_times_are_those_of_the_clock(server: Server) -> None:
    """The clock that was passed in decides, not the machine's."""
    clock = FakeClock(NOW)
    directory = Directory(ENGINE)
    authenticator = JwtAuthenticator([TRUSTED], lambda: directory, clock, server)
    good = token()
    authenticator.caller(good)
    clock.advance(600 + 30)
    assert "has expired" in refusal(authenticator, good)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, ["ES256"]])
def test_an_unsigned_token_is_refused(authenticator: JwtAuthenticator, name: object) -> None:
    """`alg: none` in any spelling, no algorithm and a list of them are refused."""
    assert "algorithm" in refusal(authenticator, forged({"alg": name, "kid": "k1"}, claims()))


def test_a_missing_algorithm_is_refused(authenticator: JwtAuthenticator) -> None:
    """A header without `alg` is refused."""
    assert "algorithm" in refusal(authenticator, forged({"kid": "k1"}, claims()))


@pytest.mark.parametrize("secret", [PUBLIC_PEM, PUBLIC_PEM.strip(), json.dumps(jwk("RS256", "r1")).encode()])
def test_a_public_key_is_no_hmac_secret(authenticator: JwtAuthenticator, secret: bytes) -> None:
    """A token signed by HS256 with the issuer's public key is refused (algorithm confusion)."""
    confused = forged({"alg": "HS256", "kid": "r1"}, claims(), secret)
    assert "algorithm" in refusal(authenticator, confused)


def test_an_hmac_secret_in_the_key_set_is_no_key() -> None:
    """Even a set that publishes a symmetric key lets no HS256 token pass."""
    secret = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXh4", "kid": "h1", "alg": "HS256"}
    authenticator = build(Server(key_set(secret, jwk("ES256"))))
    assert "algorithm" in refusal(
        authenticator, forged({"alg": "HS256", "kid": "h1"}, claims(), b"secret-secret-secret-secret-xx")
    )


def test_algorithms_are_pinned_per_issuer(server: Server) -> None:
    """A strong algorithm that this issuer is not configured for is refused."""
    narrow = build(server, JwtIssuer(ISSUER, AUDIENCE, URL, algorithms=("ES256",)))
    assert "algorithm" in refusal(narrow, token("RS256", "r1"))


def test_a_key_verifies_its_own_algorithm_alone(authenticator: JwtAuthenticator) -> None:
    """A token that names a key of another type is refused before its signature is looked at."""
    assert "no single key" in refusal(authenticator, token("ES256", "r1"))


def test_another_key_does_not_verify(authenticator: JwtAuthenticator) -> None:
    """A signature by a key that the issuer does not publish is refused."""
    assert "signature does not verify" in refusal(authenticator, token(number=1))


def test_changed_claims_do_not_verify(authenticator: JwtAuthenticator) -> None:
    """The signature covers the claims."""
    header, _, signature = token().split(".")
    body = forged({}, claims(sub="someone-else")).split(".")[1]
    assert "signature does not verify" in refusal(authenticator, f"{header}.{body}.{signature}")


def test_the_keys_are_those_of_the_claimed_issuer() -> None:
    """One issuer cannot sign for another: each has its own keys."""

    def fetch(source: object) -> bytes:
        return key_set(jwk("ES256", number=0 if source == URL else 1))

    directory = Directory(ENGINE)
    authenticator = JwtAuthenticator([TRUSTED, OTHER], lambda: directory, FakeClock(NOW), fetch)
    assert authenticator.caller(token(number=0)).id == ENGINE.id
    assert "signature does not verify" in refusal(authenticator, token(number=1))


def test_an_unknown_key_is_fetched_for_once_only(authenticator: JwtAuthenticator, server: Server) -> None:
    """Tokens with unknown key ids do not make the service hammer the issuer."""
    for _ in range(20):
        assert "no single key" in refusal(authenticator, token(kid="k9"))
    assert server.fetched == 1


def test_tokens_of_unknown_issuers_fetch_nothing(authenticator: JwtAuthenticator, server: Server) -> None:
    """Only configured issuers are ever asked for keys."""
    refusal(authenticator, token(iss="https://evil.example"))
    assert server.fetched == 0


def test_a_token_without_key_id_needs_one_fitting_key(server: Server) -> None:
    """Without `kid` the only key for the algorithm is taken; with two the token is refused."""
    authenticator = build(server)
    assert authenticator.caller(token(kid=None)).id == ENGINE.id
    server.document = key_set(jwk("ES256", "k1"), jwk("ES256", "k2", number=1))
    assert "no single key" in refusal(build(server), token(kid=None))


@pytest.mark.parametrize("header", [{"crit": ["x"], "x": 1}, {"crit": ["b64"], "b64": True}, {"crit": []}])
def test_a_critical_extension_is_refused(authenticator: JwtAuthenticator, header: dict[str, Any]) -> None:
    """Extensions that must be understood are none that this service understands."""
    good = {"alg": "ES256", "kid": "k1"}
    assert authenticator.caller(signed_by_hand(good)).id == ENGINE.id
    refusal(authenticator, signed_by_hand({**good, **header}))


def test_a_key_id_must_be_text(authenticator: JwtAuthenticator) -> None:
    """A key id of another type is refused."""
    refusal(authenticator, forged({"alg": "ES256", "kid": 7}, claims()))


@pytest.mark.parametrize("embedded", [{"jwk": jwk("ES256", number=1)}, {"jku": "https://evil.example/keys"}])
def test_keys_in_the_token_are_ignored(authenticator: JwtAuthenticator, embedded: dict[str, Any]) -> None:
    """A token that brings its own key, or says where to fetch it, is verified with the issuer's."""
    assert "signature does not verify" in refusal(authenticator, token(number=1, headers=embedded))


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b.c", "a" * 8_192, "é.é.é", "W10.W10.", forged([], []), forged({"alg": "ES256"}, [])],
)
def test_malformed_text_is_refused(authenticator: JwtAuthenticator, text: str) -> None:
    """What is no token is unauthenticated."""
    assert "malformed" in refusal(authenticator, text)


def test_an_oversized_token_is_refused(authenticator: JwtAuthenticator) -> None:
    """A token of more than 8,192 characters is refused unread, though it is well signed."""
    assert "too long" in refusal(authenticator, token(padding="x" * 8_192))


def test_deeply_nested_claims_are_refused(authenticator: JwtAuthenticator) -> None:
    """JSON nested thousands deep ends in a refusal, not in a crash."""
    key: Any = signing_key("ES256")
    nested = jwt.api_jws.encode(b"[" * 5_000, key, "ES256", {"kid": "k1"})
    assert "malformed" in refusal(authenticator, nested)


def test_load_names_the_issuers_without_keys(server: Server) -> None:
    """At start the issuers whose keys cannot be fetched are named."""
    server.down = True
    assert build(server, TRUSTED, OTHER).load() == (TRUSTED.issuer, OTHER.issuer)
    server.down = False
    assert build(server, TRUSTED, OTHER).load() == ()


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithms": ("HS256",)},
        {"algorithms": ("RS256", "none")},
        {"algorithms": ("ES256K",)},
        {"algorithms": ()},
        {"issuer": ""},
        {"audience": ""},
        {"leeway_seconds": -1},
        {"leeway_seconds": 301},
        {"jwks": "http://idp.bank.example/keys"},
    ],
)
def test_unsafe_settings_are_refused(settings: dict[str, Any]) -> None:
    """An issuer cannot be configured for symmetric algorithms, empty names, endless leeway or plain http."""
    good: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": URL}
    with pytest.raises(ConfigurationError):
        JwtIssuer(**{**good, **settings})


def test_an_issuer_is_configured_once(server: Server) -> None:
    """Two entries for one issuer are an error: which of them would hold?"""
    with pytest.raises(ConfigurationError, match="twice"):
        build(server, TRUSTED, TRUSTED)
