"""What the rooms need of each other. Rooms never import each other: `assembly.py` hands these over."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vault.domain.errors import DatavaultError
from vault.domain.types import ConsentEntry, ConsentEvent, Decision, Form, Subject

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Clock(Protocol):
    """Time, passed in so that tests and replay can set it."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""


class Randomness(Protocol):
    """The OS CSPRNG, passed in so that golden vectors can fix it."""

    def token(self, size: int) -> bytes:
        """`size` random bytes."""


class Transactions(Protocol):
    """The database, in blocks of the calling thread (store/database.py)."""

    def read(self) -> "AbstractContextManager[Connection]":
        """One snapshot: every statement inside sees the same moment. Nothing can be written.

        Raises:
            StoreUnavailableError: locked, missing, gone.
        """

    def read_once(self) -> "AbstractContextManager[Connection]":
        """For one statement, which is a snapshot by itself: as `read`, in one round trip."""

    def write_once(self) -> "AbstractContextManager[Connection]":
        """For one statement, durable once it returns: as `write`, in one round trip."""

    def write(self) -> "AbstractContextManager[Connection]":
        """One transaction, committed durably at the end of the block, rolled back by an exception.

        Raises:
            StoreUnavailableError: locked, full, read-only, gone. Nothing was changed, except after an
                uncertain COMMIT (`UncertainCommitError`). ConflictError: another change was first.
        """


# --- keys -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class WrapItem:
    """A plaintext key to wrap and the context that binds it. Shows nothing in repr."""

    plaintext: bytes
    context: bytes


@dataclass(frozen=True, slots=True)
class UnwrapItem:
    """A wrapped key as stored (ASCII, e.g. `vault:v1:...`) and the context it was wrapped under."""

    wrapped: bytes
    context: bytes


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One version of a signing key: 32 raw Ed25519 bytes."""

    version: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """State of one key of the provider."""

    name: str
    latest_version: int
    min_decryption_version: int
    kind: str


@dataclass(frozen=True, slots=True)
class KeyHealth:
    """Whether the provider answers, and one sentence for operators (no secrets).

    `token_seconds_left` is the rest of the token's lifetime before it has to be renewed; None where it never
    ends or is not known.
    """

    healthy: bool
    detail: str
    token_seconds_left: int | None = None


class KeyProvider(Protocol):
    """Wraps, unwraps and signs with keys that never leave it (keys.md, "Provider").

    Key names are those of keys.md (`datavault-<class>`, `datavault-lookup`, `datavault-log` ...).
    A batch has one result per item, in order: the bytes, or the error of that item alone.
    All methods raise KeysUnavailableError when the provider as a whole does not answer, or refuses.
    """

    @property
    def name(self) -> str:
        """`local` or `transit`."""

    def wrap(self, key: str, items: Sequence[WrapItem]) -> list[bytes]:
        """Wrap all items or raise."""

    def unwrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        """Per item the plaintext, or IntegrityError (does not open), KeyTooOldError (its version is retired)
        or KeysUnavailableError. KeyForbiddenError is raised when the replica may not use the key."""

    def rewrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        """Per item the same plaintext under the newest version of the key, without showing it."""

    def rotate(self, key: str) -> int:
        """Make a new version and return its number."""

    def retire(self, key: str, before: int) -> None:
        """Raise the oldest version that opens to `before`; versions below it open no more. Never lowers it.

        Raises:
            InvalidArgumentError: there is no such version.
        """

    def wrapped_version(self, wrapped: bytes) -> int:
        """The version of the key that wrapped it, read from its text without asking the provider.

        Raises:
            IntegrityError: not what this provider wraps.
        """

    def sign(self, key: str, message: bytes, version: int = 0) -> bytes:
        """64-byte Ed25519 signature over the raw message, by one version (0: the newest)."""

    def public_key(self, key: str, version: int = 0) -> PublicKey:
        """Public key of one version (0: the newest).

        Raises:
            KeysUnavailableError: there is no such version.
        """

    def info(self, key: str) -> KeyInfo:
        """State of one key. KeyForbiddenError when the replica may not look at it."""

    def close(self) -> None:
        """Release what it holds: connections, the thread that renews the token, the token itself."""

    def health(self) -> KeyHealth:
        """Never raises."""


class Signer(Protocol):
    """Signs with one fixed key."""

    def sign(self, message: bytes) -> bytes:
        """64-byte Ed25519 signature (RFC 8032, pure) over the raw message."""

    def public_key(self) -> bytes:
        """32 raw bytes."""


@dataclass(frozen=True, slots=True)
class TenantKeyRow:
    """One version of a tenant's key as the provider wrapped it.

    `retired_at` is 0 while the version is in force, else when it ceased to be: microseconds since 1970 UTC.
    """

    version: int
    wrapped: bytes
    retired_at: int = 0


class LogSigners(Protocol):
    """The log key, version by version; all the audit room knows of keys."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the key providers at hand. Keys of the first sign new logs; a second one is there only
        while keys move from one to the other."""

    def newest(self) -> PublicKey:
        """The newest version of the log key at the first provider."""

    def versions(self) -> list[PublicKey]:
        """Every version of it that can still sign, oldest first."""

    def signer(self, provider: str, version: int) -> Signer:
        """Signs with one version.

        Raises:
            KeysUnavailableError: that provider is not at hand.
        """


class TenantKeyRepository(Protocol):
    """The wrapped keys of each tenant (lookup keys, pseudonym roots), as the crypto room needs them.

    `use` is `lookup` or `pseudonym`. Both methods open a transaction of their own and raise
    StoreUnavailableError.
    """

    def load(self, tenant: str, use: str) -> list[TenantKeyRow]:
        """Every version that is kept, retired ones too, newest last; empty when there is none."""

    def insert_first(self, tenant: str, use: str, version: int, wrapped: bytes) -> list[TenantKeyRow]:
        """Insert unless (tenant, use, version) is there, commit, and return what is there, newest last."""


# --- decisions --------------------------------------------------------------------------------------------


class DecisionEngine(Protocol):
    """Both engines answer these, with equal answers (policy.md, "Engine")."""

    def permits(self, caller: str, purpose: str, data: str, act: str, bases: frozenset[str]) -> bool:
        """The Casbin question as it stands in model.conf."""

    def decide(
        self, caller: str, purpose: str, attribute: str, bases: frozenset[str], max_form: Form | None
    ) -> Decision:
        """The strongest form of `attribute`, at or below `max_form`, that the rules permit."""

    def act(self, caller: str, act: str, data: str = "none") -> Decision:
        """An act that is no read, asked with purpose `administration` and bases {any, operation}.

        `form` stays None; `reason` is None when allowed, else NOT_PERMITTED.
        """

    def entitled(self, caller: str, purpose: str) -> bool:
        """Whether some allow row matches (caller, purpose) at all."""


# --- consent ----------------------------------------------------------------------------------------------


class ConsentRepository(Protocol):
    """The ledger and its state table, as the consent room needs them (store/ implements it)."""

    def lock_subject(self, connection: "Connection", tenant: str, subject: bytes) -> Subject | None:
        """Lock the subject's row for this transaction and return it."""

    def append_event(
        self,
        connection: "Connection",
        tenant: str,
        subject: bytes,
        event: ConsentEvent,
        rows: Sequence[ConsentEntry],
    ) -> None:
        """Insert the event, raise the subject's last_seq to `event.seq`, replace the state `rows` whole."""

    def state(self, connection: "Connection", tenant: str, subject: bytes) -> tuple[ConsentEntry, ...]:
        """All rows of consent_state of the subject."""

    def events(
        self, connection: "Connection", tenant: str, subject: bytes, after_seq: int, limit: int
    ) -> list[ConsentEvent]:
        """Events with seq > after_seq, in order of seq."""


# --- identity ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallerEntry:
    """One caller of callers.yaml."""

    id: str
    tenant: str
    roles: tuple[str, ...] = ()
    description: str = ""
    spiffe: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    jwt: tuple[tuple[str, str], ...] = ()
    """(issuer, subject) pairs."""
    subjects_per_hour: Mapping[str, int] | None = None
    """Quota per purpose (`*` for any other)."""


class CallerDirectory(Protocol):
    """Maps proven identities to callers (callers.yaml of the live bundle)."""

    def by_spiffe(self, uri: str) -> CallerEntry | None: ...

    def by_dns(self, name: str) -> CallerEntry | None: ...

    def by_jwt(self, issuer: str, subject: str) -> CallerEntry | None: ...
