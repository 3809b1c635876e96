"""The key provider of production: Transit of HashiCorp Vault and OpenBao, through hvac.

hvac puts the decrypted plaintexts of a partly failed batch into the exception's text, so it is told not to
raise on a status; what is raised all the same ends in the transport (transit_transport.py).
"""

import base64
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import hvac
import requests

from vault.crypto.names import SIGNING_KIND, WRAPPING_KIND, all_keys
from vault.crypto.transit_answers import Answer, decode, version_of
from vault.crypto.transit_batches import DECRYPT, ENCRYPT, REWRAP, TransitBatches
from vault.crypto.transit_session import TransitSession
from vault.crypto.transit_settings import TransitSettings
from vault.crypto.transit_transport import Call, TransitTransport, Use
from vault.domain.errors import (
    ConfigurationError,
    DatavaultError,
    InvalidArgumentError,
    KeyForbiddenError,
    KeysUnavailableError,
)
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


class TransitKeyProvider:
    """Implements `vault.domain.protocols.KeyProvider`. Thread-safe: each thread has a client of its own.

    Every call ends within a bounded time, whatever the KMS does (transit_transport.py, transit_batches.py).
    All it asks for can be asked twice, except `rotate`.

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
        self._session = TransitSession(settings, clock)
        self._transport = TransitTransport(
            settings, self._session, clock, randomness or SystemRandomness(), sleep
        )
        self._batches = TransitBatches(self._transport, settings, clock)

    def ensure_keys(self, classes: Iterable[str]) -> None:
        """Make every key of the product and of these key classes that is not there yet.

        Needs a token that may create keys; the service's own must not. A key that the token may not look at
        is left alone: it is another replica's.

        Raises:
            ConfigurationError: a class cannot be one, a key of that name is of another kind, or the token may
                not make one that is missing.
            KeysUnavailableError: the KMS does not answer, or refuses.
        """
        for name, kind in all_keys(classes).items():
            derived = kind == WRAPPING_KIND
            answer = self._transport.request(partial(self._read_key, name))
            if answer.missing:
                try:
                    self._create(name, kind, derived)
                except KeyForbiddenError:
                    raise ConfigurationError(
                        f"the KMS has no key {name}, and the token may not make it: "
                        "run `datavault keys init --apply` with one that may"
                    ) from None
            elif answer.forbidden:
                continue
            elif not answer.ok:
                raise answer.failure()
            elif (answer.data.get("type"), answer.data.get("derived", False)) != (kind, derived):
                raise ConfigurationError(
                    f"the KMS has a key {name}, but not of kind {kind}, derived={derived}"
                )

    def wrap(self, key: str, items: Sequence[WrapItem]) -> list[bytes]:
        """See KeyProvider."""
        wrapped: list[bytes] = []
        for text in self._batches.send(ENCRYPT, key, items):
            if isinstance(text, KeysUnavailableError):
                raise text
            if isinstance(text, DatavaultError):
                raise KeysUnavailableError(f"the KMS did not wrap with the key {key}")
            wrapped.append(text)
        return wrapped

    def unwrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        """See KeyProvider."""
        return self._batches.send(DECRYPT, key, items)

    def rewrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        """See KeyProvider."""
        return self._batches.send(REWRAP, key, items)

    def rotate(self, key: str) -> int:
        """See KeyProvider."""
        # also the way to find out, before anything is changed, that there is such a key
        self.info(key)
        self._expect(
            Use("update", f"keys/{key}/rotate"),
            lambda client: _transit(client).rotate_key(key, self._mount),
            once=True,
        )
        return self.info(key).latest_version

    def retire(self, key: str, before: int) -> None:
        """See KeyProvider. Which version encrypts and signs stays as the operator configured it."""
        info = self.info(key)
        if not 1 <= before <= info.latest_version:
            raise InvalidArgumentError.of("before", f"the key {key} has versions 1 to {info.latest_version}")
        if before > info.min_decryption_version:
            self._expect(
                Use("update", f"keys/{key}/config"),
                lambda client: _transit(client).update_key_configuration(
                    key, min_decryption_version=before, mount_point=self._mount
                ),
            )

    def wrapped_version(self, wrapped: bytes) -> int:
        """See KeyProvider."""
        return version_of(wrapped)

    def sign(self, key: str, message: bytes, version: int = 0) -> bytes:
        """See KeyProvider."""
        answer = self._expect(
            Use("update", f"sign/{key}"),
            lambda client: _transit(client).sign_data(
                key, hash_input=_base64(message), key_version=version or None, mount_point=self._mount
            ),
        )
        head, _, text = str(answer.data.get("signature", "")).rpartition(":")
        signature = decode(text)
        if signature is None or len(signature) != 64 or (version and head != f"vault:v{version}"):
            raise KeysUnavailableError(f"the KMS answered with no Ed25519 signature (key {key})")
        return signature

    def public_key(self, key: str, version: int = 0) -> PublicKey:
        """See KeyProvider."""
        data = self._read(key)
        version = version or data["latest_version"]
        entry = data.get("keys", {}).get(str(version))
        raw = decode(entry.get("public_key")) if isinstance(entry, dict) else None
        if data.get("type") != SIGNING_KIND or raw is None or len(raw) != 32:
            raise KeysUnavailableError(f"the KMS has no Ed25519 key {key} of version {version}")
        return PublicKey(version, raw)

    def info(self, key: str) -> KeyInfo:
        """See KeyProvider."""
        data = self._read(key)
        return KeyInfo(key, data["latest_version"], data["min_decryption_version"], str(data.get("type")))

    def health(self) -> KeyHealth:
        """See KeyProvider. A token lookup: it fails too when the KMS is sealed, or refuses the token."""
        try:
            answer = self._transport.request(lambda client: client.auth.token.lookup_self())
        except DatavaultError as error:
            return KeyHealth(False, error.message)
        if not answer.ok:
            return KeyHealth(False, f"the KMS refused the token (status {answer.status})")
        return KeyHealth(True, "the KMS answers and accepts the token", self._session.token_seconds_left())

    def close(self) -> None:
        """See KeyProvider."""
        self._batches.close()
        self._session.close()

    @property
    def session(self) -> TransitSession:
        """The session with the KMS, for what is no daily use of keys (transit_setup.py)."""
        return self._session

    @property
    def _mount(self) -> str:
        return self._settings.mount

    def _create(self, name: str, kind: str, derived: bool) -> None:
        self._expect(
            Use("create", f"keys/{name}"),
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
        answer = self._expect(Use("read", f"keys/{key}"), partial(self._read_key, key))
        versions = (answer.data.get("latest_version"), answer.data.get("min_decryption_version"))
        if not all(isinstance(version, int) for version in versions):
            raise KeysUnavailableError(f"the KMS described the key {key} in an unknown way")
        return answer.data

    def _read_key(self, key: str, client: hvac.Client) -> requests.Response:
        response: requests.Response = _transit(client).read_key(key, self._mount)
        return response

    def _expect(self, use: Use, call: Call, *, once: bool = False) -> Answer:
        answer = self._transport.request(call, use, once=once)
        if not answer.ok:
            raise answer.failure()
        return answer


def _transit(client: hvac.Client) -> Any:
    return client.secrets.transit


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
