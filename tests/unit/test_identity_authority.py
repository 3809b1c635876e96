"""The embedded certificate authority and its folder."""

import copy
import datetime
import ipaddress
import pickle
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from tests.support.identity import FAKES_ARE_FINE, NOW, NOW_SECONDS
from vault.domain.errors import ConfigurationError, InvalidArgumentError
from vault.domain.system import SystemRandomness
from vault.identity import files
from vault.identity.authority import Authority
from vault.identity.certificates import identity_of
from vault.testing import FakeClock, FixedRandomness

pytestmark = FAKES_ARE_FINE

SPIFFE = "spiffe://bank.example/engine"
DAY = 86_400


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ca"


@pytest.fixture
def authority(folder: Path, clock: FakeClock) -> Authority:
    return Authority.open(folder, clock, SystemRandomness())


def reopen(folder: Path, clock: FakeClock) -> Authority:
    return Authority.open(folder, clock, SystemRandomness())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def parsed(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def policy(authority: Authority, seconds: int = NOW_SECONDS) -> PolicyBuilder:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return PolicyBuilder().store(Store([parsed(authority.certificate_pem)])).time(moment)


def test_the_first_use_creates_a_private_folder(authority: Authority, folder: Path) -> None:
    """Folder, key and certificate get modes 0700, 0600 and 0644, and nothing else is left behind."""
    assert mode(folder) == 0o700
    assert {path.name: mode(path) for path in folder.iterdir()} == {"ca.key": 0o600, "ca.pem": 0o644}


def test_a_restart_loads_the_same_authority(authority: Authority, folder: Path, clock: FakeClock) -> None:
    """Opening again gives the same certificate, and what was issued before still verifies."""
    issued = authority.issue_client("engine", spiffe=SPIFFE)
    again = reopen(folder, clock)
    assert again.certificate_pem == authority.certificate_pem
    policy(again).build_client_verifier().verify(parsed(issued.certificate_pem), [])


def test_the_ca_certificate_says_what_it_may(authority: Authority) -> None:
    """The root is a critical CA of path length 0 that signs certificates and CRLs for ten years."""
    certificate = parsed(authority.certificate_pem)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign) == (True, True, True)
    assert not usage.value.digital_signature
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.not_valid_after_utc.timestamp() == NOW_SECONDS + 3_650 * DAY


def test_a_server_certificate_verifies(authority: Authority) -> None:
    """A strict X.509 verifier accepts the server's certificate for its DNS name and its address."""
    certificate = parsed(
        authority.issue_server(["localhost", "vault.bank.example"], ["127.0.0.1"]).certificate_pem
    )
    for subject in (x509.DNSName("vault.bank.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))):
        assert policy(authority).build_server_verifier(subject).verify(certificate, [])


def test_a_client_certificate_verifies(authority: Authority) -> None:
    """A strict X.509 verifier accepts the client's certificate, and its identity is the SPIFFE id."""
    issued = authority.issue_client("engine", spiffe=SPIFFE, dns="engine.bank.example")
    certificate = parsed(issued.certificate_pem)
    assert policy(authority).build_client_verifier().verify(certificate, [])
    assert identity_of(issued.certificate_pem).label == SPIFFE
    assert issued.chain == authority.certificate_pem


def test_a_client_certificate_by_dns_name(authority: Authority) -> None:
    """Without a SPIFFE id the DNS name is the identity."""
    issued = authority.issue_client("engine", dns="engine.bank.example")
    assert identity_of(issued.certificate_pem).label == "dns:engine.bank.example"


@pytest.mark.parametrize(
    ("names", "usages"),
    [
        ({"dns": "engine.bank.example"}, {ExtendedKeyUsageOID.CLIENT_AUTH}),
        ({"spiffe": SPIFFE}, {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
    ],
)
def test_a_leaf_says_what_it_is_for(
    authority: Authority, names: dict[str, str], usages: set[x509.ObjectIdentifier]
) -> None:
    """Clients are for clients alone, except that an X509-SVID must name both usages."""
    leaf = parsed(authority.issue_client("engine", **names).certificate_pem)
    root = parsed(authority.certificate_pem)
    extensions = leaf.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    key_usage = extensions.get_extension_for_class(x509.KeyUsage)
    root_identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    leaf_identifier = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer_identifier = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert (key_usage.critical, key_usage.value.digital_signature) == (True, True)
    assert not key_usage.value.key_cert_sign
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == usages
    assert issuer_identifier.key_identifier == root_identifier.digest
    assert leaf_identifier == x509.SubjectKeyIdentifier.from_public_key(leaf.public_key())


def test_a_leaf_lives_ninety_days_from_five_minutes_ago(authority: Authority) -> None:
    """The period starts a little in the past, for clocks that run behind."""
    leaf = parsed(authority.issue_client("engine", spiffe=SPIFFE).certificate_pem)
    assert leaf.not_valid_before_utc.timestamp() == NOW_SECONDS - 300
    assert leaf.not_valid_after_utc.timestamp() == NOW_SECONDS + 90 * DAY


def test_a_leaf_does_not_outlive_its_authority(authority: Authority, clock: FakeClock) -> None:
    """Near the end of the root, leaves end with it; after it nothing is issued."""
    clock.advance(3_649 * DAY)
    leaf = parsed(authority.issue_client("engine", spiffe=SPIFFE).certificate_pem)
    assert leaf.not_valid_after_utc == parsed(authority.certificate_pem).not_valid_after_utc
    clock.advance(DAY)
    with pytest.raises(ConfigurationError, match="expired"):
        authority.issue_client("engine", spiffe=SPIFFE)


def test_an_expired_authority_does_not_open(authority: Authority, folder: Path, clock: FakeClock) -> None:
    """A start after the end of the root is refused with what to do."""
    clock.advance(3_650 * DAY)
    with pytest.raises(ConfigurationError, match="move the folder away"):
        reopen(folder, clock)


def test_serial_numbers_come_from_the_randomness(folder: Path, clock: FakeClock) -> None:
    """A serial number is 159 random bits: positive, and at most 20 octets."""
    serials = (b"\xff" * 20, b"\x00" * 20)
    authority = Authority.open(folder, clock, FixedRandomness(b"\x01" * 20, *serials))
    found = [
        parsed(authority.issue_client("a", spiffe=SPIFFE).certificate_pem).serial_number for _ in serials
    ]
    assert found == [2**159 - 1, 1]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"name": "engine"}, "spiffe"),
        ({"name": "engine", "spiffe": "https://bank.example/engine"}, "spiffe"),
        ({"name": "engine", "spiffe": ""}, "spiffe"),
        ({"name": "engine", "dns": "*.bank.example"}, "dns"),
        ({"name": "engine", "dns": "é.example"}, "dns"),
        ({"name": "", "spiffe": SPIFFE}, "name"),
        ({"name": "../engine", "spiffe": SPIFFE}, "name"),
        ({"name": "a" * 65, "spiffe": SPIFFE}, "name"),
    ],
)
def test_a_client_certificate_that_could_prove_nothing_is_not_issued(
    authority: Authority, arguments: dict[str, str], field: str
) -> None:
    """Missing and malformed names are refused with the field that is wrong."""
    with pytest.raises(InvalidArgumentError) as caught:
        authority.issue_client(**arguments)
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize(
    ("dns_names", "addresses", "field"),
    [
        ([], ["127.0.0.1"], "dns_names"),
        (["localhost", "*.a"], [], "dns_names[1]"),
        (["localhost"], ["::g"], "ip_addresses[0]"),
    ],
)
def test_a_server_certificate_needs_good_names(
    authority: Authority, dns_names: list[str], addresses: list[str], field: str
) -> None:
    """A server without a DNS name, or with a malformed name, is refused with the field that is wrong."""
    with pytest.raises(InvalidArgumentError) as caught:
        authority.issue_server(dns_names, addresses)
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize(("name", "bits"), [("ca.key", 0o640), ("ca.key", 0o604), (".", 0o750), (".", 0o701)])
def test_loose_permissions_are_refused(
    authority: Authority, folder: Path, clock: FakeClock, name: str, bits: int
) -> None:
    """A key or folder that others can reach stops the start with the chmod that mends it."""
    (folder / name).chmod(bits)
    with pytest.raises(ConfigurationError, match=r"chmod (600|700) "):
        reopen(folder, clock)


def test_a_lost_certificate_is_made_again(authority: Authority, folder: Path, clock: FakeClock) -> None:
    """The key is what counts: certificates issued before verify under the certificate made again."""
    issued = authority.issue_client("engine", spiffe=SPIFFE)
    (folder / "ca.pem").unlink()
    again = reopen(folder, clock)
    assert policy(again).build_client_verifier().verify(parsed(issued.certificate_pem), [])


def test_a_lost_key_is_not_made_again(authority: Authority, folder: Path, clock: FakeClock) -> None:
    """A new key under the old certificate would break every client: the start is refused."""
    (folder / "ca.key").unlink()
    with pytest.raises(ConfigurationError, match="missing beside its certificate"):
        reopen(folder, clock)
    assert not (folder / "ca.key").exists()


def other_key(curve: ec.EllipticCurve) -> bytes:
    return ec.generate_private_key(curve).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    ("name", "content", "check"),
    [
        ("ca.key", b"", "not an unencrypted P-256"),
        ("ca.key", b"marked-secret", "not an unencrypted P-256"),
        ("ca.key", other_key(ec.SECP384R1()), "not an unencrypted P-256"),
        ("ca.key", other_key(ec.SECP256R1()), "does not belong to"),
        ("ca.key", b" " * 65_537, "larger than"),
        ("ca.pem", b"marked-secret", "not a certificate"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(
    authority: Authority, folder: Path, clock: FakeClock, name: str, content: bytes, check: str
) -> None:
    """Broken, foreign and oversized files stop the start; their content appears in no message."""
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=check) as caught:
        reopen(folder, clock)
    assert "marked-secret" not in str(caught.value)


def test_a_folder_that_is_a_file_is_refused(folder: Path, clock: FakeClock) -> None:
    """An operating-system error becomes a configuration error that names the path."""
    folder.write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        reopen(folder, clock)


def test_the_first_of_two_creators_wins(tmp_path: Path) -> None:
    """A file that another process put there meanwhile is kept, and no temporary file stays."""
    files.create_file(tmp_path / "ca.key", b"first", 0o600)
    files.create_file(tmp_path / "ca.key", b"second", 0o600)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"ca.key": b"first"}


def test_processes_that_start_together_share_one_authority(folder: Path) -> None:
    """Eight first uses at the same time all end with the same key and certificate."""
    barrier = threading.Barrier(8)

    def first_use(_: int) -> bytes:
        barrier.wait(30)
        return Authority.open(folder, FakeClock(NOW), SystemRandomness()).certificate_pem

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first_use, range(8)))) == 1


def test_an_issued_key_is_written_private(authority: Authority, tmp_path: Path) -> None:
    """The key file has mode 0600 in a folder of mode 0700, and matches the certificate beside it."""
    certificate_path, key_path = authority.issue_client("engine", spiffe=SPIFFE).write(
        tmp_path / "out", "engine"
    )
    key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    assert (mode(key_path), mode(certificate_path), mode(tmp_path / "out")) == (0o600, 0o644, 0o700)
    assert key.public_key() == parsed(certificate_path.read_bytes()).public_key()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden"])
def test_a_name_that_leaves_the_folder_is_refused(authority: Authority, tmp_path: Path, name: str) -> None:
    """Certificates are written under plain names only."""
    with pytest.raises(InvalidArgumentError):
        authority.issue_client("engine", spiffe=SPIFFE).write(tmp_path, name)


def test_an_issued_key_does_not_show(authority: Authority) -> None:
    """The private key appears in no repr, and the object refuses pickle and copy."""
    issued = authority.issue_client("engine", spiffe=SPIFFE)
    assert "PRIVATE" not in repr(issued) + str(issued)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds a key"):
            leak(issued)


class TestServerCredentials:
    """The server's own files, asked for at each start."""

    @pytest.fixture
    def tls(self, tmp_path: Path) -> Path:
        return tmp_path / "tls"

    def certificate(self, authority: Authority, tls: Path, *dns_names: str) -> bytes:
        return authority.server_credentials_files(tls, dns_names or ("localhost",))[0].read_bytes()

    def test_a_restart_keeps_them(self, authority: Authority, tls: Path, clock: FakeClock) -> None:
        """A certificate with a third of its life left is kept."""
        first = self.certificate(authority, tls)
        clock.advance(59 * DAY)
        assert self.certificate(authority, tls) == first

    def test_they_are_renewed_in_time(self, authority: Authority, tls: Path, clock: FakeClock) -> None:
        """With less than a third left a start gives a new certificate, which verifies."""
        first = self.certificate(authority, tls)
        clock.advance(61 * DAY)
        renewed = self.certificate(authority, tls)
        assert renewed != first
        verifier = policy(authority, NOW_SECONDS + 61 * DAY).build_server_verifier(x509.DNSName("localhost"))
        assert verifier.verify(parsed(renewed), [])

    def test_they_follow_the_configured_names(self, authority: Authority, tls: Path) -> None:
        """Other names than those configured give a new certificate."""
        first = self.certificate(authority, tls)
        assert self.certificate(authority, tls, "localhost", "vault.bank.example") != first

    def test_they_follow_the_authority(self, authority: Authority, tls: Path, tmp_path: Path) -> None:
        """A certificate of another authority is replaced."""
        other = Authority.open(tmp_path / "other", FakeClock(NOW), SystemRandomness())
        foreign = self.certificate(other, tls)
        assert self.certificate(authority, tls) != foreign

    @pytest.mark.parametrize("name", ["server.key", "server.pem"])
    @pytest.mark.parametrize("content", [None, b"broken", other_key(ec.SECP256R1())])
    def test_a_broken_pair_is_replaced(
        self, authority: Authority, tls: Path, name: str, content: bytes | None
    ) -> None:
        """A missing, broken or unmatched half (a crash between the two writes) gives a new pair."""
        first = self.certificate(authority, tls)
        if content is None:
            (tls / name).unlink()
        else:
            (tls / name).write_bytes(content)
        assert self.certificate(authority, tls) != first

    def test_a_key_that_others_can_read_is_refused(self, authority: Authority, tls: Path) -> None:
        """A server key with loose permissions stops the start."""
        authority.server_credentials_files(tls)
        (tls / "server.key").chmod(0o644)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            authority.server_credentials_files(tls)
