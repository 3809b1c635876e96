"""Reading the KMS's answers. Nothing of an answer's text goes into an error: it may hold plaintext keys."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import requests

from vault.domain.errors import DatavaultError, IntegrityError, KeysUnavailableError

_TOO_MANY: Final = "exceeded maximum number of strings"
_NO_SUCH_KEY: Final = "encryption key not found"
_DOES_NOT_OPEN: Final = ("cipher: message authentication failed", "invalid ciphertext", "missing ciphertext")
_TOO_OLD: Final = "disallowed by policy (too old)"
_MEANING: Final[Mapping[int, str]] = {
    400: "refused the request",
    403: "refused the token, or its policy does not allow this",
    404: "has no such key or mount: make it as docs/operations/guide.md shows",
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

    @property
    def retriable(self) -> bool:
        """Whether another attempt may succeed: rate limit, a replica behind, a server's failure."""
        return self.status in (412, 429) or self.status >= 500

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def too_many_items(self) -> bool:
        """Whether the batch was refused for its size."""
        return self.status == 413 or any(_TOO_MANY in error for error in self.errors)

    @property
    def missing(self) -> bool:
        """Whether the key is not there."""
        return self.status == 404 or _NO_SUCH_KEY in self.errors

    def failure(self) -> KeysUnavailableError:
        """What to raise instead of going on with this answer."""
        meaning = _MEANING[404] if self.missing else _MEANING.get(self.status, "answered unexpectedly")
        return KeysUnavailableError(f"the KMS {meaning} (status {self.status})")


def read_answer(response: requests.Response) -> Answer:
    """Parse one response.

    Raises:
        ValueError, TypeError, AttributeError: not the JSON object that the KMS sends. The error may show
            the text.
    """
    document = response.json() if response.content else {}
    data, errors = document.get("data") or {}, document.get("errors") or ()
    if not isinstance(data, dict) or not isinstance(errors, list | tuple):
        raise TypeError("an answer of another shape")
    return Answer(response.status_code, data, tuple(str(error) for error in errors))


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
        return KeysUnavailableError("a wrapped key is of a version too old to be used")
    return KeysUnavailableError("the KMS refused one item of a batch")


def decode(text: object) -> bytes | None:
    """Strict base64, None for anything else."""
    try:
        raw = base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None
