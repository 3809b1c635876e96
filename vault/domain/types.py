"""Frozen value types shared by all rooms (architecture.md, "Words")."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

ADMINISTRATION: Final = "administration"
"""Reserved purpose of every act that is no read."""
NO_DATA: Final = "none"
"""Reserved data of acts that concern no attribute."""
ANY_BASIS: Final = "any"
OPERATION_BASIS: Final = "operation"
UNKNOWN_SUBJECT: Final = "unknown"
"""Stands for the subject's pseudonym in records where there is no subject."""
SUBJECT_RIGHTS: Final = "subject-rights"
"""The leaf purpose under which a customer's own rights are served, also while the subject is restricted."""
RESERVED_WORDS: Final = frozenset({ADMINISTRATION, NO_DATA, ANY_BASIS, OPERATION_BASIS, UNKNOWN_SUBJECT})

NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
"""Ids of callers, roles, purposes, attributes, key classes and rules: lower-case words joined by hyphens.
The proto and CLI use the same spelling; attributes too (`date-of-birth`)."""


class Form(StrEnum):
    """How an attribute is shown. `exists` < `pseudonymise`, `generalise`, `mask` < `clear`."""

    EXISTS = "exists"
    PSEUDONYMISE = "pseudonymise"
    GENERALISE = "generalise"
    MASK = "mask"
    CLEAR = "clear"

    @property
    def act(self) -> str:
        """The Casbin act that asks for this form, e.g. `read.mask`."""
        return f"read.{self.value}"

    def admits(self, other: "Form") -> bool:
        """Whether `other` is this form or below it (the g4 order)."""
        return self is other or self is Form.CLEAR or other is Form.EXISTS


class Reason(StrEnum):
    """Why one attribute was denied. Where several apply the first listed here is told (api.md)."""

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


REASON_ORDER: Final[Mapping[Reason, int]] = {reason: place for place, reason in enumerate(Reason)}


class Basis(StrEnum):
    """Legal bases that a rule can name and a subject can have (purposes.yaml, `bases`)."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal-obligation"
    LEGITIMATE_INTEREST = "legitimate-interest"
    OPT_OUT = "opt-out"
    LEGAL_CLAIM = "legal-claim"
    RIGHTS_OF_OTHERS = "rights-of-others"
    IMPORTANT_PUBLIC_INTEREST = "important-public-interest"
    ANY = ANY_BASIS
    OPERATION = OPERATION_BASIS


SURVIVES_RESTRICTION: Final = frozenset(
    {Basis.LEGAL_CLAIM, Basis.RIGHTS_OF_OTHERS, Basis.IMPORTANT_PUBLIC_INTEREST}
)
"""Bases that hold for a restricted subject (GDPR 18(2)), besides consent given after the restriction."""


class Act(StrEnum):
    """Acts that are no reads; each RPC asks exactly one act (policy.md, "Acts that are no reads")."""

    WRITE = "write"
    SEARCH = "search"
    EXPORT = "export"
    CONSENT_RECORD = "consent.record"
    CONSENT_WITHDRAW = "consent.withdraw"
    CONSENT_READ = "consent.read"
    SUBJECT_ERASE = "subject.erase"
    SUBJECT_RESTRICT = "subject.restrict"
    SUBJECT_OBJECT = "subject.object"
    SUBJECT_JURISDICTIONS = "subject.jurisdictions"
    SUBJECT_RETENTION = "subject.retention"
    SUBJECT_HISTORY = "subject.history"
    POLICY_READ = "policy.read"
    POLICY_EXPLAIN = "policy.explain"
    POLICY_TEST = "policy.test"
    AUDIT_READ = "audit.read"
    AUDIT_PROVE = "audit.prove"
    KEYS_READ = "keys.read"
    KEYS_ROTATE = "keys.rotate"
    KEYS_REWRAP = "keys.rewrap"


class Outcome(StrEnum):
    """Outcome of a recorded call."""

    AUTHORISED = "authorised"
    PARTIAL = "partial"
    DENIED = "denied"
    ERROR = "error"


class ValueType(StrEnum):
    """Declared type of an attribute; `values.py` gives the stored bytes of each."""

    STRING = "string"
    INT64 = "int64"
    DECIMAL = "decimal"
    DOUBLE = "double"
    BOOL = "bool"
    DATE = "date"
    TIMESTAMP = "timestamp"
    BYTES = "bytes"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller: its id in callers.yaml, its tenant, and the identity that proved it."""

    id: str
    tenant: str
    identity: str


# --- vocabulary: what the policy files declare ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FormSpec:
    """One form an attribute can take, with the parameters of its transformation (see policy/forms.py)."""

    form: Form
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One declared attribute. `forms` are strongest first; `retention_seconds` 0 means unlimited."""

    id: str
    type: ValueType
    type_version: int
    category: str
    key_class: str
    forms: tuple[FormSpec, ...]
    scale: int = 0
    pattern: str = ""
    allowed: tuple[str, ...] = ()
    minimum: str = ""
    maximum: str = ""
    max_bytes: int = 0
    searchable: bool = False
    retention_seconds: int = 0

    def spec(self, form: Form) -> FormSpec | None:
        return next((spec for spec in self.forms if spec.form is form), None)


@dataclass(frozen=True, slots=True)
class Purpose:
    """One node of the purpose tree.

    `ancestors` are nearest first and exclude the purpose itself. `bases` maps a jurisdiction (`*` for any
    not named) to the bases declared there; consent needs no declaration. `consent_lifetime_seconds` 0 means
    consent needs no expiry. `descriptions` maps a language to plain text.
    """

    id: str
    dpv: str
    parent: str
    ancestors: tuple[str, ...]
    leaf: bool
    descriptions: Mapping[str, str]
    bases: Mapping[str, frozenset[Basis]]
    consent_lifetime_seconds: int = 0
    objection_overridden: str = ""
    direct_marketing: bool = False
    notice: str = ""
    notice_minimum_version: int = 0

    def declared(self, jurisdiction: str) -> frozenset[Basis]:
        """Bases declared for one jurisdiction."""
        return self.bases.get(jurisdiction, self.bases.get("*", frozenset()))


@dataclass(frozen=True, slots=True)
class Notice:
    """One version of a privacy notice. `covers` maps a leaf purpose to the categories a grant can cover;
    `sha256` maps a language to the digest (hex) of the text shown."""

    id: str
    version: int
    covers: Mapping[str, frozenset[str]]
    sha256: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KeyClass:
    """Attributes of one sensitivity and one retention ground (keys.md)."""

    id: str
    ground: str = ""
    purposes: tuple[str, ...] = ()
    period_seconds: int = 0
    counted_from: str = ""


# --- what the store holds ---------------------------------------------------------------------------------
# Rows of every read are named tuples: a frozen dataclass takes three times as long to make.


class Lane(StrEnum):
    """The three independent lanes of consent_state (consent.md)."""

    CONSENT = "consent"
    OBJECTION = "objection"
    OPT_OUT = "opt-out"


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

    @property
    def lane(self) -> Lane:
        if self in (ConsentState.OBJECTED, ConsentState.OBJECTION_LIFTED):
            return Lane.OBJECTION
        if self in (ConsentState.OPTED_OUT, ConsentState.OPTED_IN):
            return Lane.OPT_OUT
        return Lane.CONSENT

    @property
    def grants(self) -> bool:
        return self in (ConsentState.GIVEN, ConsentState.RENEWED)


class ConsentEntry(NamedTuple):
    """One row of consent_state: what is in force for (subject, purpose, lane).

    `seq` orders events of a subject; `expires_at` is microseconds since 1970 UTC, 0 for never;
    `categories` is the scope of a grant at this leaf (empty for negative states).
    `notice` is the id of the notice that `notice_version` counts.
    """

    purpose: str
    lane: Lane
    seq: int
    event_id: str
    state: ConsentState
    notice_version: int = 0
    expires_at: int = 0
    categories: frozenset[str] = frozenset()
    notice: str = ""


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One row of the append-only ledger consent_event. Times are microseconds since 1970 UTC, 0 for none.

    `scope` of a grant maps each covered leaf to its categories; empty for negative events.
    """

    id: str
    seq: int
    purpose: str
    state: ConsentState
    notice: str
    notice_version: int
    language: str
    notice_sha256: str
    jurisdiction: str
    scope: Mapping[str, frozenset[str]]
    channel: str
    evidence: str
    valid_from: int
    expires_at: int
    recorded_by: str
    recorded_at: int


class Subject(NamedTuple):
    """The subject row. `restricted_seq` 0 means not restricted; otherwise the seq of the restriction.

    `legal_hold` is the reason for which nothing may be destroyed, '' where there is none.
    """

    id: bytes
    audit_pseudonym: str
    jurisdictions: tuple[str, ...]
    restricted_seq: int = 0
    last_seq: int = 0
    legal_hold: str = ""


class WrappedKey(NamedTuple):
    """A row of subject_key: a DEK as the KMS wrapped it, and the id that commits to it (32 bytes).

    `retained` says that an erasure left it because of a retention ground or a legal hold: what it opens is
    read for that alone, and nothing new is encrypted under it.
    """

    key_class: str
    dek_id: bytes
    wrapped: bytes
    retained: bool = False


class StoredValue(NamedTuple):
    """A row of attribute_value. `written_at` in microseconds since 1970 UTC."""

    attribute: str
    version: int
    type_version: int
    ciphertext: bytes
    written_at: int


class SubjectSnapshot(NamedTuple):
    """All that one read needs of one subject, seen at one moment."""

    subject: Subject
    keys: Mapping[bytes, WrappedKey]
    """By DEK id."""
    values: Mapping[str, StoredValue]
    """By attribute id."""
    consents: tuple[ConsentEntry, ...]


# --- decisions --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """The engine's answer for one attribute.

    Exactly one of `form` and `reason` is set. `rule` is the deciding rule: the allow that gave the form, or
    the deny that refused ('' when nothing matched). `rules` are all matching ones. `wanted` are the bases
    that would have let some form through, when only a basis was missing (`reason` is then BASIS_MISSING and
    the pipeline replaces it by the precise one).
    """

    form: Form | None
    reason: Reason | None
    rule: str = ""
    rules: tuple[str, ...] = ()
    wanted: frozenset[str] = frozenset()


# --- cryptography -----------------------------------------------------------------------------------------


class KeyScope(NamedTuple):
    """What a DEK belongs to; `context()` of crypto/envelope.py binds the wrapped key to it."""

    tenant: str
    subject: bytes
    key_class: str


class ValueScope(NamedTuple):
    """What a ciphertext belongs to: bound as associated data (keys.md, "Ciphertext")."""

    tenant: str
    subject: bytes
    attribute: str
    type_version: int
    version: int
