"""Looking at a KMS and setting it up: mount, policies, capabilities of a token, settings of keys.

For `datavault keys init` and `datavault doctor`; the service itself calls none of this. One attempt per
request: whoever runs a command can run it again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import hvac
import requests

from vault.crypto.transit_answers import Answer, read_answer
from vault.crypto.transit_session import TransitSession
from vault.domain.errors import (
    ConfigurationError,
    DatavaultError,
    KeyForbiddenError,
    KeysUnavailableError,
)

_NO_MOUNT: Final = "No secret engine mount at"
_DENY: Final = "deny"


@dataclass(frozen=True, slots=True)
class KeySettings:
    """How a key is kept at the KMS."""

    kind: str
    derived: bool
    exportable: bool
    plaintext_backup: bool
    deletion_allowed: bool


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What the KMS says of the token in use. `seconds_left` None: it never ends."""

    policies: tuple[str, ...]
    seconds_left: int | None
    renewable: bool


class TransitSetup:
    """What the token of a session can see and do beside the keys' daily use.

    All methods raise KeysUnavailableError when the KMS does not answer or answers unexpectedly, and
    KeyForbiddenError, which names path and capability, when the token may not.
    """

    def __init__(self, session: TransitSession, mount: str) -> None:
        self._session = session
        self._mount = mount

    def mounted(self) -> bool:
        """Whether the Transit mount is there.

        Raises:
            ConfigurationError: something else is mounted there.
        """
        answer = self._ask("GET", f"sys/mounts/{self._mount}")
        if answer.status == 404 or any(_NO_MOUNT in error for error in answer.errors):
            return False
        kind = self._require(answer, "read", f"sys/mounts/{self._mount}").data.get("type")
        if kind != "transit":
            raise ConfigurationError(
                f"DATAVAULT_TRANSIT_MOUNT: {self._mount} is not a mount of the Transit engine"
            )
        return True

    def mount(self) -> None:
        """Mount the Transit engine."""
        self._write(f"sys/mounts/{self._mount}", {"type": "transit", "description": "datavault"})

    def upserts_refused(self) -> bool:
        """Whether a misspelt key is an error on the whole mount, whatever the token may do."""
        path = f"{self._mount}/config/keys"
        return self._require(self._ask("GET", path), "read", path).data.get("disable_upsert") is True

    def refuse_upserts(self) -> None:
        """Make it so."""
        self._write(f"{self._mount}/config/keys", {"disable_upsert": True})

    def policy(self, name: str) -> str | None:
        """The text of an ACL policy; None where there is none."""
        path = f"sys/policies/acl/{name}"
        answer = self._ask("GET", path)
        if answer.status == 404:
            return None
        return str(self._require(answer, "read", path).data.get("policy", ""))

    def write_policy(self, name: str, text: str) -> None:
        """Make or replace an ACL policy."""
        self._write(f"sys/policies/acl/{name}", {"policy": text})

    def key(self, name: str) -> KeySettings | None:
        """How a key is kept; None where there is none."""
        path = f"{self._mount}/keys/{name}"
        answer = self._ask("GET", path)
        if answer.missing:
            return None
        data = self._require(answer, "read", path).data
        return KeySettings(
            str(data.get("type")),
            data.get("derived") is True,
            # unknown counts as yes: it is told, and looked at by somebody
            data.get("exportable") is not False,
            data.get("allow_plaintext_backup") is not False,
            data.get("deletion_allowed") is not False,
        )

    def capabilities(self, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """What the token may do at each path: names of capabilities; for a root token `root` alone."""
        path = "sys/capabilities-self"
        answer = self._require(self._ask("POST", path, {"paths": list(paths)}), "update", path)
        found = {}
        for each in paths:
            names = answer.data.get(each)
            if not isinstance(names, list):
                raise KeysUnavailableError("the KMS described the token's capabilities in an unknown way")
            found[each] = frozenset(map(str, names)) - {_DENY}
        return found

    def token(self) -> TokenFacts:
        """Policies and lifetime of the token."""
        path = "auth/token/lookup-self"
        data = self._require(self._ask("GET", path), "read", path).data
        policies = [*(data.get("policies") or ()), *(data.get("identity_policies") or ())]
        seconds = data.get("ttl")
        ends = isinstance(seconds, int) and (seconds > 0 or data.get("expire_time") is not None)
        return TokenFacts(
            tuple(dict.fromkeys(map(str, policies))),
            int(seconds) if ends and isinstance(seconds, int) else None,
            data.get("renewable") is True,
        )

    def version(self) -> str:
        """Version of the server, '' where it does not tell."""
        answer = self._ask("GET", "sys/health", {}, flat=True)
        return str(answer.data.get("version", ""))

    def _write(self, path: str, body: Mapping[str, object]) -> None:
        self._require(self._ask("POST", path, body), "update", path)

    def _require(self, answer: Answer, capability: str, path: str) -> Answer:
        if answer.status == 403:
            raise KeyForbiddenError(f"the token may not `{capability}` {path}")
        if not answer.ok:
            raise answer.failure()
        return answer

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, flat: bool = False
    ) -> Answer:
        outcome = _attempt(lambda: _send(self._session.client(), method, path, body), flat=flat)
        if isinstance(outcome, Answer):
            return outcome
        # raised out here, so that nothing leads back to what was sent
        raise KeysUnavailableError(f"the KMS does not answer ({outcome})")


def _attempt(send: Callable[[], requests.Response], *, flat: bool) -> Answer | str:
    """The answer, or the kind of failure in one word. `flat`: the answer has no envelope."""
    try:
        response = send()
        if flat:
            return Answer(response.status_code, dict(response.json()), ())
        return read_answer(response)
    except DatavaultError:
        raise
    except Exception as error:
        # whatever it is, it ends here: it may hold the token
        return type(error).__name__


def _send(
    client: hvac.Client, method: str, path: str, body: Mapping[str, object] | None
) -> requests.Response:
    response: requests.Response = client.adapter.request(method, f"/v1/{path}", json=body or None)
    return response
