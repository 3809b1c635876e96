"""The embedded certificate authority: mTLS from the first start, without a PKI at hand (api.md, "Identity").

A bank with its own PKI never opens it.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, SupportsIndex

from cryptography import x509

from vault.domain.errors import InvalidArgumentError
from vault.domain.protocols import Clock, Randomness
from vault.identity import authority_folder, files, issuing, names
from vault.identity.authority_folder import Root

SERVER_NAME: Final = "server"
LOCAL_DNS_NAMES: Final = ("localhost",)
LOCAL_ADDRESSES: Final = ("127.0.0.1", "::1")

# X.520 bounds a common name at 64 characters; it names the files too, so no separators or leading dot
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, eq=False)
class IssuedCertificate:
    """A new certificate and its private key, which appears in no repr and refuses to be pickled or copied.

    `chain` is the PEM of the certificates above it: what the other side has to trust.
    """

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    chain: bytes

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("IssuedCertificate holds a key: it is neither pickled nor copied")

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.pem` (0644) and `<name>.key` (0600) and return their paths, the certificate first.

        Each is replaced atomically; `folder` is made with mode 0700 if it is not there.

        Raises:
            InvalidArgumentError: the name is no plain file name.
            ConfigurationError: the folder cannot be written.
        """
        certificate_path, key_path = _paths(folder, name)
        files.make_folder(folder)
        files.replace_file(key_path, self.key_pem, files.PRIVATE_FILE)
        files.replace_file(certificate_path, self.certificate_pem, files.PUBLIC_FILE)
        return certificate_path, key_path


class Authority:
    """Issues certificates of 90 days under one self-signed ECDSA P-256 root of 10 years. Made by `open`."""

    def __init__(self, root: Root, clock: Clock, randomness: Randomness) -> None:
        self._root = root
        self._clock = clock
        self._randomness = randomness

    @classmethod
    def open(cls, folder: Path, clock: Clock, randomness: Randomness) -> "Authority":
        """Load the authority of `folder`, or create it on first use; of two processes that do, one wins.

        Raises:
            ConfigurationError: the folder or key can be reached by others, a file is missing, unreadable or
                not what it should be, key and certificate do not belong together, or the CA has expired. The
                message says what to do.
        """
        return cls(authority_folder.load_or_create(folder, clock, randomness), clock, randomness)

    @property
    def certificate_path(self) -> Path:
        """The CA certificate: what clients and server trust."""
        return self._root.certificate_path

    @property
    def certificate_pem(self) -> bytes:
        """The CA certificate as PEM."""
        return issuing.certificate_pem(self._root.certificate)

    def issue_server(self, dns_names: Sequence[str], ip_addresses: Sequence[str] = ()) -> IssuedCertificate:
        """A certificate for a server that clients reach by these names and addresses.

        Raises:
            InvalidArgumentError: no DNS name (gRPC clients verify one), or a malformed name or address.
        """
        if not dns_names:
            raise InvalidArgumentError.of("dns_names", "at least one DNS name")
        subject_names = _server_names(dns_names, ip_addresses)
        return self._issue("datavault server", subject_names, issuing.SERVER_USAGE)

    def issue_client(self, name: str, spiffe: str | None = None, dns: str | None = None) -> IssuedCertificate:
        """A certificate that proves `spiffe` or, without it, `dns`. `name` is for people and proves nothing.

        Raises:
            InvalidArgumentError: neither is given (such a certificate could prove no caller), or one is
                malformed.
        """
        _check_plain_name("name", name)
        subject_names: list[x509.GeneralName] = []
        if spiffe is not None:
            if not names.is_spiffe_id(spiffe):
                raise InvalidArgumentError.of("spiffe", "a SPIFFE id such as spiffe://bank.example/billing")
            subject_names.append(x509.UniformResourceIdentifier(spiffe))
        if dns is not None:
            subject_names.append(_dns_name("dns", dns))
        if not subject_names:
            raise InvalidArgumentError.of("spiffe", "a SPIFFE id or a DNS name is needed")
        usage = issuing.CLIENT_USAGE if spiffe is None else issuing.SVID_USAGE
        return self._issue(name, tuple(subject_names), usage)

    def server_credentials_files(
        self,
        folder: Path,
        dns_names: Sequence[str] = LOCAL_DNS_NAMES,
        ip_addresses: Sequence[str] = LOCAL_ADDRESSES,
    ) -> tuple[Path, Path]:
        """Paths of the server's certificate and key in `folder`, both issued anew where the old do not do.

        They do while at least a third of the lifetime remains, the names are exactly these, the key belongs
        to the certificate and this authority signed it. So what a start is given holds for 30 days at least.

        Raises:
            InvalidArgumentError: malformed names.
            ConfigurationError: the key file can be read by others, or the folder cannot be written.
        """
        certificate_path, key_path = _paths(folder, SERVER_NAME)
        wanted = frozenset(_server_names(dns_names, ip_addresses))
        if not self._still_serves(certificate_path, key_path, wanted):
            return self.issue_server(dns_names, ip_addresses).write(folder, SERVER_NAME)
        return certificate_path, key_path

    def _issue(
        self,
        common_name: str,
        subject_names: tuple[x509.GeneralName, ...],
        usage: tuple[x509.ObjectIdentifier, ...],
    ) -> IssuedCertificate:
        latest = self._root.certificate.not_valid_after_utc
        if issuing.moment(self._clock) >= latest:
            raise authority_folder.expired(self._root.folder)
        key = issuing.new_key()
        certificate = issuing.sign_leaf(
            issuing.Leaf(common_name, key.public_key(), subject_names, usage),
            self._root.certificate,
            self._root.key,
            issuing.Validity.of(self._clock, issuing.LEAF_LIFE, latest),
            self._randomness,
        )
        return IssuedCertificate(
            issuing.certificate_pem(certificate), issuing.key_pem(key), self.certificate_pem
        )

    def _still_serves(
        self, certificate_path: Path, key_path: Path, wanted: frozenset[x509.GeneralName]
    ) -> bool:
        certificate_bytes, key_bytes = files.read_file(certificate_path), files.read_file(key_path)
        if certificate_bytes is None or key_bytes is None:
            return False
        files.require_private(key_path, files.PRIVATE_FILE)
        certificate, key = issuing.parse_certificate(certificate_bytes), issuing.parse_key(key_bytes)
        if certificate is None or key is None:
            return False
        return (
            issuing.same_key(certificate, key)
            and issuing.was_issued_by(certificate, self._root.certificate)
            and issuing.names_of(certificate) == wanted
            and self._fresh(certificate)
        )

    def _fresh(self, certificate: x509.Certificate) -> bool:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        now = issuing.moment(self._clock)
        return start <= now and end - now >= (end - start) / 3


def _server_names(dns_names: Sequence[str], ip_addresses: Sequence[str]) -> tuple[x509.GeneralName, ...]:
    hosts = [_dns_name(f"dns_names[{place}]", name) for place, name in enumerate(dns_names)]
    addresses = [_ip_address(f"ip_addresses[{place}]", text) for place, text in enumerate(ip_addresses)]
    return tuple(dict.fromkeys([*hosts, *addresses]))


def _dns_name(where: str, name: str) -> x509.DNSName:
    if not names.is_dns_name(name):
        raise InvalidArgumentError.of(where, "a lower-case DNS name without wildcard")
    return x509.DNSName(name)


def _ip_address(where: str, text: str) -> x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidArgumentError.of(where, "an IPv4 or IPv6 address") from None


def _check_plain_name(where: str, name: str) -> None:
    if not _PLAIN_NAME.fullmatch(name):
        raise InvalidArgumentError.of(where, "1 to 64 letters, digits, dots, hyphens or underscores")


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    _check_plain_name("name", name)
    return folder / f"{name}.pem", folder / f"{name}.key"
