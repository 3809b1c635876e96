"""Errors of the domain. Each carries a stable reason; `server/errors.py` alone maps them to gRPC.

Messages are shown to callers: they never hold an attribute value, key, token, SQL or path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypeVar

_Error = TypeVar("_Error", bound=Exception)


def unchained(error: _Error) -> _Error:
    """`error`, to be raised without the one under way, whose message may hold a value.

    Compiled code leaves out what `from` does (docs/adr/0027): modules that are compiled say
    `raise unchained(error) from None`.
    """
    error.__suppress_context__ = True
    return error


class ErrorReason(StrEnum):
    """Why a whole call failed; the names are those of the proto enum `ErrorReason`."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    NOT_PERMITTED = "NOT_PERMITTED"
    REQUIRE_ALL = "REQUIRE_ALL"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    PURPOSE_NOT_LEAF = "PURPOSE_NOT_LEAF"
    NOT_FOUND = "NOT_FOUND"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    VERSION_MISMATCH = "VERSION_MISMATCH"
    SUBJECT_RESTRICTED = "SUBJECT_RESTRICTED"
    ANSWER_TOO_LARGE = "ANSWER_TOO_LARGE"
    RECORD_TOO_LARGE = "RECORD_TOO_LARGE"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    OVERLOADED = "OVERLOADED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    KEYS_UNAVAILABLE = "KEYS_UNAVAILABLE"
    INTEGRITY = "INTEGRITY"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field of a request: its path as in the proto (`writes[2].value`) and what would be right."""

    field: str
    description: str


class DatavaultError(Exception):
    """Base of all errors the domain raises."""

    reason = ErrorReason.INTERNAL

    def __init__(
        self, message: str, *, violations: Sequence[Violation] = (), retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds

    def again(self) -> Self:
        """An equal error for another place to raise: an error has one traceback, and is raised once."""
        return type(self)(
            self.message, violations=self.violations, retry_after_seconds=self.retry_after_seconds
        )


class UnauthenticatedError(DatavaultError):
    """The identity is not proven, or proven and not mapped to a caller."""

    reason = ErrorReason.UNAUTHENTICATED


class NotPermittedError(DatavaultError):
    """No rule allows the caller this act."""

    reason = ErrorReason.NOT_PERMITTED


class RequireAllError(DatavaultError):
    """`require_all` was set and at least one attribute was denied: no value is released."""

    reason = ErrorReason.REQUIRE_ALL


class InvalidArgumentError(DatavaultError):
    """A field of the request is wrong; `violations` name it."""

    reason = ErrorReason.INVALID_ARGUMENT

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidArgumentError":
        return cls(f"{field}: {description}", violations=[Violation(field, description)])


class PurposeNotLeafError(InvalidArgumentError):
    """An entitled caller named an inner node of the purpose tree: only leaves can be requested."""

    reason = ErrorReason.PURPOSE_NOT_LEAF


class NotFoundError(DatavaultError):
    """What was named does not exist (told only to callers that may know)."""

    reason = ErrorReason.NOT_FOUND


class RequestIdReusedError(DatavaultError):
    """The request id was used before with other content."""

    reason = ErrorReason.REQUEST_ID_REUSED


class VersionMismatchError(DatavaultError):
    """An expected version is not the current one; the message gives the current version."""

    reason = ErrorReason.VERSION_MISMATCH


class AnswerTooLargeError(DatavaultError):
    """The answer would pass the message limit; nothing was released."""

    reason = ErrorReason.ANSWER_TOO_LARGE


class RecordTooLargeError(DatavaultError):
    """The audit record of the call would pass the entry limit; nothing was released."""

    reason = ErrorReason.RECORD_TOO_LARGE


class QuotaExceededError(DatavaultError):
    """The caller's quota for this purpose is used up."""

    reason = ErrorReason.QUOTA_EXCEEDED


class OverloadedError(DatavaultError):
    """The queue is full; retry after the given time."""

    reason = ErrorReason.OVERLOADED


class DeadlineExceededError(DatavaultError):
    """The caller's deadline passed, or what is left of it is hopelessly short."""

    reason = ErrorReason.DEADLINE_EXCEEDED


class AuditUnavailableError(DatavaultError):
    """The audit record could not be made durable, so nothing is released."""

    reason = ErrorReason.AUDIT_UNAVAILABLE


class StoreUnavailableError(DatavaultError):
    """The database did not answer, is locked, full, read-only or gone."""

    reason = ErrorReason.STORE_UNAVAILABLE


class KeysUnavailableError(DatavaultError):
    """The key provider did not answer or refused."""

    reason = ErrorReason.KEYS_UNAVAILABLE


class KeyTooOldError(KeysUnavailableError):
    """A wrapped key is of a version that the provider no longer opens: the row may have been rewrapped since
    it was read, so read it once more."""


class KeyForbiddenError(KeysUnavailableError):
    """The provider answers, and does not let this replica use this key: another replica may."""


class KeyMissingError(KeysUnavailableError):
    """The provider answers, and has no key of this name."""


class IntegrityError(DatavaultError):
    """A ciphertext, wrapped key or log entry is not what was stored: tampered with, moved or corrupted."""

    reason = ErrorReason.INTEGRITY


class OtherLookupKeyError(IntegrityError):
    """A customer number is sealed under a lookup key that is not in memory: a newer one, or none at all."""


class ShuttingDownError(DatavaultError):
    """The server is stopping and takes no new calls."""

    reason = ErrorReason.SHUTTING_DOWN


class ConfigurationError(DatavaultError):
    """The operator's configuration is wrong; the message says which setting and what would be right.

    Raised at start only, so unlike the others its message may name a path.
    """


class StartRefusedError(ConfigurationError):
    """The service must not start on this state; the message gives the command that resolves it."""


class ConflictError(StoreUnavailableError):
    """Another change was first: nothing was changed, and doing it anew may succeed."""


class UncertainCommitError(StoreUnavailableError):
    """The connection was lost at COMMIT: look the record ids up before trying again."""


class ValueFormatError(ValueError):
    """A value does not fit its declared type. The message says what would be right, never the value."""
