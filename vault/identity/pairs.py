"""A server's certificate and key as files: readable, whole, and made for each other."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from vault.domain.errors import ConfigurationError
from vault.domain.secret_files import refuse_loose


def require_pair(certificate_path: Path, key_path: Path) -> x509.Certificate:
    """The certificate that the server shows: the first of a chain.

    Raises:
        ConfigurationError: a file is unreadable or not PEM of its kind, the key is encrypted or others may
            read it, or the two do not belong together: TLS handshakes would fail, and say nothing of why.
    """
    refuse_loose(key_path, "the server's key")
    certificate, key_pem = _certificate(certificate_path), _read(key_path)
    try:
        key = load_pem_private_key(key_pem, password=None)
    except Exception:  # the library's errors are many and may quote the file: only the fact goes on
        raise ConfigurationError(f"{key_path}: not a private key in PEM, or encrypted") from None
    if certificate.public_key() != key.public_key():
        raise ConfigurationError(
            f"{key_path} is not the key of the certificate {certificate_path}: install both from one issue"
        )
    return certificate


def require_certificates(path: Path) -> None:
    """
    Raises:
        ConfigurationError: unreadable, or holds no certificate in PEM.
    """
    _certificate(path)


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise ConfigurationError(f"{path}: not a certificate in PEM") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
