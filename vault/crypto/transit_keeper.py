"""One token kept alive: renewed at two thirds of its lease, replaced when it nears its end or is refused.

All by the monotonic clock: what the machine's date says, or jumps to, is never looked at.
"""

import math
import threading
from collections.abc import Callable
from typing import Final

import structlog

from vault.crypto.transit_login import HeldToken, Login
from vault.crypto.transit_settings import AGENT, TOKEN
from vault.crypto.transit_token import RETRY_SECONDS, TokenDesk, TokenLease
from vault.domain.errors import ConfigurationError, DatavaultError, KeysUnavailableError
from vault.domain.protocols import Clock, Randomness

_RENEW_AT: Final = 2 / 3
_FIRST_PAUSE_SECONDS: Final = 0.5
_SHORTEST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 30.0
_VERDICT_SECONDS: Final = 1.0
"""How long the KMS's refusal of a login is taken as its word, and the least time between two logins for
tokens that were refused: no storm of logins."""

_log = structlog.get_logger("datavault.transit")


class TokenKeeper:
    """Thread-safe. The token is read without waiting for a renewal; one thread at a time asks the KMS."""

    def __init__(self, login: Login, desk: TokenDesk, clock: Clock, randomness: Randomness) -> None:
        self._login = login
        self._desk = desk
        self._clock = clock
        self._randomness = randomness
        self._asking = threading.Lock()
        self._lease: TokenLease | None = None
        self._full_lease = math.inf
        self._due = math.inf
        self._failures = 0
        self._rounds = 0
        self._under_way = 0
        self._verdict: DatavaultError | None = None
        self._verdict_until = -math.inf
        self._no_login_before = -math.inf
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def token(self) -> str:
        """The token in force; logs in when there is none yet.

        Raises:
            ConfigurationError: the KMS refuses the first login. KeysUnavailableError: it does not answer, or
                the keeper was closed.
        """
        lease = self._lease
        if lease is None:
            self._together(self._log_in_first, lambda: self._lease is None, self._rounds)
            lease = self._lease
        if lease is None or self._stopped:
            raise KeysUnavailableError("the session with the KMS has ended")
        return lease.token

    def refused(self, token: str) -> bool:
        """See TransitSession."""
        # a look that began before this refusal may be older than what is wrong with the token
        since = self._under_way + self._rounds
        self._together(lambda: self._look_into(token), lambda: self._is_current(token), since)
        return not self._is_current(token)

    def seconds_left(self) -> int | None:
        """See TransitSession."""
        lease = self._lease
        if lease is None or math.isinf(lease.ends):
            return None
        return max(0, math.floor(lease.ends - self._clock.monotonic()))

    def tend(self) -> float:
        """Renew or replace the token if that is due; never raises.

        Returns:
            Seconds until something will be due, infinite when nothing will.
        """
        with self._asking:
            while self._lease is not None and not self._stopped and self._clock.monotonic() >= self._due:
                try:
                    self._renew(self._lease)
                    self._failures = 0
                except DatavaultError as error:
                    self._failed(error)
            return max(0.0, self._due - self._clock.monotonic())

    def stop(self) -> None:
        """Renew no more. Waits for nobody."""
        self._stopped = True
        self._wake.set()

    def close(self, wait_seconds: float) -> None:
        """Stop, give back a token that was got by logging in, and forget it. Waits `wait_seconds` at most for
        what is under way, and as long as the KMS may take for one answer."""
        self.stop()
        if self._asking.acquire(timeout=wait_seconds):
            lease, self._lease = self._lease, None
            if lease is not None:
                self._desk.give_back(lease)
            self._asking.release()
        self._lease = None

    # --- one finds out, the others share the answer ---------------------------------------------------------

    def _together(self, work: Callable[[], None], wanted: Callable[[], bool], since: int) -> None:
        """Do `work` while it is `wanted`, unless a round later than `since` has done it, or a refusal is
        fresh; raises what the work has raised."""
        with self._asking:
            if self._stopped or not wanted():
                return
            if self._rounds <= since and not self._is_refusal_fresh():
                self._verdict, self._under_way = None, 1
                try:
                    work()
                except DatavaultError as error:
                    # its traceback leads to the credential
                    self._verdict = error.again()
                finally:
                    self._rounds, self._under_way = self._rounds + 1, 0
            verdict = self._verdict
        if verdict is not None:
            raise verdict.again()

    def _is_refusal_fresh(self) -> bool:
        return self._verdict is not None and self._clock.monotonic() < self._verdict_until

    def _log_in_first(self) -> None:
        try:
            self._adopt(self._desk.obtain())
        except ConfigurationError:
            self._remember()
            raise

    def _look_into(self, token: str) -> None:
        if self._desk.looked_up(token) is not None:
            return
        try:
            self._replace(token)
        except DatavaultError as error:
            self._remember()
            self._failed(error)
            failure = error
        else:
            return
        if isinstance(failure, ConfigurationError):
            # its message is for operators
            failure = KeysUnavailableError(
                "the KMS refuses the token, and gives no new one", retry_after_seconds=RETRY_SECONDS
            )
        raise failure

    def _remember(self) -> None:
        self._verdict_until = self._clock.monotonic() + _VERDICT_SECONDS

    def _is_current(self, token: str) -> bool:
        lease = self._lease
        return lease is not None and lease.token == token

    # --- renewal --------------------------------------------------------------------------------------------

    def _renew(self, lease: TokenLease) -> None:
        if isinstance(self._login, HeldToken):
            self._renew_held(lease)
            return
        renewed = self._desk.renewed(lease) if lease.renewable else None
        if renewed is not None and renewed.lease_seconds >= self._full_lease:
            self._keep(renewed)
            return
        if renewed is not None:
            # the last lease before its greatest age: it goes on serving until there is another token
            self._lease = renewed
        self._adopt(self._desk.obtain())

    def _renew_held(self, lease: TokenLease) -> None:
        full = 0.0 if math.isinf(lease.lease_seconds) else lease.lease_seconds
        kept = self._desk.renewed(lease) or self._desk.looked_up(lease.token)
        if kept is not None:
            self._keep(kept)
        found = self._desk.obtain()
        if found.token != lease.token:
            self._adopt(found)
        elif kept is None:
            raise KeysUnavailableError("the KMS refuses the token, and there is no other")
        elif math.isfinite(kept.lease_seconds) and not (kept.renewable and kept.lease_seconds >= full):
            _log.warning("token_ends", way=self._login.way, seconds=round(kept.lease_seconds))

    def _replace(self, token: str) -> None:
        """
        Raises:
            ConfigurationError, KeysUnavailableError: there is no other token.
        """
        now = self._clock.monotonic()
        if now < self._no_login_before:
            raise KeysUnavailableError(
                "the KMS refuses one token after the other", retry_after_seconds=RETRY_SECONDS
            )
        self._no_login_before = now + _VERDICT_SECONDS
        found = self._desk.obtain()
        if found.token == token:
            raise KeysUnavailableError(
                "the KMS refuses the token, and there is no other", retry_after_seconds=RETRY_SECONDS
            )
        self._adopt(found)

    def _adopt(self, lease: TokenLease) -> None:
        """Use a new token from now on."""
        known = math.isfinite(lease.lease_seconds)
        _log.info("token_login", way=self._login.way, seconds=round(lease.lease_seconds) if known else None)
        self._full_lease = lease.lease_seconds
        self._failures = 0
        self._verdict = None
        self._set(lease)
        if self._login.way == TOKEN:
            # how long it lives is not known yet; a token that an Agent puts in is the Agent's affair
            self._wake_at(self._clock.monotonic())

    def _keep(self, lease: TokenLease) -> None:
        """Use the same token for a new lease."""
        if lease.renewable:
            _log.debug("token_renewed", way=self._login.way, seconds=round(lease.lease_seconds))
        self._set(lease)

    def _set(self, lease: TokenLease) -> None:
        self._lease = lease
        soonest = self._clock.monotonic() + _SHORTEST_PAUSE_SECONDS
        self._wake_at(max(soonest, lease.obtained + _RENEW_AT * lease.lease_seconds))

    def _failed(self, error: DatavaultError) -> None:
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
        left = self._lease.ends - self._clock.monotonic() if self._lease is not None else 0.0
        if left > 0:
            pause = min(pause, max(left / 4, _SHORTEST_PAUSE_SECONDS))
        jitter = (self._randomness.token(1)[0] + 256) / 512
        if self._login.way != AGENT:
            self._wake_at(self._clock.monotonic() + pause * jitter)
        seconds = round(max(0.0, left)) if math.isfinite(left) else None
        _log.warning("token_renewal_failed", way=self._login.way, reason=error.message, seconds=seconds)

    # --- the thread -----------------------------------------------------------------------------------------

    def _wake_at(self, due: float) -> None:
        self._due = due
        self._wake.set()
        if self._thread is None and math.isfinite(due) and not self._stopped:
            self._thread = threading.Thread(target=self._tend_on, name="kms-token", daemon=True)
            self._thread.start()

    def _tend_on(self) -> None:
        while not self._stopped:
            self._wake.clear()
            pause = self.tend()
            self._wake.wait(min(pause, threading.TIMEOUT_MAX))
