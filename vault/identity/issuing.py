"""X.509 certificates of the embedded authority (RFC 5280; SPIFFE X509-SVID for those with a SPIFFE id).

Pure functions over `cryptography`; files and their rules are `authority.py`'s.
"""

import datetime
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vault.domain.protocols import Clock, Randomness

CA_LIFE: Final = datetime.timedelta(days=3_650)
LEAF_LIFE: Final = datetime.timedelta(days=90)
# clocks of peers are rarely exact: a certificate issued just now must be valid there too
BACKDATED: Final = datetime.timedelta(minutes=5)
FOREVER: Final = datetime.datetime.max.replace(tzinfo=datetime.UTC)

SERVER_USAGE: Final = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT_USAGE: Final = (ExtendedKeyUsageOID.CLIENT_AUTH,)
# X509-SVID, section 4.4: an SVID that names usages names both
SVID_USAGE: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Validity:
    """First and last moment of a certificate, UTC, whole seconds."""

    start: datetime.datetime
    end: datetime.datetime

    @classmethod
    def of(cls, clock: Clock, life: datetime.timedelta, latest: datetime.datetime = FOREVER) -> "Validity":
        """`life` from now on, at most until `latest`, and backdated a little."""
        now = moment(clock)
        return cls(now - BACKDATED, min(now + life, latest))


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a leaf certificate says: its common name (for people), its key, its names, and what it is for."""

    common_name: str
    public: ec.EllipticCurvePublicKey
    names: tuple[x509.GeneralName, ...]
    usage: tuple[x509.ObjectIdentifier, ...]


def moment(clock: Clock) -> datetime.datetime:
    """Now, UTC, in whole seconds (all that X.509 can say)."""
    return datetime.datetime.fromtimestamp(clock.now() // 1_000_000, datetime.UTC)


def new_key() -> Key:
    """A fresh ECDSA P-256 key from OpenSSL's generator."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    """Unencrypted PKCS #8: the file's mode protects it, as it must be read without a person at hand."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """PEM text of one certificate."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def sign_ca(key: Key, validity: Validity, randomness: Randomness) -> x509.Certificate:
    """A self-signed CA certificate that may sign leaves only.

    The subject follows from the key, so that a certificate made again for the same key still heads the
    chains of everything that was issued before.
    """
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "datavault"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"datavault embedded CA {identifier.digest[:4].hex()}"),
        ]
    )
    builder = (
        _builder(subject, key.public_key(), validity, randomness)
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256())


def sign_leaf(
    leaf: Leaf, issuer: x509.Certificate, issuer_key: Key, validity: Validity, randomness: Randomness
) -> x509.Certificate:
    """A certificate for one server or client, signed by the key of `issuer`."""
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)])
    builder = (
        _builder(subject, leaf.public, validity, randomness)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(leaf.usage), critical=False)
        .add_extension(authority, critical=False)
        .add_extension(x509.SubjectAlternativeName(leaf.names), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256())


def parse_key(content: bytes) -> Key | None:
    """The P-256 private key in `content`, None when it holds no such key."""
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except Exception:  # the library's errors are many and may quote the file: only the fact goes on
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    return None


def parse_certificate(content: bytes) -> x509.Certificate | None:
    """The certificate in `content`, None when it holds none that can be read."""
    try:
        certificate = x509.load_pem_x509_certificate(content)
        names_of(certificate)
    except Exception:  # as above
        return None
    return certificate


def names_of(certificate: x509.Certificate) -> frozenset[x509.GeneralName]:
    """All subject alternative names; empty when there is no such extension."""
    try:
        return frozenset(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return frozenset()


def same_key(certificate: x509.Certificate, key: Key) -> bool:
    """Whether `certificate` is for `key`."""
    return certificate.public_key() == key.public_key()


def was_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the names chain and the signature verifies."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # its errors are many (InvalidSignature, ValueError, TypeError) and all mean no
        return False
    return True


def _builder(
    subject: x509.Name, public: ec.EllipticCurvePublicKey, validity: Validity, randomness: Randomness
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(_serial(randomness))
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _serial(randomness: Randomness) -> int:
    # RFC 5280, section 4.1.2.2: positive and at most 20 octets, so the top bit stays clear
    return (int.from_bytes(randomness.token(20), "big") >> 1) or 1


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
