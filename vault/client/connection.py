"""Where the server is and how the caller proves who it is."""

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from vault.client.errors import ClientConfigurationError

Token = str | Callable[[], str]

ENVIRONMENT: Final[Mapping[str, str]] = {
    "address": "DATAVAULT_ADDR",
    "ca_certificate": "DATAVAULT_CACERT",
    "client_certificate": "DATAVAULT_CLIENT_CERT",
    "client_key": "DATAVAULT_CLIENT_KEY",
    "token": "DATAVAULT_TOKEN_FILE",
}
_FIELDS: Final[Mapping[str, str]] = {name: name for name in ENVIRONMENT}
_IDENTITY: Final = ("client_certificate", "client_key", "token")
_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True, repr=False)
class Material:
    """PEM bytes as gRPC takes them. Shows nothing in repr."""

    ca: bytes
    certificate: bytes | None
    key: bytes | None


@dataclass(frozen=True, slots=True)
class Connection:
    """One server and one identity: a client certificate with its key (mTLS), or a token (JWT over TLS).

    `address` is `host:port` or `https://host:port`; there is no insecure mode. `ca_certificate`,
    `client_certificate` and `client_key` are paths of PEM files, read when a client is made: make a new
    client after they were renewed. `token` is the JWT, or a callable that gives the current one; it is asked
    at every call, so tokens can be short-lived. `server_name` is the name the server's certificate must bear
    where that is not the host of the address.

    Raises:
        ClientConfigurationError: all that is missing or contradictory, at once.
    """

    address: str
    ca_certificate: Path | str
    client_certificate: Path | str | None = None
    client_key: Path | str | None = None
    token: Token | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        problems = _problems({name: getattr(self, name) for name in _FIELDS}, _FIELDS)
        if problems:
            raise ClientConfigurationError(problems)

    @classmethod
    def from_environment(cls, **overrides: Any) -> "Connection":
        """The connection that the environment describes; `overrides` are fields of this class and win.

        DATAVAULT_ADDR, DATAVAULT_CACERT, and DATAVAULT_CLIENT_CERT with DATAVAULT_CLIENT_KEY or
        DATAVAULT_TOKEN_FILE (read again at every call). An identity among the overrides replaces that of the
        environment as a whole.

        Raises:
            ClientConfigurationError: all that is missing, unreadable or contradictory, at once.
        """
        unknown = sorted(set(overrides) - {spec.name for spec in fields(cls)})
        if unknown:
            raise ClientConfigurationError([f"{name} is no field of a connection" for name in unknown])
        given = {name: value for name, value in overrides.items() if value is not None}
        settings, labels = _merged(given, os.environ)
        problems = _problems(settings, labels) + _unreadable(settings, labels)
        token = settings.get("token")
        if isinstance(token, _TokenFile):
            problems += token.problems(labels["token"])
        if problems:
            raise ClientConfigurationError(problems)
        return cls(**settings)

    @property
    def target(self) -> str:
        """The address as gRPC takes it."""
        return self.address.removeprefix("https://").removesuffix("/")

    def read(self) -> Material:
        """The certificates and key, checked to belong together.

        Raises:
            ClientConfigurationError: a file is missing, unreadable, not PEM, encrypted or does not match.
        """
        problems = _unreadable({name: getattr(self, name) for name in _FIELDS}, _FIELDS)
        if problems:
            raise ClientConfigurationError(problems)
        try:
            return Material(
                ca=Path(self.ca_certificate).read_bytes(),
                certificate=Path(self.client_certificate).read_bytes() if self.client_certificate else None,
                key=Path(self.client_key).read_bytes() if self.client_key else None,
            )
        except OSError as error:
            raise ClientConfigurationError([f"a file went away: {error.strerror}"]) from None


class _TokenFile:
    """Gives the token that is in the file now."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self) -> str:
        return Path(self._path).read_text("ascii").strip()

    def problems(self, label: str) -> list[str]:
        try:
            return [] if self() else [f"{label}: {self._path} is empty"]
        except OSError as error:
            return [f"{label}: {self._path} cannot be read ({error.strerror})"]
        except ValueError:
            return [f"{label}: {self._path} holds no token"]


def _merged(
    given: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings, and by which name the user knows each."""
    settings: dict[str, Any] = dict(given)
    labels = dict(ENVIRONMENT)
    labels.update({name: name for name in given})
    own_identity = any(name in given for name in _IDENTITY)
    for name, variable in ENVIRONMENT.items():
        value = environment.get(variable, "")
        if not value or name in settings or (own_identity and name in _IDENTITY):
            continue
        settings[name] = _TokenFile(value) if name == "token" else value
    return settings, labels


def _problems(settings: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """What is missing or contradictory, without looking at any file."""
    problems = []
    if not settings.get("address"):
        problems.append(f"{labels['address']} is missing: the server as host:port")
    else:
        problems += _address_problems(settings["address"], labels["address"])
    if not settings.get("ca_certificate"):
        problems.append(f"{labels['ca_certificate']} is missing: the CA the server's certificate comes from")
    certificate, key, token = (bool(settings.get(name)) for name in _IDENTITY)
    if token and (certificate or key):
        problems.append(
            f"{labels['token']} and {labels['client_certificate']} contradict each other: "
            "a caller proves itself by a token or by a certificate"
        )
    elif certificate != key:
        present, absent = ("client_certificate", "client_key")[:: 1 if certificate else -1]
        problems.append(f"{labels[absent]} is missing: {labels[present]} needs it")
    elif not (token or certificate):
        problems.append(
            f"no identity: {labels['client_certificate']} and {labels['client_key']} are missing, "
            f"and so is {labels['token']}"
        )
    return problems


def _address_problems(address: object, label: str) -> list[str]:
    if not isinstance(address, str):
        return [f"{label} must be text"]
    if address.startswith("http://"):
        return [f"{label} must not start with http:// because there is no insecure mode"]
    match = _ADDRESS.fullmatch(address.removeprefix("https://").removesuffix("/"))
    if match is None or not 0 < int(match["port"]) < 65_536:
        return [f"{label} must be host:port or https://host:port"]
    return []


def _unreadable(settings: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """What is wrong with the files; OpenSSL says whether they are what they should be."""
    problems: list[str] = []
    for name in ("ca_certificate", "client_certificate", "client_key"):
        path = settings.get(name)
        if not path:
            continue
        try:
            Path(path).read_bytes()
        except OSError as error:
            problems.append(f"{labels[name]}: {path} cannot be read ({error.strerror})")
        except (TypeError, ValueError):
            problems.append(f"{labels[name]} must be a path")
    return problems or _unfit(settings, labels)


def _unfit(settings: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    problems = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority = settings.get("ca_certificate")
    certificate, key = settings.get("client_certificate"), settings.get("client_key")
    if authority:
        try:
            context.load_verify_locations(authority)
        except (OSError, ValueError):
            problems.append(f"{labels['ca_certificate']}: {authority} holds no certificates in PEM form")
    if certificate and key:
        try:
            # an empty password, or OpenSSL would ask for one on the terminal
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or "not PEM, or the key is encrypted"
            problems.append(
                f"{labels['client_certificate']} and {labels['client_key']} are no certificate "
                f"with its unencrypted key ({why})"
            )
    return problems
