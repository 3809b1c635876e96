"""Client certificate -> identity -> caller."""

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.identity import (
    AUDITOR,
    ENGINE,
    FAKES_ARE_FINE,
    NOW,
    NOW_SECONDS,
    Directory,
    client_certificate,
    dns,
    uri,
)
from vault.domain.errors import UnauthenticatedError
from vault.domain.protocols import CallerEntry
from vault.domain.types import Caller
from vault.identity.certificates import CertificateAuthenticator, CertificateIdentity, identity_of
from vault.testing import FakeClock

pytestmark = FAKES_ARE_FINE

SPIFFE = "spiffe://bank.example/personalization-engine"
CA = x509.BasicConstraints(True, None)
FOR_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not signs, False, False, False, False, signs, False, False, False)


def authenticator(*entries: CallerEntry, clock: FakeClock | None = None) -> CertificateAuthenticator:
    directory = Directory(*entries)
    return CertificateAuthenticator(lambda: directory, clock or FakeClock(NOW))


def test_a_spiffe_id_is_the_identity() -> None:
    """The one URI name is the identity, and DNS names beside it prove nothing."""
    found = identity_of(client_certificate(uri(SPIFFE), dns("auditor.bank.example")))
    assert found == CertificateIdentity(SPIFFE, (), SPIFFE)


def test_dns_names_are_the_identity_without_a_uri() -> None:
    """DNS names are lower-cased, wildcards left out, repetitions too."""
    found = identity_of(
        client_certificate(dns("Engine.Bank.example"), dns("*.bank.example"), dns("engine.bank.example"))
    )
    assert found == CertificateIdentity(None, ("engine.bank.example",), "dns:engine.bank.example")


@pytest.mark.parametrize(
    ("pem", "check"),
    [
        (client_certificate(), "no subject alternative name"),
        (client_certificate(x509.RFC822Name("engine@bank.example")), "neither a SPIFFE id nor a DNS name"),
        (client_certificate(dns("*.bank.example")), "neither a SPIFFE id nor a DNS name"),
        (client_certificate(uri(SPIFFE), uri("spiffe://bank.example/auditor")), "more than one URI"),
        (client_certificate(uri(SPIFFE), uri(SPIFFE)), "more than one URI"),
        (client_certificate(uri("https://bank.example/"), dns("a.example")), "not a valid SPIFFE id"),
        (client_certificate(uri("spiffe://bank.example")), "not a valid SPIFFE id"),
        (client_certificate(uri(SPIFFE + "?admin")), "not a valid SPIFFE id"),
        (client_certificate(dns("engine.bank.example\x00.evil.example")), "malformed DNS name"),
        (client_certificate(*[dns(f"a{n}.example") for n in range(101)]), "more than 100 DNS names"),
        (client_certificate(uri(SPIFFE), extensions=[CA]), "certificate authority"),
        (client_certificate(uri(SPIFFE), extensions=[usage(signs=True)]), "certificate authority"),
        (
            client_certificate(uri(SPIFFE), extensions=[FOR_SERVERS]),
            "not for client authentication",
        ),
        (b"", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b" " * 65_537, "too large"),
    ],
)
def test_a_certificate_that_proves_no_single_name_is_refused(pem: bytes, check: str) -> None:
    """Each way in which a certificate names no one, or too many, is refused with what is wrong."""
    with pytest.raises(UnauthenticatedError, match=check):
        identity_of(pem)


def test_usages_for_clients_are_accepted() -> None:
    """A leaf certificate with the usages of an X509-SVID is accepted."""
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    pem = client_certificate(
        uri(SPIFFE), extensions=[usages, x509.BasicConstraints(False, None), usage(signs=False)]
    )
    assert identity_of(pem).spiffe == SPIFFE


def test_a_mapped_spiffe_id_is_a_caller() -> None:
    """The caller's identity is the SPIFFE id that proved it."""
    caller = authenticator(ENGINE, AUDITOR).caller(client_certificate(uri(SPIFFE)))
    assert caller == Caller("personalization-engine", "retail", SPIFFE)


def test_the_dns_name_that_is_mapped_is_the_identity() -> None:
    """Of several DNS names the mapped one stands in the caller's identity."""
    caller = authenticator(ENGINE).caller(
        client_certificate(dns("other.example"), dns("engine.bank.example"))
    )
    assert caller.identity == "dns:engine.bank.example"


def test_two_dns_names_of_one_caller_prove_it() -> None:
    """Several names that belong to the same caller are no contradiction."""
    pem = client_certificate(dns("engine.bank.example"), dns("engine-2.bank.example"))
    assert authenticator(ENGINE, AUDITOR).caller(pem).id == ENGINE.id


def test_dns_names_of_two_callers_prove_neither() -> None:
    """A certificate whose names belong to two callers is refused."""
    pem = client_certificate(dns("engine.bank.example"), dns("auditor.bank.example"))
    with pytest.raises(UnauthenticatedError, match="several callers"):
        authenticator(ENGINE, AUDITOR).caller(pem)


def test_an_unmapped_identity_is_no_caller() -> None:
    """A proven name that callers.yaml does not know is unauthenticated."""
    with pytest.raises(UnauthenticatedError, match="no known caller"):
        authenticator(AUDITOR).caller(client_certificate(uri(SPIFFE)))


def test_an_unmapped_spiffe_id_does_not_fall_back_to_dns() -> None:
    """With an unmapped SPIFFE id a mapped DNS name beside it does not help."""
    with pytest.raises(UnauthenticatedError, match="no known caller"):
        authenticator(AUDITOR).caller(client_certificate(uri(SPIFFE), dns("auditor.bank.example")))


def test_the_common_name_proves_nothing() -> None:
    """A certificate with a mapped name in its common name alone is refused."""
    with pytest.raises(UnauthenticatedError, match="no subject alternative name"):
        authenticator(ENGINE).caller(client_certificate(common_name="engine.bank.example"))


def test_a_certificate_expires_on_an_open_connection() -> None:
    """A certificate that was accepted is refused from the second after its end on."""
    clock = FakeClock(NOW)
    checked = authenticator(ENGINE, clock=clock)
    pem = client_certificate(uri(SPIFFE), end=NOW_SECONDS + 60)
    clock.advance(60)
    assert checked.caller(pem).id == ENGINE.id
    clock.advance(1)
    with pytest.raises(UnauthenticatedError, match="has expired"):
        checked.caller(pem)


def test_a_certificate_is_not_valid_before_its_start() -> None:
    """A certificate of the future is refused until its first second."""
    clock = FakeClock(NOW)
    checked = authenticator(ENGINE, clock=clock)
    pem = client_certificate(uri(SPIFFE), start=NOW_SECONDS + 1)
    with pytest.raises(UnauthenticatedError, match="not yet valid"):
        checked.caller(pem)
    clock.advance(1)
    assert checked.caller(pem).id == ENGINE.id


def test_a_new_bundle_binds_certificates_seen_before() -> None:
    """The directory is asked at each call: a caller that was removed is refused at once."""
    directory = Directory(ENGINE)
    checked = CertificateAuthenticator(lambda: directory, FakeClock(NOW))
    pem = client_certificate(uri(SPIFFE))
    assert checked.caller(pem).id == ENGINE.id
    directory.entries.clear()
    with pytest.raises(UnauthenticatedError, match="no known caller"):
        checked.caller(pem)
