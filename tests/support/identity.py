"""Certificates, key sets, tokens and a caller directory for the tests of the identity room."""

import base64
import datetime
import functools
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from vault.domain.protocols import CallerEntry
from vault.identity.fetch import Source

NOW_SECONDS = 1_800_000_000
NOW = NOW_SECONDS * 1_000_000
ISSUER = "https://idp.bank.example"
AUDIENCE = "datavault"
SUBJECT = "engine-7f3a"
ENGINE = CallerEntry(
    "personalization-engine",
    "retail",
    spiffe=("spiffe://bank.example/personalization-engine",),
    dns=("engine.bank.example", "engine-2.bank.example"),
    jwt=((ISSUER, SUBJECT),),
)
AUDITOR = CallerEntry("auditor", "retail", dns=("auditor.bank.example",))

FAKES_ARE_FINE = pytest.mark.filterwarnings("ignore::vault.testing.TestingFakeWarning")


class Directory:
    """callers.yaml as a list of entries."""

    def __init__(self, *entries: CallerEntry) -> None:
        self.entries = list(entries)

    def by_spiffe(self, uri: str) -> CallerEntry | None:
        return next((entry for entry in self.entries if uri in entry.spiffe), None)

    def by_dns(self, name: str) -> CallerEntry | None:
        return next((entry for entry in self.entries if name in entry.dns), None)

    def by_jwt(self, issuer: str, subject: str) -> CallerEntry | None:
        return next((entry for entry in self.entries if (issuer, subject) in entry.jwt), None)


@functools.cache
def leaf_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def client_certificate(
    *names: x509.GeneralName,
    extensions: Sequence[x509.ExtensionType] = (),
    start: int = NOW_SECONDS - 60,
    end: int = NOW_SECONDS + 60,
    common_name: str = "engine.bank.example",
) -> bytes:
    """PEM of a self-signed certificate that says whatever is wanted. Times in seconds since 1970."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(leaf_key().public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime.fromtimestamp(start, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(end, datetime.UTC))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(leaf_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def uri(text: str) -> x509.GeneralName:
    """A URI name without the checks of `x509.UniformResourceIdentifier`, as a hostile CA might write it."""
    return x509.UniformResourceIdentifier._init_without_validation(text)


def dns(text: str) -> x509.GeneralName:
    return x509.DNSName._init_without_validation(text)


SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def signing_key(algorithm: str, number: int = 0) -> Any:
    """A private key for `algorithm`, the same at every call; another one for another number.

    `RS-1024` is an RSA key that is too short.
    """
    return _made_key(algorithm, number)


@functools.cache
def _made_key(algorithm: str, number: int) -> SigningKey:
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(65_537, 1_024 if algorithm == "RS-1024" else 2_048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def jwk(algorithm: str, kid: str | None = "k1", number: int = 0, **members: Any) -> dict[str, Any]:
    """The public JWK of `signing_key(algorithm, number)`."""
    public = signing_key(algorithm, number).public_key()
    reader: Any = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}[algorithm[0]]
    if algorithm == "EdDSA":
        reader = OKPAlgorithm
    found = {**reader.to_jwk(public, as_dict=True), **members}
    found.pop("key_ops", None)
    found.update({name: members[name] for name in ("key_ops",) if name in members})
    return found if kid is None else {**found, "kid": kid}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a good token; a change to None leaves the claim out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "exp": NOW_SECONDS + 600, "iat": NOW_SECONDS - 5}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(
    algorithm: str = "ES256",
    kid: str | None = "k1",
    number: int = 0,
    headers: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A signed token with `claims(**changes)`."""
    header = dict(headers or {})
    if kid is not None:
        header["kid"] = kid
    body = json.dumps(claims(**changes)).encode()
    return jwt.api_jws.encode(body, signing_key(algorithm, number), algorithm, header)


def forged(header: Any, body: Any, hmac_key: bytes | None = None) -> str:
    """A token made by hand: unsigned, or with HMAC-SHA-256 under `hmac_key`."""
    return _by_hand(
        header, body, lambda data: hmac.digest(hmac_key, data, hashlib.sha256) if hmac_key else b""
    )


def signed_by_hand(header: Mapping[str, Any]) -> str:
    """A token with exactly this header and good claims, well signed by the ES256 key."""
    algorithm = jwt.get_algorithm_by_name("ES256")
    return _by_hand(header, claims(), lambda data: algorithm.sign(data, signing_key("ES256")))


def _by_hand(header: Any, body: Any, sign: Callable[[bytes], bytes]) -> str:
    signing_input = b".".join(_encode(json.dumps(part).encode()) for part in (header, body))
    return (signing_input + b"." + _encode(sign(signing_input))).decode()


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@dataclass
class Server:
    """Serves one document, counts how often it is fetched, and fails when told to."""

    document: bytes
    fetched: int = 0
    down: bool = False
    sources: list[Source] = field(default_factory=list)

    def __call__(self, source: Source) -> bytes:
        self.fetched += 1
        self.sources.append(source)
        if self.down:
            raise OSError("no route to host")
        return self.document
