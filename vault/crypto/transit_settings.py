"""Where the KMS is and how to log in to it. Checked whole at start, so that a mistake is told then."""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from vault.domain.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class TransitSettings:
    """Settings of the Transit provider; the environment names are those HashiCorp's own tools use.

    `timeout_seconds` is how long one attempt may take, and the time after which no further attempt starts:
    a request ends within twice of it. `attempts` counts the first one. `batch_items` is how many items go
    into one request; OpenBao's defaults refuse 250.

    Raises:
        ConfigurationError: a setting is wrong; the message names it.
    """

    address: str
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    ca_certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    namespace: str = ""
    mount: str = "transit"
    timeout_seconds: float = 2.0
    batch_items: int = 200
    attempts: int = 3

    def __post_init__(self) -> None:
        url = urlsplit(self.address)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigurationError("VAULT_ADDR: must be a URL such as https://kms.bank.example:8200")
        if url.scheme == "http" and not self.loopback:
            raise ConfigurationError("VAULT_ADDR: must be https; http carries keys in the clear")
        if bool(self.token) == (self.token_file is not None):
            raise ConfigurationError("VAULT_TOKEN: set either a token or a token file")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ConfigurationError("VAULT_CLIENT_CERT and VAULT_CLIENT_KEY: set both or neither")
        for name, path in (
            ("VAULT_CACERT", self.ca_certificate),
            ("VAULT_CLIENT_CERT", self.client_certificate),
            ("VAULT_CLIENT_KEY", self.client_key),
        ):
            if path is not None and not path.is_file():
                raise ConfigurationError(f"{name}: there is no file {path}")
        if self.timeout_seconds <= 0 or self.batch_items < 1 or self.attempts < 1:
            raise ConfigurationError("timeout_seconds, batch_items and attempts must be positive")

    @property
    def loopback(self) -> bool:
        """Whether the KMS is on this machine: then it is never asked by way of a proxy."""
        host = urlsplit(self.address).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


class Login(Protocol):
    """How a client gets its token. Other ways to log in than a token are further classes of this kind."""

    def token(self) -> str:
        """A token that is valid now.

        Raises:
            ConfigurationError: there is none, or it is kept carelessly.
        """


@dataclass(frozen=True, slots=True, repr=False)
class GivenToken:
    """The token of the settings."""

    given: str

    def token(self) -> str:
        return self.given


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file that holds the token and nothing else, as an Agent writes it; read anew for every client."""

    path: Path

    def token(self) -> str:
        try:
            with self.path.open(encoding="ascii") as file:
                if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                    raise ConfigurationError(
                        f"{self.path}: others may read the token file; run: chmod 600 {self.path}"
                    )
                token = file.read().strip()
        except OSError as error:
            raise ConfigurationError(f"{self.path}: no token file: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{self.path}: not a token file") from None
        if not token:
            raise ConfigurationError(f"{self.path}: the token file is empty")
        return token


def login_of(settings: TransitSettings) -> Login:
    """The way to log in that the settings choose."""
    return TokenFile(settings.token_file) if settings.token_file else GivenToken(settings.token)
