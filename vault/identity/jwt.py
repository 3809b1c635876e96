"""JWT -> caller (RFC 7519, 7515) by RFC 8725: pinned algorithms, keys by issuer, required claims.

Messages say which check failed, never what the token says.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from jwt.types import Options

from vault.domain.errors import ConfigurationError, UnauthenticatedError
from vault.domain.protocols import CallerDirectory, Clock
from vault.domain.types import Caller
from vault.identity.bearer import TOKEN_CHARACTERS
from vault.identity.fetch import Fetch, Source, check_source, fetcher
from vault.identity.jwks import KEY_KINDS, KEY_SET_TIMES, KeySet, KeySetTimes

REQUIRED_CLAIMS: Final = ("exp", "iss", "aud", "sub")
LEEWAY_SECONDS: Final = 300

# time is read from the Clock that was passed in, so PyJWT, which reads the system's, must not judge it
_VERIFIED: Final[Options] = {
    "require": list(REQUIRED_CLAIMS),
    "verify_signature": True,
    "verify_aud": True,
    "verify_iss": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}
_UNVERIFIED: Final[Options] = {"verify_signature": False}

_FAILURES: Final[tuple[tuple[type[jwt.PyJWTError], str], ...]] = (
    (jwt.InvalidSignatureError, "the token's signature does not verify"),
    (jwt.InvalidAudienceError, "the token is not for this audience"),
    (jwt.MissingRequiredClaimError, f"the token lacks one of the claims {', '.join(REQUIRED_CLAIMS)}"),
)


@dataclass(frozen=True, slots=True)
class JwtIssuer:
    """One trusted issuer: the exact `iss` and the `aud` its tokens must have, and where its keys are.

    `jwks` is a file's path or an https URL.

    Raises:
        ConfigurationError: an algorithm that is symmetric, `none` or unknown; an empty issuer, audience or
            list of algorithms; a leeway outside 0 to 300 seconds; keys over anything but https.
    """

    issuer: str
    audience: str
    jwks: Source
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    leeway_seconds: int = 30

    def __post_init__(self) -> None:
        if not self.issuer or not self.audience or not self.algorithms:
            raise ConfigurationError("a JWT issuer needs an issuer, an audience and at least one algorithm")
        refused = [name for name in self.algorithms if name not in KEY_KINDS]
        if refused:
            raise ConfigurationError(
                f"JWT algorithm {refused[0]!r} is never accepted; use some of {', '.join(KEY_KINDS)}"
            )
        if not 0 <= self.leeway_seconds <= LEEWAY_SECONDS:
            raise ConfigurationError(f"a JWT issuer's leeway must be 0 to {LEEWAY_SECONDS} seconds")
        check_source(self.jwks)


class JwtAuthenticator:
    """Maps JSON Web Tokens to callers. Safe to share between threads.

    `caller` may fetch keys and then blocks for some seconds: call it on a worker thread, not on the loop.
    """

    def __init__(
        self,
        issuers: Sequence[JwtIssuer],
        directory: Callable[[], CallerDirectory],
        clock: Clock,
        fetch: Fetch | None = None,
        times: KeySetTimes = KEY_SET_TIMES,
    ) -> None:
        """Nothing is fetched yet.

        Raises:
            ConfigurationError: two entries for one issuer.
        """
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        if len(self._issuers) != len(issuers):
            raise ConfigurationError("a JWT issuer is configured twice")
        self._directory = directory
        self._clock = clock
        get = fetch or fetcher()
        self._keys = {
            name: KeySet(name, check_source(issuer.jwks), clock, get, times)
            for name, issuer in self._issuers.items()
        }

    def load(self) -> tuple[str, ...]:
        """Fetch all keys that are due, at start or to check health; returns the issuers that have none."""
        return tuple(name for name, keys in self._keys.items() if not keys.load())

    def caller(self, token: str) -> Caller:
        """The caller that `token` proves; its `identity` is `jwt:<issuer>#<subject>`.

        1 read the token, believing nothing   2 its issuer, among those configured   3 its algorithm, among
        that issuer's   4 the key   5 signature, audience, required claims   6 times   7 the caller

        Raises:
            UnauthenticatedError: one of these fails.
        """
        header, claims = _read(token)  # 1
        issuer = self._issuer(claims)  # 2
        algorithm = _algorithm(header, issuer)  # 3
        key = self._keys[issuer.issuer].find(_kid(header), algorithm)  # 4
        try:
            verified = jwt.decode(  # 5
                token, key, [algorithm], _VERIFIED, audience=issuer.audience, issuer=issuer.issuer
            )
        except Exception as error:  # its text may quote the token
            raise UnauthenticatedError(_failure(error)) from None
        _check_times(verified, self._clock.now() / 1_000_000, issuer.leeway_seconds)  # 6
        return self._map(issuer.issuer, verified["sub"])  # 7

    def _issuer(self, claims: Mapping[str, Any]) -> JwtIssuer:
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise UnauthenticatedError("the token's issuer is not configured")
        return issuer

    def _map(self, issuer: str, subject: object) -> Caller:
        entry = self._directory().by_jwt(issuer, subject) if isinstance(subject, str) else None
        if entry is None:
            raise UnauthenticatedError("the token is valid, but its subject belongs to no known caller")
        return Caller(entry.id, entry.tenant, f"jwt:{issuer}#{subject}")


def _read(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if len(token) > TOKEN_CHARACTERS:
        raise UnauthenticatedError("the token is too long")
    try:
        parts = jwt.decode_complete(token, options=_UNVERIFIED)
    except Exception:  # hostile text; its error may quote it
        raise UnauthenticatedError("the token is malformed") from None
    return parts["header"], parts["payload"]


def _algorithm(header: Mapping[str, Any], issuer: JwtIssuer) -> str:
    # RFC 7515, section 4.1.11: extensions that must be understood, of which none is
    if "crit" in header:
        raise UnauthenticatedError("the token needs an extension that is not supported")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise UnauthenticatedError("the token's algorithm is not one of its issuer's")
    return algorithm


def _kid(header: Mapping[str, Any]) -> str | None:
    kid = header.get("kid")
    if not isinstance(kid, str | None):
        raise UnauthenticatedError("the token's key id is not text")
    return kid


def _failure(error: Exception) -> str:
    return next((text for kind, text in _FAILURES if isinstance(error, kind)), "the token is malformed")


def _check_times(claims: Mapping[str, Any], now: float, leeway: int) -> None:
    if _seconds(claims, "exp") + leeway <= now:
        raise UnauthenticatedError("the token has expired")
    if "nbf" in claims and _seconds(claims, "nbf") - leeway > now:
        raise UnauthenticatedError("the token is not yet valid")
    if "iat" in claims and _seconds(claims, "iat") - leeway > now:
        raise UnauthenticatedError("the token was issued in the future")


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    # NaN compares false with everything, so would pass every check
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    raise UnauthenticatedError(f"the token's {name} is not a time")
