"""What the calls answer. All frozen; attribute values and customer numbers stay out of every repr."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vault.client.errors import AttributeNotDisclosed, DatavaultClientError, Internal
from vault.client.values import PyValue
from vault.client.words import ConsentState, DenialReason, Form


@dataclass(frozen=True, slots=True)
class DisclosedAttribute:
    """One attribute that was disclosed. `value` is None for the form `exists`."""

    name: str
    form: Form
    value: PyValue | None = field(repr=False)
    version: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class Denial:
    """Why an attribute was denied: the stable reason, and one sentence for developers."""

    reason: DenialReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Disclosure:
    """The answer to one read. Every attribute asked for is in `attributes` or in `denied`, in that order.

    `record_id` and `position` name the audit record, `bundle_hash` (hex) the policies that decided.
    """

    attributes: Mapping[str, DisclosedAttribute]
    denied: Mapping[str, Denial]
    record_id: str
    position: int
    bundle_hash: str

    def __getitem__(self, name: str) -> DisclosedAttribute:
        """The attribute. Raises AttributeNotDisclosed (a KeyError), which tells the reason of a denial."""
        found = self.attributes.get(name)
        if found is None:
            denial = self.denied.get(name)
            raise AttributeNotDisclosed(name, denial.reason.value if denial else "")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.attributes

    def value(self, name: str, default: PyValue | None = None) -> PyValue | None:
        """The value, or `default` where there is none: denied, not asked for, or of the form `exists`."""
        found = self.attributes.get(name)
        return default if found is None or found.value is None else found.value


@dataclass(frozen=True, slots=True)
class ReadResult:
    """One customer of `read_many`: a disclosure, or the error of this customer alone. `index` is 0-based."""

    index: int
    customer_number: str = field(repr=False)
    disclosure: Disclosure | None
    error: DatavaultClientError | None


@dataclass(frozen=True, slots=True)
class WriteItem:
    """One write of `write_many`; the fields are those of `write_attributes`.

    Without a `request_id` one is made. Give your own where the same file may be imported twice.
    """

    customer_number: str = field(repr=False)
    values: Mapping[str, PyValue] = field(repr=False)
    clear: tuple[str, ...] = ()
    expected_versions: Mapping[str, int] | None = None
    jurisdictions: tuple[str, ...] = ()
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """One write, done. `versions` maps each attribute written to its new version.

    `replayed`: this is the answer of an earlier call with the same request id; nothing was done twice.
    """

    versions: Mapping[str, int]
    subject_created: bool
    replayed: bool
    request_id: str
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class WriteResult:
    """One item of `write_many`: a receipt, or the error of this item alone. `index` is 0-based."""

    index: int
    customer_number: str = field(repr=False)
    request_id: str
    receipt: WriteReceipt | None
    error: DatavaultClientError | None


@dataclass(frozen=True, slots=True)
class PurposeConsent:
    """What is in force for one leaf purpose. `reason` is why consent does not hold; None where it does."""

    purpose: str
    consented: bool
    reason: DenialReason | None
    categories: tuple[str, ...]
    expires_at: datetime.datetime | None
    notice_version: int
    objected: bool
    opted_out: bool
    bases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventReceipt:
    """One event of the customer's ledger, recorded: a consent, withdrawal, objection or restriction.

    Every read that starts later sees it. `effective` is what is now in force, by leaf purpose; it is empty
    for restrictions.
    """

    event_id: str
    seq: int
    effective: Mapping[str, PurposeConsent]
    replayed: bool
    request_id: str
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class RetainedClass:
    """One reason why a key class stays after an erasure. `ground` is the retention ground, or the reason of
    the legal hold; `ends_at` None while its end is open; `purposes` are all it can be read for."""

    key_class: str
    ground: str
    legal_hold: bool
    ends_at: datetime.datetime | None
    purposes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """An erasure, done; or, with an empty `receipt_id`, what one would do.

    `receipt` is canonical JSON; `signature` (Ed25519) covers `datavault erasure receipt v1`, a line feed and
    the receipt, and `public_key` (32 bytes) verifies it. `whole`: nothing is left by which the vault knows
    the customer. `scrub_problem` is why the database file was not rewritten, where that was asked for.
    """

    receipt_id: str
    receipt: bytes
    signature: bytes
    public_key: bytes
    erased: tuple[str, ...]
    retained: tuple[RetainedClass, ...]
    whole: bool
    scrubbed: bool
    scrub_problem: str
    replayed: bool
    request_id: str
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What retention is counted from: None while the relationship goes on. `legal_hold` '' for no hold."""

    relationship_ended_on: datetime.date | None
    legal_hold: str
    replayed: bool
    request_id: str
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class ErasureEvidence:
    """The consents of an erased customer as they stood: canonical JSON, kept until then."""

    evidence: bytes = field(repr=False)
    kept_until: datetime.datetime | None
    record_id: str
    position: int

    @property
    def document(self) -> dict[str, Any]:
        """The evidence, parsed. Raises Internal where it is no JSON object."""
        return _json_object(self.evidence, "evidence that is no JSON object")


@dataclass(frozen=True, slots=True)
class ConsentOverview:
    """What is in force for one customer, by leaf purpose."""

    purposes: Mapping[str, PurposeConsent]
    jurisdictions: tuple[str, ...]
    restricted: bool
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One event of the ledger. `scope` maps each leaf purpose a grant covers to its categories."""

    event_id: str
    seq: int
    purpose: str
    state: ConsentState
    notice: str
    notice_version: int
    language: str
    notice_sha256: str
    jurisdiction: str
    scope: Mapping[str, tuple[str, ...]]
    channel: str
    evidence: str
    valid_from: datetime.datetime | None
    expires_at: datetime.datetime | None
    recorded_by: str
    recorded_at: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class MatchingRule:
    """A rule that matches the question. `line` is its line in policy.csv, from 1."""

    id: str
    line: int
    effect: str
    act: str
    basis: str
    basis_holds: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one attribute is decided as it is: `form` or `reason`, never both. `rule` is the deciding one."""

    attribute: str
    form: Form | None
    reason: DenialReason | None
    rule: str
    rules: tuple[MatchingRule, ...]
    wanted_bases: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class DecisionExplanation:
    """One explanation per attribute asked about, in that order."""

    explanations: tuple[Explanation, ...]
    bundle_hash: str
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """The live policies. `files` maps path to bytes; it is empty unless asked for."""

    bundle_hash: str
    loaded_at: datetime.datetime | None
    files: Mapping[str, bytes] = field(repr=False)
    engine: str
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of the audit log: its 0-based index, the exact bytes that are in the Merkle tree, and the
    name of the log that the index is in ('' from a server that does not say)."""

    position: int
    entry: bytes = field(repr=False)
    log: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """The record, parsed. Raises Internal where the entry is no JSON object."""
        return _json_object(self.entry, "an audit record that is no JSON object")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The newest signed note (C2SP tlog-checkpoint), the verifier key of the log (C2SP signed-note), and how
    many records the log has now, integrated or not."""

    checkpoint: str
    verifier_key: str
    size: int
    record_id: str
    position: int


def _json_object(encoded: bytes, otherwise: str) -> dict[str, Any]:
    try:
        document = json.loads(encoded)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Internal.unreadable(otherwise)
    return document
