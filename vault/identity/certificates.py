"""The client certificate of a TLS connection -> caller (SPIFFE X509-SVID, section 5.2; RFC 5280).

The TLS layer has verified chain and key possession already. What remains is to read the one name that the
certificate proves, and to check its period again: connections live longer than certificates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from vault.domain.errors import UnauthenticatedError
from vault.domain.protocols import CallerDirectory, CallerEntry, Clock
from vault.domain.types import Caller
from vault.identity import names

CERTIFICATE_BYTES: Final = 64 * 1024
DNS_NAMES: Final = 100
CACHED_CERTIFICATES: Final = 1_024

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)
_CLIENT_USAGES: Final = frozenset(
    {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
)


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """What a client certificate proves: a SPIFFE id, or else DNS names (exactly one of the two is there).

    `label` is the SPIFFE id, or `dns:` and the first DNS name.
    """

    spiffe: str | None
    dns: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class _ParsedCertificate:
    identity: CertificateIdentity
    not_before_seconds: int
    not_after_seconds: int


def identity_of(pem: bytes) -> CertificateIdentity:
    """The identity in a client certificate (the first of `pem`), whose chain is verified elsewhere.

    Its one URI name, which must be a SPIFFE id; without any, its DNS names, lower-cased, wildcards left out.
    Never the common name. Its period is not looked at.

    Raises:
        UnauthenticatedError: no such name, several URI names, a malformed name, a CA certificate, one that
            is not for clients, or no certificate at all.
    """
    return _parse(pem).identity


class CertificateAuthenticator:
    """Maps client certificates to callers. Safe to share between threads; never blocks.

    Only parsing is cached: the period is checked and the directory asked at every call, as both can change
    while a connection is open.
    """

    def __init__(self, directory: Callable[[], CallerDirectory], clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._parse = lru_cache(maxsize=CACHED_CERTIFICATES)(_parse)

    def caller(self, pem: bytes) -> Caller:
        """The caller that the certificate proves; its `identity` is the SPIFFE id or `dns:` and the name.

        Raises:
            UnauthenticatedError: as `identity_of`; expired or not yet valid; mapped to no caller, or (with
                several DNS names) to more than one.
        """
        parsed = self._parse(pem)
        self._check_period(parsed)
        return _map(self._directory(), parsed.identity)

    def _check_period(self, parsed: _ParsedCertificate) -> None:
        now = self._clock.now() // 1_000_000
        if now < parsed.not_before_seconds:
            raise UnauthenticatedError("the client certificate is not yet valid")
        # the last second belongs to the period (RFC 5280, section 4.1.2.5)
        if now > parsed.not_after_seconds:
            raise UnauthenticatedError("the client certificate has expired")


def _parse(pem: bytes) -> _ParsedCertificate:
    if len(pem) > CERTIFICATE_BYTES:
        raise UnauthenticatedError("the client certificate is too large")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        extensions = certificate.extensions
        period = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except Exception:  # malformed input raises far more than ValueError there, and all of it means no
        raise UnauthenticatedError("the client certificate cannot be read") from None
    _check_leaf(extensions)
    _check_usage(extensions)
    return _ParsedCertificate(_identity(extensions), int(period[0].timestamp()), int(period[1].timestamp()))


def _check_leaf(extensions: x509.Extensions) -> None:
    # X509-SVID, section 5.2: who can sign certificates could be anyone, so is no one in particular
    constraints = _extension(extensions, x509.BasicConstraints)
    usage = _extension(extensions, x509.KeyUsage)
    if (constraints and constraints.ca) or (usage and (usage.key_cert_sign or usage.crl_sign)):
        raise UnauthenticatedError("the client certificate is that of a certificate authority")


def _check_usage(extensions: x509.Extensions) -> None:
    usages = _extension(extensions, x509.ExtendedKeyUsage)
    if usages is not None and _CLIENT_USAGES.isdisjoint(usages):
        raise UnauthenticatedError("the client certificate is not for client authentication")


def _identity(extensions: x509.Extensions) -> CertificateIdentity:
    subject_names = _extension(extensions, x509.SubjectAlternativeName)
    if subject_names is None:
        raise UnauthenticatedError("the client certificate has no subject alternative name")
    uris = subject_names.get_values_for_type(x509.UniformResourceIdentifier)
    if uris:
        return _spiffe_identity(uris)
    return _dns_identity(subject_names.get_values_for_type(x509.DNSName))


def _spiffe_identity(uris: list[str]) -> CertificateIdentity:
    if len(uris) > 1:
        raise UnauthenticatedError("the client certificate has more than one URI name")
    if not names.is_spiffe_id(uris[0]):
        raise UnauthenticatedError("the URI name of the client certificate is not a valid SPIFFE id")
    return CertificateIdentity(uris[0], (), uris[0])


def _dns_identity(found: list[str]) -> CertificateIdentity:
    if len(found) > DNS_NAMES:
        raise UnauthenticatedError(f"the client certificate has more than {DNS_NAMES} DNS names")
    hosts = tuple(dict.fromkeys(name.lower() for name in found if not name.startswith("*.")))
    if not hosts:
        raise UnauthenticatedError("the client certificate has neither a SPIFFE id nor a DNS name")
    if not all(map(names.is_dns_name, hosts)):
        raise UnauthenticatedError("the client certificate has a malformed DNS name")
    return CertificateIdentity(None, hosts, f"dns:{hosts[0]}")


def _extension(extensions: x509.Extensions, kind: type[_Kind]) -> _Kind | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _map(directory: CallerDirectory, identity: CertificateIdentity) -> Caller:
    if identity.spiffe is not None:
        candidates = [(identity.spiffe, directory.by_spiffe(identity.spiffe))]
    else:
        candidates = [(f"dns:{name}", directory.by_dns(name)) for name in identity.dns]
    found: dict[str, tuple[str, CallerEntry]] = {}
    for label, entry in candidates:
        if entry is not None:
            found.setdefault(entry.id, (label, entry))
    if not found:
        raise UnauthenticatedError("the client certificate is valid, but its name belongs to no known caller")
    if len(found) > 1:
        raise UnauthenticatedError("the names of the client certificate belong to several callers")
    ((label, entry),) = found.values()
    return Caller(entry.id, entry.tenant, label)
