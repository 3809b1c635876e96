"""Reading the KMS's answers. Nothing of an answer's text goes into an error: it may hold plaintext keys."""

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import requests

from vault.domain.errors import (
    DatavaultError,
    IntegrityError,
    KeyForbiddenError,
    KeyMissingError,
    KeysUnavailableError,
    KeyTooOldError,
)
from vault.domain.limits import LIMITS

_TOO_MANY: Final = "exceeded maximum number of strings"
_NO_SUCH_KEY: Final = ("encryption key not found", "signing key not found", "no existing key named")
_NO_SUCH_VERSION: Final = ("no such key version", "requested version for")
_LONGEST_RETRY_SECONDS: Final = 60.0
_DOES_NOT_OPEN: Final = ("cipher: message authentication failed", "invalid ciphertext", "missing ciphertext")
_TOO_OLD: Final = "disallowed by policy (too old)"
_WRAPPED: Final = re.compile(rb"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/]+={0,2}")
_MEANING: Final[Mapping[int, str]] = {
    400: "refused the request",
    403: "refused the token, or its policy does not allow this",
    404: "has no such key or mount: run `datavault keys init`",
    412: "has not caught up with its replica",
    429: "limits the rate of requests",
    501: "is not initialised",
    503: "is sealed or down",
}


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """Status and content of one answer. Shows nothing in repr: `data` holds plaintext keys."""

    status: int
    data: Mapping[str, Any]
    errors: tuple[str, ...]
    strange: bool = False
    """Not of the KMS's form: a proxy's page, or cut short."""
    retry_after_seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether it is as good as none: of something else than the KMS, or of a KMS that cannot answer."""
        return self.strange or (self.status >= 500 and not self.unknown_version)

    @property
    def retriable(self) -> bool:
        """Whether another attempt may succeed: rate limit, a replica behind, a server's failure."""
        return self.failed or self.status in (412, 429)

    @property
    def unknown_version(self) -> bool:
        """Whether the key has no such version: said with the status of a server's failure."""
        return any(text in error for text in _NO_SUCH_VERSION for error in self.errors)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def forbidden(self) -> bool:
        """Whether the KMS refused the token, or its policy the request."""
        return self.status == 403 and not self.strange

    @property
    def too_many_items(self) -> bool:
        """Whether the batch was refused for its size."""
        return self.status == 413 or any(_TOO_MANY in error for error in self.errors)

    @property
    def missing(self) -> bool:
        """Whether the key is not there."""
        return not self.strange and (
            self.status == 404 or any(error.startswith(_NO_SUCH_KEY) for error in self.errors)
        )

    def failure(self, retry_after_seconds: float | None = LIMITS.retry_after_seconds) -> KeysUnavailableError:
        """What to raise instead of going on with this answer. Where the trouble may pass by itself, it
        carries `retry_after_seconds`."""
        if self.strange:
            return KeysUnavailableError(
                f"something else than the KMS answered (status {self.status})",
                retry_after_seconds=retry_after_seconds,
            )
        if self.unknown_version:
            return KeysUnavailableError("the KMS has no such version of the key")
        meaning = _MEANING[404] if self.missing else _MEANING.get(self.status, "answered unexpectedly")
        kind = (
            KeyMissingError if self.missing else KeyForbiddenError if self.forbidden else KeysUnavailableError
        )
        may_pass = self.retriable or self.status < 400
        return kind(
            f"the KMS {meaning} (status {self.status})",
            retry_after_seconds=retry_after_seconds if may_pass else None,
        )


def read_answer(response: requests.Response) -> Answer:
    """Parse one response, whatever it is."""
    wait = response.headers.get("Retry-After", "")
    pause = min(float(wait), _LONGEST_RETRY_SECONDS) if wait.isascii() and wait.isdigit() else 0.0
    try:
        document = orjson.loads(response.content) if response.content else {}
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        return Answer(response.status_code, {}, (), strange=True, retry_after_seconds=pause)
    data, errors = document.get("data") or {}, document.get("errors") or ()
    if not isinstance(data, dict) or not isinstance(errors, list | tuple):
        return Answer(response.status_code, {}, (), strange=True, retry_after_seconds=pause)
    said = tuple(str(error) for error in errors)
    return Answer(response.status_code, data, said, retry_after_seconds=pause)


def batch_results(answer: Answer, size: int) -> Sequence[Mapping[str, Any]] | None:
    """The results of a batch of `size`, or None when the batch as a whole was refused.

    A batch with one bad item is answered with status 400, and with the results of all.
    """
    results = answer.data.get("batch_results")
    if not isinstance(results, list) or len(results) != size or answer.status not in (200, 400):
        return None
    return results if all(isinstance(result, dict) for result in results) else None


def plaintext(result: Mapping[str, Any]) -> bytes | DatavaultError:
    """One result of a decryption."""
    text = result.get("plaintext")
    if result.get("error") or not isinstance(text, str):
        return item_error(result)
    raw = decode(text)
    return KeysUnavailableError("the KMS answered with a malformed item") if raw is None else raw


def ciphertext(result: Mapping[str, Any]) -> bytes | DatavaultError:
    """One result of an encryption or a rewrap."""
    text = result.get("ciphertext")
    if result.get("error") or not isinstance(text, str) or not text.isascii() or not text:
        return item_error(result)
    return text.encode("ascii")


def item_error(result: Mapping[str, Any]) -> DatavaultError:
    """The error of one item. What the KMS says is looked at, never passed on."""
    said = str(result.get("error", ""))
    if said.startswith(_DOES_NOT_OPEN):
        return IntegrityError("a wrapped key was changed, or belongs to another place")
    if _TOO_OLD in said:
        return KeyTooOldError("a wrapped key is of a version too old to be used")
    return KeysUnavailableError("the KMS refused one item of a batch")


def version_of(wrapped: bytes) -> int:
    """The key's version in `vault:v<N>:<base64>`.

    Raises:
        IntegrityError: another text.
    """
    match = _WRAPPED.fullmatch(wrapped)
    if match is None:
        raise IntegrityError("a wrapped key is malformed")
    return int(match[1])


def decode(text: object) -> bytes | None:
    """Strict base64, None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        encoded = text.encode("ascii")
        raw = a2b_base64(encoded, strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are such
        return None
    # spare bits are ignored by the decoder
    return raw if b2a_base64(raw, newline=False) == encoded else None
