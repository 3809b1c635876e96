"""Getting, renewing and giving back a token: one question to the KMS each. Not thread-safe.

hvac's and requests' exceptions hold the token or the credential that was sent: they end at the call, and what
is raised follows after it, not from within.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import hvac
import requests

from vault.crypto.transit_login import Exchange, HeldToken, Login, TokenAnswer, read_token_answer
from vault.crypto.transit_settings import CERT
from vault.domain.errors import ConfigurationError, KeysUnavailableError
from vault.domain.protocols import Clock

RETRY_SECONDS: Final = 1.0

_Call = Callable[[hvac.Client], requests.Response]


@dataclass(frozen=True, slots=True, repr=False)
class TokenLease:
    """A token and its life. `obtained` is the monotonic time just before the KMS was asked, `lease_seconds`
    infinite for a token that never ends, or of which nothing is known. Shows nothing in repr."""

    token: str
    obtained: float
    lease_seconds: float = math.inf
    renewable: bool = False

    @property
    def ends(self) -> float:
        """Monotonic time."""
        return self.obtained + self.lease_seconds


class TokenDesk:
    """Asks the KMS with a client of its own. All methods raise KeysUnavailableError when it does not answer,
    or says that this may pass."""

    def __init__(self, login: Login, clock: Clock, client: hvac.Client) -> None:
        self._login = login
        self._clock = clock
        self._client = client

    def obtain(self) -> TokenLease:
        """Log in; a held token is read anew, and nothing is known of it yet.

        Raises:
            ConfigurationError: the credential cannot be had or is kept carelessly, or the KMS refuses it. The
                message is for operators: it may name a path.
        """
        login, started = self._login, self._clock.monotonic()
        if isinstance(login, HeldToken):
            return TokenLease(login.read(), started)
        body = login.body()
        if login.way == CERT:
            # a certificate that was replaced meanwhile is shown on a new connection only
            self._client.adapter.close()
        answer = self._ask(lambda client: client.adapter.post(login.path, json=body), "")
        if not answer.ok or not answer.token:
            raise ConfigurationError(
                f"DATAVAULT_TRANSIT_AUTH: the KMS refuses the login by {login.named} (status {answer.status})"
            )
        return _known(answer.token, started, answer)

    def renewed(self, lease: TokenLease) -> TokenLease | None:
        """The same token with a new lease; None when the KMS does not renew it."""
        started = self._clock.monotonic()
        answer = self._ask(lambda client: client.auth.token.renew_self(), lease.token)
        # 0 is no lease at all here: the token's greatest age is less than a second away
        return TokenLease(lease.token, started, answer.lease_seconds, answer.renewable) if answer.ok else None

    def looked_up(self, token: str) -> TokenLease | None:
        """The token with what is left of its lease; None when the KMS does not accept it."""
        started = self._clock.monotonic()
        answer = self._ask(lambda client: client.auth.token.lookup_self(), token)
        return _known(token, started, answer) if answer.ok else None

    def give_back(self, lease: TokenLease) -> None:
        """Revoke a token that was got by logging in, and close the connection; never raises. A batch token
        cannot be revoked, nor one at a KMS that is gone: those end by themselves."""
        if isinstance(self._login, Exchange):
            self._attempt(lambda client: client.auth.token.revoke_self(), lease.token)
        self._client.adapter.close()

    def _ask(self, call: _Call, token: str) -> TokenAnswer:
        outcome = self._attempt(call, token)
        if isinstance(outcome, str):
            raise KeysUnavailableError(
                f"the KMS does not answer ({outcome})", retry_after_seconds=RETRY_SECONDS
            )
        if outcome.passing:
            raise KeysUnavailableError(
                f"the KMS cannot answer for a token now (status {outcome.status})",
                retry_after_seconds=RETRY_SECONDS,
            )
        return outcome

    def _attempt(self, call: _Call, token: str) -> TokenAnswer | str:
        """The answer, or the kind of failure in one word."""
        self._client.token = token
        try:
            return read_token_answer(call(self._client))
        except Exception as error:
            return type(error).__name__


def _known(token: str, started: float, answer: TokenAnswer) -> TokenLease:
    return TokenLease(token, started, answer.lease_seconds or math.inf, answer.renewable)
