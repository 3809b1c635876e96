"""What an erasure does inside its transaction: decide per class, seal the consents, delete, mark what stays.

The caller holds the lock of the subject's row, and commits it together with the record (erasure.py).
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from vault.domain.protocols import ConsentRepository, Randomness
from vault.domain.types import Subject
from vault.erasing.evidence import EvidenceKey, every_event, seal
from vault.erasing.retention import EVIDENCE_CLASS, Plan, evidence_until, plan_erasure
from vault.policy.bundle import Bundle
from vault.store.erasure import ErasureRepository


class MissingKeyError(Exception):
    """There is something to seal, and no key was made for it: make one, and begin again.

    Not an error of the domain: it rolls the transaction back.
    """


@dataclass(frozen=True, slots=True)
class Shredded:
    """What was done: the plan that was carried out, how many consent events were sealed, and until when that
    evidence is kept (microseconds since 1970 UTC, 0 for none)."""

    plan: Plan
    events: int
    evidence_until: int


class Shredder:
    """Stateless."""

    def __init__(self, consents: ConsentRepository, store: ErasureRepository, randomness: Randomness) -> None:
        self._consents = consents
        self._store = store
        self._randomness = randomness

    def plan(self, connection: Connection, tenant: str, subject: Subject, bundle: Bundle, now: int) -> Plan:
        """What an erasure at `now` would destroy and leave."""
        return plan_erasure(
            bundle.key_classes,
            bundle.purposes,
            subject,
            self._store.relationship_end(connection, tenant, subject.id),
            self._store.holdings(connection, tenant, subject.id),
            now,
        )

    def sealable(
        self, connection: Connection, tenant: str, subject: Subject, bundle: Bundle, now: int
    ) -> bool:
        """Whether there are consents to seal, and a ground to keep them."""
        if subject.legal_hold or not self._evidence_until(connection, tenant, subject, bundle, now):
            return False
        return bool(self._consents.events(connection, tenant, subject.id, 0, 1))

    def shred(
        self,
        connection: Connection,
        tenant: str,
        subject: Subject,
        bundle: Bundle,
        key: EvidenceKey | None,
        now: int,
    ) -> Shredded:
        """Destroy what nothing keeps; the rest is read for its ground alone from `now` on.

        Raises:
            MissingKeyError: there are consents to seal, and `key` is None.
        """
        plan = self.plan(connection, tenant, subject, bundle, now)
        until = self._evidence_until(connection, tenant, subject, bundle, now)
        events = self._move_consents(connection, tenant, subject, key, now, until)
        for holding in plan.erased:
            self._store.destroy(connection, tenant, subject.id, holding.key_class)
        if plan.whole:
            self._store.remove(connection, tenant, subject.id)
        else:
            self._store.retain(connection, tenant, subject.id, now)
        return Shredded(plan, events, until if events else 0)

    def _move_consents(
        self,
        connection: Connection,
        tenant: str,
        subject: Subject,
        key: EvidenceKey | None,
        now: int,
        until: int,
    ) -> int:
        """Seal the ledger, and take out what permits; how many events were sealed.

        Under a legal hold the ledger stays as it is, for nothing may be destroyed; only what permits goes.
        """
        sealed = 0
        if not subject.legal_hold and until:
            events = list(every_event(connection, self._consents, tenant, subject.id))
            if events and key is None:
                raise MissingKeyError
            if events and key is not None:
                evidence = seal(key, tenant, events, now, until, self._randomness)
                self._store.put_evidence(connection, tenant, evidence)
                sealed = len(events)
        self._store.forget_consents(connection, tenant, subject.id, events=not subject.legal_hold)
        return sealed

    def _evidence_until(
        self, connection: Connection, tenant: str, subject: Subject, bundle: Bundle, now: int
    ) -> int:
        ended_on = self._store.relationship_end(connection, tenant, subject.id)
        return evidence_until(bundle.key_classes.get(EVIDENCE_CLASS), ended_on, now)
