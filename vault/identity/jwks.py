"""Public keys of a JWT issuer: parsing (RFC 7517, 7518, 8037) and a cache that an attacker cannot drive."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import AllowedPublicKeys, ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from vault.domain.canonical import parse_json
from vault.domain.errors import UnauthenticatedError
from vault.domain.protocols import Clock
from vault.identity.fetch import Fetch, Source

KEYS: Final = 100
RSA_BITS: Final = 2_048

KEY_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""By algorithm the key type and curve it needs. All are asymmetric: what is not here is never accepted."""

_Members = dict[str, Any]
_READERS: Final[Mapping[str, tuple[tuple[str, ...], Callable[[_Members], Any]]]] = {
    "RSA": (("kty", "n", "e"), RSAAlgorithm.from_jwk),
    "EC": (("kty", "crv", "x", "y"), ECAlgorithm.from_jwk),
    "OKP": (("kty", "crv", "x"), OKPAlgorithm.from_jwk),
}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One usable key of a set. `algorithm` is None when the set leaves it open."""

    kid: str | None
    kind: tuple[str, str]
    algorithm: str | None
    public: AllowedPublicKeys = field(repr=False)

    def fits(self, algorithm: str) -> bool:
        """Whether signatures of `algorithm` can be verified with it."""
        return KEY_KINDS.get(algorithm) == self.kind and self.algorithm in (None, algorithm)


@dataclass(frozen=True, slots=True)
class KeySetTimes:
    """When a key set is fetched again, in seconds.

    Refreshed once older than `fresh`; fetched at most every `retry`, whatever is asked for; still used after
    failed fetches until it is `stale` old, then no more.
    """

    fresh_seconds: float = 300.0
    retry_seconds: float = 10.0
    stale_seconds: float = 3_600.0


KEY_SET_TIMES: Final = KeySetTimes()


@dataclass(frozen=True, slots=True)
class _Held:
    keys: tuple[VerificationKey, ...]
    at: float


class KeySet:
    """The keys of one issuer, fetched when needed. Safe to share between threads.

    Only one thread fetches at a time; others meanwhile go on with the keys at hand, and wait only when there
    are none.
    """

    def __init__(self, issuer: str, source: Source, clock: Clock, fetch: Fetch, times: KeySetTimes) -> None:
        self._issuer = issuer
        self._source = source
        self._clock = clock
        self._fetch = fetch
        self._times = times
        self._held: _Held | None = None
        self._tried_at: float | None = None
        self._lock = threading.Lock()

    def find(self, kid: str | None, algorithm: str) -> AllowedPublicKeys:
        """The one key with this id, or without an id the only one, that fits `algorithm`.

        May fetch, so may block for some seconds.

        Raises:
            UnauthenticatedError: no key or several, or no keys at hand.
        """
        self._refresh(older_than=self._times.fresh_seconds)
        found = self._select(kid, algorithm)
        if not found:
            self._refresh(older_than=0.0)
            found = self._select(kid, algorithm)
        if not self._usable():
            raise UnauthenticatedError("the keys of the token's issuer are not available")
        if len(found) != 1:
            raise UnauthenticatedError("the token names no single key of its issuer that fits its algorithm")
        return found[0].public

    def load(self) -> bool:
        """Fetch now if due; whether there are keys to work with."""
        self._refresh(older_than=self._times.fresh_seconds)
        return bool(self._usable())

    def _usable(self) -> tuple[VerificationKey, ...]:
        held = self._held
        if held is None or self._clock.monotonic() - held.at > self._times.stale_seconds:
            return ()
        return held.keys

    def _select(self, kid: str | None, algorithm: str) -> list[VerificationKey]:
        return [key for key in self._usable() if kid in (None, key.kid) and key.fits(algorithm)]

    def _due(self, older_than: float) -> bool:
        now = self._clock.monotonic()
        if self._tried_at is not None and now - self._tried_at < self._times.retry_seconds:
            return False
        return self._held is None or now - self._held.at >= older_than

    def _refresh(self, older_than: float) -> None:
        if not self._due(older_than):
            return
        # a slow issuer must not hold up those whose keys are known already
        if not self._lock.acquire(blocking=not self._usable()):
            return
        try:
            if self._due(older_than):
                self._fetch_keys()
        finally:
            self._lock.release()

    def _fetch_keys(self) -> None:
        self._tried_at = self._clock.monotonic()
        try:
            keys = parse_key_set(self._fetch(self._source))
        except Exception as error:  # network, TLS, HTTP, file, content: the keys at hand go on until stale
            _log.warning("jwks-fetch-failed", issuer=self._issuer, error=type(error).__name__)
            return
        self._held = _Held(keys, self._clock.monotonic())


def parse_key_set(document: bytes) -> tuple[VerificationKey, ...]:
    """The usable keys of a JWK Set; entries that cannot be used are left out (RFC 7517, section 5).

    Usable are public RSA keys of at least 2,048 bits, EC keys on P-256, P-384 or P-521 and Ed25519 keys that
    are not declared for another use than verifying signatures.

    Raises:
        UnauthenticatedError: no JWK Set, more than 100 entries, or no usable key.
    """
    try:
        entries = parse_json(document)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        entries = None
    if not isinstance(entries, list) or len(entries) > KEYS:
        raise UnauthenticatedError("the issuer's keys are not a JWK Set")
    keys = tuple(key for key in map(_read_key, entries) if key is not None)
    if not keys:
        raise UnauthenticatedError("the issuer's JWK Set has no usable key")
    return keys


def _read_key(entry: object) -> VerificationKey | None:
    if not isinstance(entry, dict) or not _may_verify(entry):
        return None
    kind = (str(entry.get("kty")), str(entry.get("crv", "")))
    if kind not in KEY_KINDS.values():
        return None
    members, read = _READERS[kind[0]]
    try:
        public = read({name: entry[name] for name in members})
    except Exception:  # parameters of every kind of wrongness: an unusable entry, like an unknown one
        return None
    if isinstance(public, RSAPublicKey) and public.key_size < RSA_BITS:
        return None
    return VerificationKey(entry.get("kid"), kind, entry.get("alg"), public)


def _may_verify(entry: _Members) -> bool:
    # a set that publishes a private key has given it away: anyone could have signed
    operations = entry.get("key_ops", ["verify"])
    return (
        "d" not in entry
        and entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and all(isinstance(entry.get(name), str | None) for name in ("kid", "alg", "kty", "crv"))
    )
