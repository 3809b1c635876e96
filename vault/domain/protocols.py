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
    """The database, as one connection per thread (store/database.py)."""

    def read(self) -> "AbstractContextManager[Connection]":
        """One snapshot: every statement inside sees the same moment. Nothing can be written.

        Raises:
            StoreUnavailableError: locked, missing, gone.
        """

    def write(self) -> "AbstractContextManager[Connection]":
        """One transaction, committed durably at the end of the block, rolled back by an exception.

        Raises:
            StoreUnavailableError: locked, full, read-only, gone. Nothing was changed, except after an
                uncertain COMMIT (`UncertainCommitError`).
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
    """Whether the provider answers, and one sentence for operators (no secrets)."""

    healthy: bool
    detail: str


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
        """Per item the plaintext, or IntegrityError (does not open) or KeysUnavailableError."""

    def rewrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        """Per item the same plaintext under the newest version of the key, without showing it."""

    def rotate(self, key: str) -> int:
        """Make a new version and return its number."""

    def sign(self, key: str, message: bytes) -> bytes:
        """64-byte Ed25519 signature over the raw message, by the newest version."""

    def public_key(self, key: str) -> PublicKey:
        """Newest public key."""

    def info(self, key: str) -> KeyInfo:
        """State of one key."""

    def health(self) -> KeyHealth:
        """Never raises."""


class Signer(Protocol):
    """Signs with one fixed key; all the audit room knows of keys."""

    def sign(self, message: bytes) -> bytes:
        """64-byte Ed25519 signature (RFC 8032, pure) over the raw message."""

    def public_key(self) -> bytes:
        """32 raw bytes."""


class TenantKeyRepository(Protocol):
    """The wrapped keys of each tenant (lookup keys, pseudonym roots), as the crypto room needs them.

    `use` is `lookup` or `pseudonym`. Both methods open a transaction of their own and raise
    StoreUnavailableError.
    """

    def load(self, tenant: str, use: str) -> list[tuple[int, bytes]]:
        """(version, wrapped) of each, newest last; empty when there is none."""

    def insert_first(self, tenant: str, use: str, version: int, wrapped: bytes) -> list[tuple[int, bytes]]:
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
