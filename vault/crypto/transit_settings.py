"""Where the KMS is and how to log in to it. Checked whole at start, so that a mistake is told then."""

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from vault.domain.errors import ConfigurationError
from vault.domain.secret_files import refuse_loose

TOKEN: Final = "token"
APPROLE: Final = "approle"
KUBERNETES: Final = "kubernetes"
JWT: Final = "jwt"
CERT: Final = "cert"
AGENT: Final = "agent"

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where a pod finds the token of its service account."""

NAMES: Final[Mapping[str, str]] = {
    "token": "VAULT_TOKEN",
    "token_file": "DATAVAULT_TRANSIT_TOKEN_FILE",
    "auth_mount": "DATAVAULT_TRANSIT_AUTH_MOUNT",
    "role": "DATAVAULT_TRANSIT_ROLE",
    "role_id": "DATAVAULT_TRANSIT_ROLE_ID",
    "secret_id_file": "DATAVAULT_TRANSIT_SECRET_ID_FILE",
    "jwt_file": "DATAVAULT_TRANSIT_JWT_FILE",
    "client_certificate": "VAULT_CLIENT_CERT",
    "client_key": "VAULT_CLIENT_KEY",
    "ca_certificate": "VAULT_CACERT",
}
"""Field of `TransitSettings` -> the environment name under which its reader has set it."""

_AUTH: Final = "DATAVAULT_TRANSIT_AUTH"
_PATH: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Way:
    """A way to log in: the settings it needs, and those it may have besides."""

    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


WAYS: Final[Mapping[str, Way]] = {
    TOKEN: Way((), ("token", "token_file")),
    APPROLE: Way(("role_id", "secret_id_file"), ("auth_mount",)),
    KUBERNETES: Way(("role",), ("jwt_file", "auth_mount")),
    JWT: Way(("role", "jwt_file"), ("auth_mount",)),
    CERT: Way(("role", "client_certificate"), ("auth_mount",)),
    AGENT: Way(),
}
_LOGIN_FIELDS: Final = ("token", "token_file", "auth_mount", "role", "role_id", "secret_id_file", "jwt_file")


@dataclass(frozen=True, slots=True)
class TransitSettings:
    """Settings of the Transit provider; the environment names are those HashiCorp's own tools use.

    `address` is `https://...`, `http://...` on this machine, or `unix:///path` of the socket of an Agent or
    Proxy.
    `auth` is one of `WAYS`; `auth_mount` is where the KMS has it mounted, by default under the way's name.
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
    auth: str = TOKEN
    auth_mount: str = ""
    role: str = ""
    role_id: str = field(default="", repr=False)
    secret_id_file: Path | None = None
    jwt_file: Path | None = None

    def __post_init__(self) -> None:
        _check_address(self)
        _check_way(self)
        _check_tls(self)
        _check_path("DATAVAULT_TRANSIT_MOUNT", self.mount, "transit")
        _check_path(NAMES["auth_mount"], self.login_mount, self.auth)
        _check_path("VAULT_NAMESPACE", self.namespace.strip("/") or "root", "bank/payments")
        if self.timeout_seconds <= 0 or self.batch_items < 1 or self.attempts < 1:
            raise ConfigurationError("timeout_seconds, batch_items and attempts must be positive")

    @property
    def socket(self) -> Path | None:
        """The Agent's socket, where the address is one."""
        url = urlsplit(self.address)
        return Path(url.path) if url.scheme == "unix" else None

    @property
    def url(self) -> str:
        """What requests are addressed to; by way of a socket the name of the host says nothing."""
        return "http://localhost" if self.socket else self.address

    @property
    def loopback(self) -> bool:
        """Whether the KMS is on this machine: then it is never asked by way of a proxy."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def login_mount(self) -> str:
        """Where the KMS has the way to log in: `auth/<login_mount>`."""
        return self.auth_mount or self.auth


def _check_address(settings: TransitSettings) -> None:
    url = urlsplit(settings.address)
    if url.scheme == "unix":
        if url.netloc or not url.path.strip("/"):
            raise ConfigurationError("VAULT_ADDR: a socket is written unix:///run/datavault/agent.sock")
        if not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError("VAULT_ADDR: this system has no unix sockets; use http on loopback")
    elif url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigurationError("VAULT_ADDR: must be a URL such as https://kms.bank.example:8200")
    elif url.scheme == "http" and not settings.loopback:
        raise ConfigurationError("VAULT_ADDR: must be https; http carries keys in the clear")


def _check_path(name: str, path: str, example: str) -> None:
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ConfigurationError(f"{name}: must be a path such as {example}")


def _check_way(settings: TransitSettings) -> None:
    way = WAYS.get(settings.auth)
    if way is None:
        raise ConfigurationError(f"{_AUTH}: must be one of {', '.join(WAYS)}")
    for name in _LOGIN_FIELDS:
        if getattr(settings, name) and name not in way.needs + way.may:
            users = " or ".join(one for one, other in WAYS.items() if name in other.needs + other.may)
            raise ConfigurationError(
                f"{NAMES[name]}: not used when {_AUTH} is {settings.auth}: unset it, or log in with {users}"
            )
    for name in way.needs:
        if not getattr(settings, name):
            raise ConfigurationError(f"{NAMES[name]}: must be set when {_AUTH} is {settings.auth}")
    if settings.auth == TOKEN and bool(settings.token) == (settings.token_file is not None):
        raise ConfigurationError(
            f"VAULT_TOKEN: set either a token or a token file ({NAMES['token_file']}), "
            f"or choose another way to log in by {_AUTH}"
        )
    if settings.auth == CERT and not settings.address.startswith("https:"):
        raise ConfigurationError(f"VAULT_ADDR: must be https when {_AUTH} is cert")


def _check_tls(settings: TransitSettings) -> None:
    if (settings.client_certificate is None) != (settings.client_key is None):
        raise ConfigurationError("VAULT_CLIENT_CERT and VAULT_CLIENT_KEY: set both or neither")
    for name in ("ca_certificate", "client_certificate", "client_key"):
        path: Path | None = getattr(settings, name)
        if path is not None and not path.is_file():
            raise ConfigurationError(f"{NAMES[name]}: there is no file {path}")
    if settings.client_key is not None:
        refuse_loose(settings.client_key, NAMES["client_key"])
