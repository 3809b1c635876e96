"""What one attribute of a read comes to: a form or a denial, with the precise reason. Pure."""

from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from vault.consent.bases import EffectiveBases
from vault.crypto.envelope import dek_id_of
from vault.domain.errors import IntegrityError, PurposeNotLeafError, Violation
from vault.domain.types import (
    ANY_BASIS,
    OPERATION_BASIS,
    Attribute,
    Basis,
    Decision,
    Reason,
    SubjectSnapshot,
)
from vault.erasing.retention import readable_bases
from vault.policy.live import Loaded
from vault.reads import Read

_EVERY_BASIS: Final = frozenset(basis.value for basis in Basis) - {ANY_BASIS, OPERATION_BASIS}
_NOT_PERMITTED: Final = Decision(form=None, reason=Reason.NOT_PERMITTED)


class Ruling(NamedTuple):
    """A decision, and the bases that held, sorted."""

    decision: Decision
    bases: tuple[str, ...] = ()


def decide(loaded: Loaded, read: Read, name: str, held: EffectiveBases | None, *, entitled: bool) -> Ruling:
    """For an attribute that is in use. `held` is None where there is no such customer, or none that the
    caller may know of: what would be permitted is then told to be not available."""
    attribute = loaded.bundle.attributes.get(name)
    if attribute is None or not entitled:
        return Ruling(_NOT_PERMITTED)
    if held is None:
        decision = loaded.engine.decide(read.caller.id, read.purpose, name, _EVERY_BASIS, read.max_form)
        return Ruling(decision if decision.form is None else _not_available(decision))
    bases = held.for_category(attribute.category)
    decision = loaded.engine.decide(read.caller.id, read.purpose, name, bases, read.max_form)
    if decision.reason is Reason.BASIS_MISSING:
        decision = replace(decision, reason=held.reason(attribute.category, decision.wanted))
    return Ruling(decision, _sorted(bases))


def decide_after_erasure(
    loaded: Loaded, read: Read, name: str, held: EffectiveBases, snapshot: SubjectSnapshot
) -> Ruling:
    """The same where an erasure left something of the customer for a ground or a legal hold: for these it is
    there, for all else as unknown as the customer would be."""
    attribute = loaded.bundle.attributes.get(name)
    key_class = _retained_class(snapshot, attribute) if attribute is not None else None
    if attribute is None or key_class is None:
        return decide(loaded, read, name, held, entitled=True)
    bases = held.for_category(attribute.category) & readable_bases(
        loaded.bundle.key_classes, key_class, read.purpose, legal_hold=bool(snapshot.subject.legal_hold)
    )
    decision = loaded.engine.decide(read.caller.id, read.purpose, name, bases or _EVERY_BASIS, read.max_form)
    # a rule for any basis is no basis
    if decision.reason is not Reason.NOT_PERMITTED and (decision.form is None or not bases):
        decision = _not_available(decision)
    return Ruling(decision, _sorted(bases))


def refuse_inner_purpose(loaded: Loaded, read: Read) -> None:
    """
    Raises:
        PurposeNotLeafError: the purpose is an inner node of the tree, which cannot be requested. Only callers
            entitled to something below it are told.
    """
    purpose = loaded.bundle.purposes.get(read.purpose)
    if purpose is None or purpose.leaf:
        return
    leaves = [
        leaf.id
        for leaf in loaded.bundle.purposes.values()
        if leaf.leaf and read.purpose in leaf.ancestors and loaded.engine.entitled(read.caller.id, leaf.id)
    ]
    if leaves:
        description = "is an inner node of the purpose tree; request one of " + ", ".join(sorted(leaves))
        raise PurposeNotLeafError(f"purpose: {description}", violations=[Violation("purpose", description)])


def _not_available(decision: Decision) -> Decision:
    return replace(decision, form=None, reason=Reason.NOT_AVAILABLE)


def _retained_class(snapshot: SubjectSnapshot, attribute: Attribute) -> str | None:
    """The key class of a retained value; None for a value in use. Where everything of the customer is
    retained, what is not set is as good as retained: it must not tell that there was an erasure."""
    stored = snapshot.values.get(attribute.id)
    if stored is None:
        return attribute.key_class if all(key.retained for key in snapshot.keys.values()) else None
    try:
        key = snapshot.keys.get(dek_id_of(stored.ciphertext))
    except IntegrityError:
        return None
    return key.key_class if key is not None and key.retained else None


@lru_cache(maxsize=4_096)
def _sorted(bases: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(bases))
