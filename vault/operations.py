"""Policy and audit services: look, record that somebody looked, then answer.

Each operation is authorised first, and its own record is durable before its answer is released.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import structlog

from vault.audit.checkpoint import vkey
from vault.audit.head import newest_checkpoint
from vault.audit.log_keys import signer_of
from vault.audit.query import AuditQuery, Page, query
from vault.crypto.lookup_keys import LookupKeys
from vault.crypto.tenant_keys import TenantKeys
from vault.customers import find_customer, with_lookup
from vault.domain.checks import FieldChecks
from vault.domain.errors import InvalidArgumentError, NotFoundError, NotPermittedError
from vault.domain.limits import LIMITS
from vault.domain.protocols import LogSigners, Transactions
from vault.domain.types import RESERVED_WORDS, UNKNOWN_SUBJECT, Act, Basis, Caller, Form, Outcome, Subject
from vault.permission import authorise
from vault.policy.explain import Explanation, explain
from vault.policy.live import LivePolicy, Loaded
from vault.recording import RecordedAt, Recorder
from vault.store.subjects import SubjectRepository

log = structlog.get_logger("datavault.operations")

T = TypeVar("T")
_BASES: Final = frozenset(basis.value for basis in Basis) - RESERVED_WORDS


@dataclass(frozen=True, slots=True)
class LogHead:
    """The newest checkpoint (C2SP signed note, '' before the first), the log's size, and the verifier key
    that fits the checkpoint: a new log key is told once a checkpoint carries its signature."""

    checkpoint: str
    size: int
    verifier_key: str


class OperationsPipeline:
    """Holds what the operations need."""

    def __init__(
        self,
        transactions: Transactions,
        subjects: SubjectRepository,
        tenant_keys: TenantKeys,
        policy: LivePolicy,
        recorder: Recorder,
        signers: LogSigners,
    ) -> None:
        self._transactions = transactions
        self._subjects = subjects
        self._tenant_keys = tenant_keys
        self._policy = policy
        self._recorder = recorder
        self._signers = signers

    def explain(
        self,
        caller: Caller,
        about: str,
        purpose: str,
        attributes: Sequence[str],
        bases: Sequence[str],
        max_form: Form | None,
    ) -> tuple[list[Explanation], str, RecordedAt]:
        """What the live policy decides for the caller `about`, and why; with the bundle hash.

        Raises:
            NotPermittedError, InvalidArgumentError, AuditUnavailableError.
        """

        def work(loaded: Loaded) -> tuple[list[Explanation], str]:
            checks = FieldChecks()
            checks.require(about in loaded.bundle.callers, "caller", "is not in callers.yaml")
            known = loaded.bundle.purposes.get(purpose)
            checks.require(known is not None and known.leaf, "purpose", "is not a leaf of purposes.yaml")
            checks.names(attributes, "attributes", LIMITS.attributes_per_read)
            for index, name in enumerate(attributes):
                checks.require(
                    name in loaded.bundle.attributes, f"attributes[{index}]", "is not in attributes.yaml"
                )
            checks.require(len(bases) <= len(_BASES), "bases", f"must hold at most {len(_BASES)}")
            for index, basis in enumerate(bases[: len(_BASES)]):
                checks.require(
                    basis in _BASES, f"bases[{index}]", "is not a basis: " + ", ".join(sorted(_BASES))
                )
            checks.raise_if_any()
            held = frozenset(bases)
            explanations = [
                explain(loaded.bundle, loaded.engine, about, purpose, name, held, max_form)
                for name in attributes
            ]
            return explanations, loaded.bundle.hash

        (explanations, bundle_hash), recorded = self._perform(caller, Act.POLICY_EXPLAIN, work)
        return explanations, bundle_hash, recorded

    def bundle(self, caller: Caller) -> tuple[Loaded, RecordedAt]:
        """The live bundle.

        Raises:
            NotPermittedError, AuditUnavailableError.
        """
        return self._perform(caller, Act.POLICY_READ, lambda loaded: loaded)

    def query(self, caller: Caller, wanted: AuditQuery, customer_number: str) -> tuple[Page, RecordedAt]:
        """Records of the caller's tenant that match; by customer through the audit pseudonym.

        Raises:
            NotPermittedError, InvalidArgumentError, AuditUnavailableError, StoreUnavailableError.
        """
        found = UNKNOWN_SUBJECT

        def work(_: Loaded) -> Page:
            nonlocal found
            asked = replace(wanted, tenant=caller.tenant)
            checks = FieldChecks()
            # a misspelt outcome would find nothing, and look like a log without such records
            checks.require(asked.outcome in ("", *Outcome), "outcome", "is not one of " + ", ".join(Outcome))
            if customer_number:
                checks.customer_number(customer_number)
            checks.raise_if_any()
            if customer_number:
                pseudonym = self._pseudonym(caller.tenant, customer_number)
                if pseudonym is None:
                    return Page((), "")
                found = pseudonym
                asked = replace(asked, subject=pseudonym)
            with self._transactions.read() as connection:
                return query(connection, self._recorder.logs.history(caller.tenant), asked)

        return self._perform(caller, Act.AUDIT_READ, work, subject=lambda: found)

    def log_head(self, caller: Caller) -> tuple[LogHead, RecordedAt]:
        """The newest checkpoint of the log that the caller's tenant is in.

        Raises:
            NotPermittedError, AuditUnavailableError, StoreUnavailableError, KeysUnavailableError,
            IntegrityError.
        """

        def work(_: Loaded) -> LogHead:
            place = self._recorder.logs.of(caller.tenant)
            with self._transactions.read() as connection:
                head = newest_checkpoint(connection, place.log)
            # the provider's word, not the database's: auditors pin it
            public_key = signer_of(head.key, self._signers).public_key()
            return LogHead(head.note, head.size, vkey(place.origin, public_key))

        return self._perform(caller, Act.AUDIT_READ, work)

    def _pseudonym(self, tenant: str, customer_number: str) -> str | None:
        def look(lookup: LookupKeys) -> Subject | None:
            with self._transactions.read() as connection:
                return find_customer(connection, self._subjects, lookup, customer_number)

        subject = with_lookup(self._tenant_keys, tenant, look)
        return subject.audit_pseudonym if subject else None

    def _perform(
        self,
        caller: Caller,
        act: Act,
        work: Callable[[Loaded], T],
        subject: Callable[[], str] = lambda: UNKNOWN_SUBJECT,
    ) -> tuple[T, RecordedAt]:
        loaded = self._policy.current
        record = self._recorder.draft(caller, act.value, policy=loaded.bundle.hash)
        try:
            authorise(loaded, caller, act)
            value = work(loaded)
        except (NotPermittedError, InvalidArgumentError, NotFoundError) as error:
            self._recorder.refuse(record, error)
        return value, self._recorder.record(replace(record, subject=subject()))
