"""The folder of the embedded authority: `ca.key` (mode 0600) and `ca.pem`, which clients trust.

The key is what counts: a lost `ca.pem` is made again for the same key.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from vault.domain.errors import ConfigurationError
from vault.domain.protocols import Clock, Randomness
from vault.identity import files, issuing

CA_KEY: Final = "ca.key"
CA_CERTIFICATE: Final = "ca.pem"


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """The CA certificate and its key, as they stand in `folder`."""

    folder: Path
    certificate: x509.Certificate
    key: issuing.Key = field(repr=False)

    @property
    def certificate_path(self) -> Path:
        return self.folder / CA_CERTIFICATE


def load_or_create(folder: Path, clock: Clock, randomness: Randomness) -> Root:
    """What `folder` holds, made first where it is missing; of two processes that make it, one wins.

    Raises:
        ConfigurationError: as `Authority.open`.
    """
    files.make_private_folder(folder)
    key = _open_key(folder)
    certificate = _open_certificate(folder, key, clock, randomness)
    _check_certificate(folder, certificate, key, clock)
    return Root(folder, certificate, key)


def expired(folder: Path) -> ConfigurationError:
    """The error of an authority whose certificate has run out."""
    return ConfigurationError(
        f"the certificate authority in {folder} has expired: move the folder away, start again to get a new "
        "one, and issue all certificates again"
    )


def _open_key(folder: Path) -> issuing.Key:
    path = folder / CA_KEY
    # asked first: the key is written before the certificate, so a certificate alone means a lost key
    orphaned = files.read_file(folder / CA_CERTIFICATE) is not None
    if files.read_file(path) is None:
        if orphaned:
            raise ConfigurationError(
                f"{path} is missing beside its certificate: restore it, or remove {folder / CA_CERTIFICATE} "
                "to start a new authority (all certificates must then be issued again)"
            )
        files.create_file(path, issuing.key_pem(issuing.new_key()), files.PRIVATE_FILE)
    files.require_private(path, files.PRIVATE_FILE)
    key = issuing.parse_key(files.read_file(path) or b"")
    if key is None:
        raise ConfigurationError(f"{path} is not an unencrypted P-256 private key in PEM: restore it")
    return key


def _open_certificate(
    folder: Path, key: issuing.Key, clock: Clock, randomness: Randomness
) -> x509.Certificate:
    path = folder / CA_CERTIFICATE
    content = files.read_file(path)
    if content is None:
        made = issuing.sign_ca(key, issuing.Validity.of(clock, issuing.CA_LIFE), randomness)
        files.create_file(path, issuing.certificate_pem(made), files.PUBLIC_FILE)
        content = files.read_file(path)
    certificate = issuing.parse_certificate(content or b"")
    if certificate is None:
        raise ConfigurationError(f"{path} is not a certificate in PEM: remove it to have it made again")
    return certificate


def _check_certificate(folder: Path, certificate: x509.Certificate, key: issuing.Key, clock: Clock) -> None:
    if not issuing.same_key(certificate, key):
        raise ConfigurationError(
            f"{folder / CA_CERTIFICATE} does not belong to {folder / CA_KEY}: restore both from one backup"
        )
    if issuing.moment(clock) >= certificate.not_valid_after_utc:
        raise expired(folder)
