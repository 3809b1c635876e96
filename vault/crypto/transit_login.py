"""The ways to log in to the KMS: what each sends, read anew from its file every time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import requests

from vault.crypto.transit_settings import (
    AGENT,
    APPROLE,
    CERT,
    JWT,
    KUBERNETES,
    NAMES,
    SERVICE_ACCOUNT,
    TOKEN,
    TransitSettings,
)
from vault.domain.secret_files import read_secret


@dataclass(frozen=True, slots=True, repr=False)
class HeldToken:
    """A token that somebody else has got: in the settings, in a file, or put in by an Agent (then empty).

    Raises of `read`: ConfigurationError, as `read_secret`.
    """

    way: str
    read: Callable[[], str]


@dataclass(frozen=True, slots=True, repr=False)
class Exchange:
    """A login at the KMS, which gives a token for a credential. `named` names it in messages.

    Raises of `body`: ConfigurationError, as `read_secret`.
    """

    way: str
    path: str
    named: str
    body: Callable[[], dict[str, str]]


Login = HeldToken | Exchange


def login_of(settings: TransitSettings) -> Login:
    """The way to log in that the settings choose. Reads no file yet."""
    if settings.auth in (TOKEN, AGENT):
        return HeldToken(settings.auth, lambda: _held(settings))
    credential = _CREDENTIALS[settings.auth]
    named = f"{settings.auth} at auth/{settings.login_mount}"
    return Exchange(
        settings.auth,
        f"/v1/auth/{settings.login_mount}/login",
        f"{named}, role {settings.role}" if settings.role else named,
        lambda: credential(settings),
    )


def _held(settings: TransitSettings) -> str:
    path = settings.token_file
    return settings.token if path is None else read_secret(path, NAMES["token_file"])


def _approle(settings: TransitSettings) -> dict[str, str]:
    return {"role_id": settings.role_id, "secret_id": _file(settings, "secret_id_file")}


def _kubernetes(settings: TransitSettings) -> dict[str, str]:
    path = settings.jwt_file or SERVICE_ACCOUNT
    # the kubelet projects it with mode 0644 or 0640 and renews it: nobody in the pod can change that
    return {"role": settings.role, "jwt": read_secret(path, NAMES["jwt_file"], private=False)}


def _jwt(settings: TransitSettings) -> dict[str, str]:
    return {"role": settings.role, "jwt": _file(settings, "jwt_file")}


def _cert(settings: TransitSettings) -> dict[str, str]:
    # the credential is the certificate of the connection
    return {"name": settings.role}


def _file(settings: TransitSettings, name: str) -> str:
    return read_secret(getattr(settings, name), NAMES[name])


_CREDENTIALS: Final[Mapping[str, Callable[[TransitSettings], dict[str, str]]]] = {
    APPROLE: _approle,
    KUBERNETES: _kubernetes,
    JWT: _jwt,
    CERT: _cert,
}


@dataclass(frozen=True, slots=True, repr=False)
class TokenAnswer:
    """What the KMS said of a token, after a login, a renewal or a lookup. `lease_seconds` 0: it never ends.
    Shows nothing in repr: it holds the token."""

    status: int
    token: str
    lease_seconds: float
    renewable: bool

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether the same may be answered otherwise in a moment."""
        return self.status in (412, 429) or self.status >= 500


def read_token_answer(response: requests.Response) -> TokenAnswer:
    """Parse one response.

    Raises:
        ValueError, TypeError, AttributeError: not the JSON object that the KMS sends. The error may show
            the text.
    """
    document = response.json() if response.content else {}
    auth: Mapping[str, Any] = document.get("auth") or document.get("data") or {}
    lease = auth.get("lease_duration", auth.get("ttl", 0))
    if lease == 0 and auth.get("expire_time"):
        # a lookup rounds down; 0 is for a token that never ends
        lease = 1
    token = auth.get("client_token", "")
    if not isinstance(token, str) or not isinstance(lease, int | float):
        raise TypeError("an answer of another shape")
    return TokenAnswer(response.status_code, token, max(0.0, float(lease)), auth.get("renewable") is True)
