"""One request to the KMS: bounded in time, repeated where that helps, refused at once where it cannot.

What counts as what:

    no connection, cut, timed out, no answer of the KMS    failure to answer     repeated
    500, 501 (not initialised), 502, 503 (sealed), 504     failure to answer     repeated
    412 (replica behind), 429 (rate limit)                 answer                repeated
    403                                                    answer                with a new token, if it is
                                                                                 the token that is refused
    any other status                                       answer                not repeated

Failures to answer open the circuit (breaker.py); a pause before a repetition has jitter, and is at least what
`Retry-After` asks for. A connection that lay idle and turns out dead costs no pause and no attempt: it was
dead before. A request begins no attempt after `timeout_seconds`, and ends within twice of it.

hvac and requests keep plaintexts and the token in their exceptions: each ends where it is caught, and the
error of ours is raised afterwards, so that no cause, context or traceback leads back to it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import hvac
import requests
import structlog

from vault.crypto.breaker import Breaker, Permit, Refusal
from vault.crypto.transit_answers import Answer, read_answer
from vault.crypto.transit_bounds import within
from vault.crypto.transit_session import TransitSession
from vault.crypto.transit_settings import TransitSettings
from vault.domain.errors import (
    ConfigurationError,
    DatavaultError,
    KeyForbiddenError,
    KeysUnavailableError,
)
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, Randomness

log = structlog.get_logger("datavault.crypto")

FORBIDDEN_SECONDS: Final = 10.0
"""How long a key that this replica may not use is not asked for again."""
_FIRST_PAUSE_SECONDS: Final = 0.05
_TOKENS: Final = 2
"""How often a call that was refused is made once more with a new token."""

Call = Callable[[hvac.Client], requests.Response]


@dataclass(frozen=True, slots=True)
class Use:
    """What a request does with which key: `path` as in a policy of the KMS, below the mount."""

    capability: str
    path: str


@dataclass(frozen=True, slots=True)
class _Tried:
    """The outcome of an attempt: the KMS's answer, or the kind of failure in one word, or our own error."""

    answer: Answer | None = None
    failure: str = ""
    error: DatavaultError | None = None
    token: str = ""
    was_dead: bool = False

    @property
    def final(self) -> bool:
        """Whether asking again cannot help."""
        return self.answer is not None and not self.answer.retriable

    def explain(self, retry_after_seconds: float | None) -> DatavaultError:
        """What to raise when this was the last attempt."""
        if self.error is not None:
            return self.error
        if self.answer is not None:
            return self.answer.failure(retry_after_seconds)
        return KeysUnavailableError(
            f"the KMS does not answer ({self.failure})", retry_after_seconds=retry_after_seconds
        )


class TransitTransport:
    """Thread-safe: each thread has a client of its own (`TransitSession.client`)."""

    def __init__(
        self,
        settings: TransitSettings,
        session: TransitSession,
        clock: Clock,
        randomness: Randomness,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._session = session
        self._clock = clock
        self._randomness = randomness
        self._sleep = sleep
        self._breaker = Breaker(clock, randomness)
        self._lock = threading.Lock()
        self._forbidden: dict[Use, float] = {}

    def request(self, call: Call, use: Use | None = None, *, once: bool = False) -> Answer:
        """The KMS's answer, whatever its status, when it is one that asking again would not change.

        With `once` the call is made at most once: what it does may not be done twice.

        Raises:
            KeyForbiddenError: the token is good, and may not do `use`.
            KeysUnavailableError: no answer; with the time after which to try again, except after `once`,
                when it is not known whether it was done.
        """
        # a look at a key is rare, and whoever has just widened the policy wants to see it
        if use is not None and use.capability != "read":
            self._refuse_if_forbidden(use)
        tried = self._attempts(call, once)
        for _ in range(_TOKENS):
            if tried.answer is None or not tried.answer.forbidden:
                break
            if not self._session.refused(tried.token):
                if use is None:
                    break
                raise self._forbid(use)
            tried = self._attempts(call, once)
        if tried.answer is None or not tried.final:
            raise tried.explain(None if once else self._retry_after(tried))
        if use in self._forbidden:
            self._allow(use)
        return tried.answer

    # --- attempts ------------------------------------------------------------------------------------------

    def _attempts(self, call: Call, once: bool) -> _Tried:
        last_begin = self._clock.monotonic() + self._settings.timeout_seconds
        most = 1 if once else self._settings.attempts
        tried = None
        for attempt in range(1, most + 1):
            permit = self._breaker.admit()
            if isinstance(permit, Refusal):
                return tried or _Tried(error=_circuit_open(permit))
            tried = self._permitted(permit, call, last_begin, once)
            pause = self._pause(attempt, tried)
            if tried.final or tried.error or attempt == most or self._clock.monotonic() + pause >= last_begin:
                return tried
            self._sleep(pause)
        raise AssertionError("at least one attempt is made")

    def _permitted(self, permit: Permit, call: Call, last_begin: float, once: bool) -> _Tried:
        """One attempt, reported to the breaker."""
        tried = None
        try:
            tried = self._try(call, last_begin)
            if tried.was_dead and not once and self._clock.monotonic() < last_begin:
                tried = self._try(call, last_begin)
            return tried
        finally:
            if tried is None or not (tried.answer or tried.failure):
                self._breaker.undecided(permit)
            elif tried.answer is not None and not tried.answer.failed:
                if self._breaker.answered(permit):
                    log.info("kms_answers_again")
            elif self._breaker.failed(permit):
                log.warning("kms_left_alone", reason=tried.failure or _status(tried.answer))

    def _try(self, call: Call, last_begin: float) -> _Tried:
        left = last_begin + self._settings.timeout_seconds - self._clock.monotonic()
        with within(left) as exchange:
            try:
                client = self._session.client()
            except KeysUnavailableError as error:
                return _Tried(error=error, failure="login")
            except ConfigurationError:
                # its message names files, which are for the operator at start and not for callers
                return _Tried(error=_no_token())
            try:
                return _Tried(read_answer(call(client)), token=client.token or "")
            except Exception as error:
                # whatever it is, it ends here: it may hold plaintexts or the token
                was_dead = isinstance(error, requests.ConnectionError) and not exchange.opened
                return _Tried(failure=type(error).__name__, was_dead=was_dead)

    def _pause(self, attempt: int, tried: _Tried) -> float:
        share = (self._randomness.token(1)[0] + 1) / 256
        pause = share * _FIRST_PAUSE_SECONDS * float(2**attempt)
        return max(pause, tried.answer.retry_after_seconds) if tried.answer else pause

    def _retry_after(self, tried: _Tried) -> float:
        asked = tried.answer.retry_after_seconds if tried.answer else 0.0
        return max(asked, LIMITS.retry_after_seconds)

    # --- keys this replica may not use ---------------------------------------------------------------------

    def _refuse_if_forbidden(self, use: Use) -> None:
        until = self._forbidden.get(use)
        if until is not None and self._clock.monotonic() < until:
            raise _forbidden()

    def _forbid(self, use: Use) -> KeyForbiddenError:
        now = self._clock.monotonic()
        with self._lock:
            known = use in self._forbidden
            self._forbidden[use] = now + FORBIDDEN_SECONDS
        if not known:
            log.warning("kms_forbids", capability=f"{use.capability} {self._settings.mount}/{use.path}")
        return _forbidden()

    def _allow(self, use: Use) -> None:
        """The next refusal is news again."""
        with self._lock:
            self._forbidden.pop(use, None)


def _circuit_open(refusal: Refusal) -> KeysUnavailableError:
    return KeysUnavailableError(
        "the KMS did not answer lately and is not asked for a moment",
        retry_after_seconds=refusal.retry_after_seconds,
    )


def _no_token() -> KeysUnavailableError:
    return KeysUnavailableError(
        "there is no token for the KMS", retry_after_seconds=LIMITS.retry_after_seconds
    )


def _forbidden() -> KeyForbiddenError:
    return KeyForbiddenError("this replica may not use a key that this needs")


def _status(answer: Answer | None) -> str:
    return f"status {answer.status}" if answer else ""
