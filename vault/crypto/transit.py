"""The key provider of production: Transit of HashiCorp Vault and OpenBao, through hvac.

hvac puts the decrypted plaintexts of a partly failed batch into the exception's text, and requests keeps the
sent plaintexts and the token in its exceptions. So hvac is told not to raise on a status, whatever is raised
all the same ends at the call, and the error of ours that follows is raised after it, not from within: no
cause, context or traceback of it leads back.
"""

import base64
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import hvac
import requests
from hvac.adapters import RawAdapter

from vault.crypto.names import SIGNING_KIND, WRAPPING_KIND, all_keys
from vault.crypto.transit_answers import Answer, batch_results, ciphertext, decode, plaintext, read_answer
from vault.crypto.transit_settings import Login, TransitSettings, login_of
from vault.domain.errors import ConfigurationError, DatavaultError, KeysUnavailableError
from vault.domain.protocols import (
    Clock,
    KeyHealth,
    KeyInfo,
    PublicKey,
    Randomness,
    UnwrapItem,
    WrapItem,
)
from vault.domain.system import SystemRandomness

__all__ = ["TransitKeyProvider", "TransitSettings"]

_FIRST_PAUSE_SECONDS: Final = 0.05

_Call = Callable[[hvac.Client], requests.Response]


class TransitKeyProvider:
    """Implements `vault.domain.protocols.KeyProvider`. Thread-safe: each thread has a client of its own.

    Bounded in time (`TransitSettings.timeout_seconds`). Attempts are repeated, with jitter, after a failed
    connection and the statuses 412, 429 and 5xx; all it asks for can be asked twice, except `rotate`.

    Raises:
        ConfigurationError: there is no token, or others may read its file.
    """

    name = "transit"

    def __init__(
        self,
        settings: TransitSettings,
        clock: Clock,
        *,
        randomness: Randomness | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._randomness = randomness or SystemRandomness()
        self._sleep = sleep
        self._login: Login = login_of(settings)
        self._login.token()
        self._threads = threading.local()
        self._batch_items = settings.batch_items

    def ensure_keys(self, classes: Iterable[str]) -> None:
        """Make every key of the product and of these key classes that is not there yet.

        Needs a token that may create keys; the service's own must not.

        Raises:
            ConfigurationError: a class cannot be one, or a key of that name is of another kind.
            KeysUnavailableError: the KMS does not answer, or refuses.
        """
        for name, kind in all_keys(classes).items():
            derived = kind == WRAPPING_KIND
            answer = self._request(partial(self._read_key, name))
            if answer.missing:
                self._create(name, kind, derived)
            elif not answer.ok:
                raise answer.failure()
            elif (answer.data.get("type"), answer.data.get("derived", False)) != (kind, derived):
                raise ConfigurationError(
                    f"the KMS has a key {name}, but not of kind {kind}, derived={derived}"
                )

    def wrap(self, key: str, items: Sequence[WrapItem]) -> list[bytes]:
        """See KeyProvider."""
        batch = [{"plaintext": _base64(one.plaintext), "context": _base64(one.context)} for one in items]
        wrapped: list[bytes] = []
        for result in self._batch("encrypt_data", key, batch):
            text = ciphertext(result)
            if isinstance(text, DatavaultError):
                raise KeysUnavailableError(f"the KMS did not wrap with the key {key}")
            wrapped.append(text)
        return wrapped

    def unwrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        """See KeyProvider."""
        return [plaintext(result) for result in self._batch("decrypt_data", key, _wrapped(items))]

    def rewrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        """See KeyProvider."""
        return [ciphertext(result) for result in self._batch("rewrap_data", key, _wrapped(items))]

    def rotate(self, key: str) -> int:
        """See KeyProvider."""
        # an unknown key would be answered like a server's failure
        self.info(key)
        self._expect(lambda client: _transit(client).rotate_key(key, self._mount), attempts=1)
        return self.info(key).latest_version

    def sign(self, key: str, message: bytes) -> bytes:
        """See KeyProvider."""
        answer = self._expect(
            lambda client: _transit(client).sign_data(
                key, hash_input=_base64(message), mount_point=self._mount
            ),
        )
        signature = decode(str(answer.data.get("signature", "")).rpartition(":")[2])
        if signature is None or len(signature) != 64:
            raise KeysUnavailableError(f"the KMS answered with no Ed25519 signature (key {key})")
        return signature

    def public_key(self, key: str) -> PublicKey:
        """See KeyProvider."""
        data = self._read(key)
        version = data["latest_version"]
        entry = data.get("keys", {}).get(str(version))
        raw = decode(entry.get("public_key")) if isinstance(entry, dict) else None
        if data.get("type") != SIGNING_KIND or raw is None or len(raw) != 32:
            raise KeysUnavailableError(f"the KMS has no Ed25519 key {key}")
        return PublicKey(version, raw)

    def info(self, key: str) -> KeyInfo:
        """See KeyProvider."""
        data = self._read(key)
        return KeyInfo(key, data["latest_version"], data["min_decryption_version"], str(data.get("type")))

    def health(self) -> KeyHealth:
        """See KeyProvider. A token lookup: it fails too when the KMS is sealed, or refuses the token."""
        try:
            answer = self._request(lambda client: client.auth.token.lookup_self(), attempts=1)
        except DatavaultError as error:
            return KeyHealth(False, error.message)
        if not answer.ok:
            return KeyHealth(False, f"the KMS refused the token (status {answer.status})")
        return KeyHealth(True, "the KMS answers and accepts the token")

    @property
    def _mount(self) -> str:
        return self._settings.mount

    def _create(self, name: str, kind: str, derived: bool) -> None:
        self._expect(
            lambda client: _transit(client).create_key(
                name,
                derived=derived,
                exportable=False,
                allow_plaintext_backup=False,
                key_type=kind,
                mount_point=self._mount,
            ),
        )

    def _read(self, key: str) -> Mapping[str, Any]:
        answer = self._expect(partial(self._read_key, key))
        versions = (answer.data.get("latest_version"), answer.data.get("min_decryption_version"))
        if not all(isinstance(version, int) for version in versions):
            raise KeysUnavailableError(f"the KMS described the key {key} in an unknown way")
        return answer.data

    def _batch(self, verb: str, key: str, items: Sequence[Mapping[str, str]]) -> list[Mapping[str, Any]]:
        results: list[Mapping[str, Any]] = []
        while len(results) < len(items):
            chunk = items[len(results) : len(results) + self._batch_items]
            answer = self._request(partial(self._send, verb, key, chunk))
            if answer.too_many_items and len(chunk) > 1:
                # it stays so: the limit is the server's configuration, not the state of the moment
                self._batch_items = min(self._batch_items, len(chunk) // 2)
                continue
            answered = batch_results(answer, len(chunk))
            if answered is None:
                raise answer.failure()
            results += answered
        return results

    def _send(
        self, verb: str, key: str, chunk: Sequence[Mapping[str, str]], client: hvac.Client
    ) -> requests.Response:
        # the argument is for a single item; hvac demands it of one of the three verbs
        single = {"ciphertext": ""} if verb == "rewrap_data" else {}
        call: Callable[..., requests.Response] = getattr(_transit(client), verb)
        return call(key, batch_input=list(chunk), mount_point=self._mount, **single)

    def _read_key(self, key: str, client: hvac.Client) -> requests.Response:
        response: requests.Response = _transit(client).read_key(key, self._mount)
        return response

    def _expect(self, call: _Call, attempts: int = 0) -> Answer:
        answer = self._request(call, attempts)
        if not answer.ok:
            raise answer.failure()
        return answer

    def _request(self, call: _Call, attempts: int = 0) -> Answer:
        attempts = attempts or self._settings.attempts
        until = self._clock.monotonic() + self._settings.timeout_seconds
        for attempt in range(1, attempts + 1):
            outcome = self._attempt(call)
            if isinstance(outcome, Answer) and not outcome.retriable:
                return outcome
            if attempt == attempts or self._clock.monotonic() >= until:
                break
            self._sleep(self._pause(attempt))
        if isinstance(outcome, Answer):
            raise outcome.failure()
        raise KeysUnavailableError(f"the KMS does not answer ({outcome})")

    def _attempt(self, call: _Call) -> Answer | str:
        """The answer, or the kind of failure in one word."""
        try:
            return read_answer(call(self._client()))
        except Exception as error:
            # whatever it is, it ends here: it may hold plaintexts or the token
            return type(error).__name__

    def _pause(self, attempt: int) -> float:
        share = (self._randomness.token(1)[0] + 1) / 256
        return share * _FIRST_PAUSE_SECONDS * float(2**attempt)

    def _client(self) -> hvac.Client:
        client: hvac.Client | None = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = _new_client(self._settings, self._login.token())
        return client


def _transit(client: hvac.Client) -> Any:
    return client.secrets.transit


def _new_client(settings: TransitSettings, token: str) -> hvac.Client:
    session = requests.Session()
    # neither an environment's proxy nor its .netrc concerns a KMS on this machine
    session.trust_env = not settings.loopback
    session.verify = str(settings.ca_certificate) if settings.ca_certificate else True
    if settings.client_certificate and settings.client_key:
        session.cert = (str(settings.client_certificate), str(settings.client_key))
    return hvac.Client(
        url=settings.address,
        token=token,
        # not None, for which hvac reads the environment behind the settings' back
        cert=session.cert or (),
        verify=session.verify,
        timeout=settings.timeout_seconds,
        session=session,
        namespace=settings.namespace or None,
        # requests would send the token header on to wherever a redirect points
        allow_redirects=False,
        adapter=RawAdapter,
        ignore_exceptions=True,
    )


def _wrapped(items: Sequence[UnwrapItem]) -> list[dict[str, str]]:
    # bytes that are no ASCII were never a wrapped key: the KMS says so of that one item
    return [
        {"ciphertext": item.wrapped.decode("ascii", "replace"), "context": _base64(item.context)}
        for item in items
    ]


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
