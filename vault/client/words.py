"""The words callers see, spelt as in the documentation; the numbers of the proto enums behind them.

A server may be newer than this client: a word it does not know is UNRECOGNISED, never a guess.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from vault.v1 import consent_service_pb2, key_service_pb2, values_pb2


class Form(StrEnum):
    """How an attribute is shown: `exists` < `pseudonymise`, `generalise`, `mask` < `clear`."""

    EXISTS = "exists"
    PSEUDONYMISE = "pseudonymise"
    GENERALISE = "generalise"
    MASK = "mask"
    CLEAR = "clear"


class DenialReason(StrEnum):
    """Why one attribute was denied. Where several apply the server tells the first in this order."""

    NOT_PERMITTED = "not-permitted"
    NOT_AVAILABLE = "not-available"
    CONSENT_MISSING = "consent-missing"
    CONSENT_WITHDRAWN = "consent-withdrawn"
    CONSENT_EXPIRED = "consent-expired"
    CONSENT_REFUSED = "consent-refused"
    NOTICE_OUTDATED = "notice-outdated"
    OUT_OF_SCOPE = "out-of-scope"
    OBJECTED = "objected"
    OPTED_OUT = "opted-out"
    BASIS_MISSING = "basis-missing"
    KEY_UNAVAILABLE = "key-unavailable"
    INTEGRITY = "integrity"
    NOT_SET = "not-set"
    UNRECOGNISED = "unrecognised"


class ConsentState(StrEnum):
    """States of a consent event, as in W3C DPV."""

    GIVEN = "given"
    RENEWED = "renewed"
    REQUESTED = "requested"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"
    OBJECTED = "objected"
    OBJECTION_LIFTED = "objection-lifted"
    OPTED_OUT = "opted-out"
    OPTED_IN = "opted-in"
    UNRECOGNISED = "unrecognised"


class Phase(StrEnum):
    """What a rewrap, or a rotation of the lookup key, is doing."""

    REWRAPPING = "rewrapping"
    WAITING = "waiting"
    CHECKING = "checking"
    DONE = "done"
    UNRECOGNISED = "unrecognised"


class ErrorReason(StrEnum):
    """Why a whole call failed. Those after INTERNAL are the client's own."""

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
    CONFIGURATION = "CONFIGURATION"
    """The connection settings are missing, unreadable or contradictory; nothing was sent."""
    CLOSED = "CLOSED"
    """The client was closed before the call; nothing was sent."""
    UNREACHABLE = "UNREACHABLE"
    """No server answered, or the connection was lost."""
    TLS_FAILED = "TLS_FAILED"
    """One side did not accept the certificate of the other."""
    UNREADABLE_ANSWER = "UNREADABLE_ANSWER"
    """The server answered something that this client cannot read."""
    NOT_DISCLOSED = "NOT_DISCLOSED"
    """A denied attribute, or one that was not asked for, was taken from a disclosure."""
    UNRECOGNISED = "UNRECOGNISED"
    """No reason was given, or one that this client does not know."""


CLIENT_REASONS: Final = frozenset(
    {
        ErrorReason.CONFIGURATION,
        ErrorReason.CLOSED,
        ErrorReason.UNREACHABLE,
        ErrorReason.TLS_FAILED,
        ErrorReason.UNREADABLE_ANSWER,
        ErrorReason.NOT_DISCLOSED,
        ErrorReason.UNRECOGNISED,
    }
)

W = TypeVar("W", bound=StrEnum)


class Spelling(Generic[W]):
    """Translates one enum of words to and from the numbers of its proto enum."""

    def __init__(self, words: type[W], proto: Any, prefix: str, *, local: frozenset[W]) -> None:
        self._words = words
        self._numbers: Mapping[W, int] = MappingProxyType(
            {
                word: proto.Value(prefix + word.value.upper().replace("-", "_"))
                for word in words
                if word not in local
            }
        )
        self._by_number = {number: word for word, number in self._numbers.items()}

    def word(self, number: int) -> W | None:
        """The word for a number of the proto enum; None where this client knows none."""
        return self._by_number.get(number)

    def number(self, word: W | str) -> int | None:
        """The number for a word or its spelling; None where there is none to send."""
        try:
            return self._numbers.get(self._words(word))
        except ValueError:
            return None

    def choices(self) -> str:
        """The words that can be sent, for messages."""
        return ", ".join(word.value for word in self._numbers)


FORMS: Final = Spelling(Form, values_pb2.Form, "FORM_", local=frozenset())
DENIALS: Final = Spelling(
    DenialReason,
    values_pb2.DenialReason,
    "DENIAL_REASON_",
    local=frozenset({DenialReason.UNRECOGNISED}),
)
STATES: Final = Spelling(
    ConsentState,
    consent_service_pb2.ConsentState,
    "CONSENT_STATE_",
    local=frozenset({ConsentState.UNRECOGNISED}),
)
PHASES: Final = Spelling(
    Phase, key_service_pb2.RewrapPhase, "REWRAP_PHASE_", local=frozenset({Phase.UNRECOGNISED})
)
ERRORS: Final = Spelling(ErrorReason, values_pb2.ErrorReason, "ERROR_REASON_", local=CLIENT_REASONS)
