"""The exceptions of the client. Each carries a stable reason; none carries an attribute value or a token."""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from vault.client.words import ErrorReason


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field of a request: its path and what would be right."""

    field: str
    description: str


class DatavaultClientError(Exception):
    """Base of all that the client raises.

    `reason` is stable and meant for programs, `message` for developers. `violations` name bad fields.
    `retry_after_seconds` is when the server suggests to try again; None where it said nothing.
    """

    def __init__(
        self,
        reason: ErrorReason,
        message: str,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        violations: Sequence[Violation] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        # all arguments go to the base, so that the error survives pickling between processes
        super().__init__(reason, message, code, tuple(violations), retry_after_seconds)
        self.reason = reason
        self.message = message
        self.code = code
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class NotPermitted(DatavaultClientError):
    """No rule permits the caller this, or `require_all` was set and an attribute was denied."""


class InvalidArgument(DatavaultClientError):
    """A field is wrong; `violations` name it. Raised before anything is sent where the client can tell."""

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidArgument":
        """The refusal of one field."""
        return cls(
            ErrorReason.INVALID_ARGUMENT,
            f"{field}: {description}",
            grpc.StatusCode.INVALID_ARGUMENT,
            (Violation(field, description),),
        )


class Unauthenticated(DatavaultClientError):
    """No identity was proven, or it is mapped to no caller."""


class Unavailable(DatavaultClientError):
    """The server, or something it needs, cannot be had now. Nothing was disclosed; try again later."""


class AlreadyExists(DatavaultClientError):
    """The request id was used before with other content."""


class Aborted(DatavaultClientError):
    """An expected version is not the current one: read again and decide anew."""


class DeadlineExceeded(DatavaultClientError):
    """The time given did not suffice. A write may still have happened: repeat it with its request id."""


class ResourceExhausted(DatavaultClientError):
    """A quota or limit is reached, or a message is too large."""


class NotFound(DatavaultClientError):
    """What was named does not exist."""


class FailedPrecondition(DatavaultClientError):
    """The state of the customer or the server does not allow it, for example a restriction."""


class Internal(DatavaultClientError):
    """A fault of the server, or an answer that cannot be read."""

    @classmethod
    def unreadable(cls, what: str) -> "Internal":
        """An answer that this client cannot read."""
        return cls(
            ErrorReason.UNREADABLE_ANSWER,
            f"the server's answer cannot be read: {what}",
            grpc.StatusCode.INTERNAL,
        )


class ClientConfigurationError(DatavaultClientError):
    """The connection settings do not work; `problems` lists all of them, each naming its setting."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(ErrorReason.CONFIGURATION, "; ".join(problems), grpc.StatusCode.FAILED_PRECONDITION)
        self.problems = tuple(problems)
        self.args = (self.problems,)


class AttributeNotDisclosed(DatavaultClientError, KeyError):
    """`disclosure[name]` was asked for an attribute that was denied, or that was never asked for."""

    def __init__(self, name: str, denied_because: str = "") -> None:
        told = f"denied ({denied_because})" if denied_because else "not among the attributes asked for"
        super().__init__(ErrorReason.NOT_DISCLOSED, f"{name}: {told}", grpc.StatusCode.PERMISSION_DENIED)
        self.name = name
        self.args = (name, denied_because)


def closed() -> Unavailable:
    """The refusal of a call on a client that was closed."""
    return Unavailable(ErrorReason.CLOSED, "the client is closed", grpc.StatusCode.UNAVAILABLE)
