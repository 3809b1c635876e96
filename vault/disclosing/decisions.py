"""Step 3 of a disclosure: the decisions of a read, made once for all reads that they hold for.

A service asks for the same few attributes for the same purpose, of customers for whom the same legal bases
hold. What follows from that (decisions, the entries of the audit record, the parts of the answer that say
no, how each form is made) is worked out when it is asked for the first time, and looked up afterwards.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

from vault.audit.record import AttributeEntry, Entries
from vault.consent.bases import EffectiveBases
from vault.crypto.encoding import field_binding
from vault.crypto.envelope import dek_id_of
from vault.domain.errors import IntegrityError, PurposeNotLeafError, Violation
from vault.domain.types import (
    ANY_BASIS,
    OPERATION_BASIS,
    Attribute,
    Basis,
    Decision,
    Form,
    Reason,
    SubjectSnapshot,
)
from vault.erasing.retention import readable_bases
from vault.policy.forms import Show, form_of
from vault.policy.live import Loaded
from vault.reads import AnswerWriter, Part, Read

_EVERY_BASIS: Final = frozenset(basis.value for basis in Basis) - {ANY_BASIS, OPERATION_BASIS}
_NOT_PERMITTED: Final = Decision(form=None, reason=Reason.NOT_PERMITTED)
_SHARED: Final = 4_096
"""Decisions that are kept; then all are made anew."""
_SHARED_ATTRIBUTES: Final = 32
"""Of a longer list nothing is kept: whoever asks chooses the names, and must not fill the memory."""


class Decided(NamedTuple):
    """What a read does with one attribute: show it in `form`, or deny it with `entry.reason`.

    `entry` is that of the audit record, and `denial` the part of the answer, where nothing is to be opened.
    """

    name: str
    form: Form | None
    entry: AttributeEntry
    denial: bytes
    attribute: Attribute | None
    show: Show | None
    write: Part
    binding: bytes
    """What of its associated data follows from the name, see `crypto.encoding.value_binding`."""


class Decisions:
    """Those of one read, in the order asked."""

    __slots__ = ("denials", "each", "entries", "strongest")

    def __init__(self, each: tuple[Decided, ...], strongest: str) -> None:
        """`strongest` is the act of the strongest form that was asked for."""
        self.each: Final = each
        self.strongest: Final = strongest
        self.entries: Final = Entries({decided.name: decided.entry for decided in each})
        """Those of the record, when every form that was allowed can be shown."""
        self.denials: Final = tuple(decided.entry.reason for decided in each if decided.form is None)

    def refused(self, decided: Decided, reason: Reason) -> AttributeEntry:
        """The entry when the form was allowed and the value cannot be shown all the same."""
        return decided.entry._replace(act=self.strongest, reason=reason.value)


class DecisionMaker:
    """Decides under one bundle, and remembers. For one thread."""

    def __init__(self, loaded: Loaded, writer: AnswerWriter) -> None:
        self.loaded: Final = loaded
        self._writer = writer
        self._kept: dict[Any, Decisions] = {}
        self._entitled: dict[tuple[str, str], bool] = {}

    def entitled(self, read: Read) -> bool:
        """Whether the caller may learn anything at all for this purpose.

        Raises:
            PurposeNotLeafError: for callers entitled to something below it: an inner node of the tree cannot
                be requested.
        """
        asked = read.caller.id, read.purpose
        found = self._entitled.get(asked)
        if found is None:
            found = self.loaded.engine.entitled(*asked)
            _refuse_inner_purpose(read, self.loaded)
            if read.purpose in self.loaded.bundle.purposes:
                self._entitled[asked] = found
        return found

    def of(self, read: Read, held: EffectiveBases | None, *, entitled: bool) -> Decisions:
        """The decisions for a read; `held` is None where there is no such customer, or none that the caller
        may know of."""
        key = (
            read.caller.id,
            read.purpose,
            read.attributes,
            read.max_form,
            entitled,
            held.same if held else None,
        )
        found = self._kept.get(key)
        if found is None:
            found = self._decisions(
                read, [self._decide(read, name, held, entitled) for name in read.attributes]
            )
            if len(read.attributes) <= _SHARED_ATTRIBUTES:
                if len(self._kept) >= _SHARED:
                    self._kept.clear()
                self._kept[key] = found
        return found

    def of_retained(self, read: Read, held: EffectiveBases, snapshot: SubjectSnapshot) -> Decisions:
        """The same for a customer of whom an erasure left something: rare, and another for each."""
        return self._decisions(
            read, [self._decide_kept(read, name, held, snapshot) for name in read.attributes]
        )

    def _decisions(self, read: Read, made: Sequence[tuple[Decision, tuple[str, ...]]]) -> Decisions:
        strongest = (read.max_form or Form.CLEAR).act
        return Decisions(
            tuple(
                self._decided(name, decision, bases, strongest)
                for name, (decision, bases) in zip(read.attributes, made, strict=True)
            ),
            strongest,
        )

    def _decided(self, name: str, decision: Decision, bases: tuple[str, ...], strongest: str) -> Decided:
        form, attribute = decision.form, self.loaded.bundle.attributes.get(name)
        if form is None or attribute is None:
            reason = decision.reason or Reason.NOT_PERMITTED
            entry = AttributeEntry(strongest, reason.value, bases, decision.rule)
            denial = self._writer.denied(name, reason)
            return Decided(name, None, entry, denial, None, None, lambda *_: denial, b"")
        entry = AttributeEntry(form.act, "", bases, decision.rule)
        write = self._writer.given(name, form, attribute.type)
        return Decided(name, form, entry, b"", attribute, _show(attribute, form), write, field_binding(name))

    def _decide(
        self, read: Read, name: str, held: EffectiveBases | None, entitled: bool
    ) -> tuple[Decision, tuple[str, ...]]:
        """The decision for one attribute, with the precise reason, and the bases that held."""
        attribute = self.loaded.bundle.attributes.get(name)
        if attribute is None or not entitled:
            return _NOT_PERMITTED, ()
        engine = self.loaded.engine
        if held is None:
            decision = engine.decide(read.caller.id, read.purpose, name, _EVERY_BASIS, read.max_form)
            if decision.form is None:
                return decision, ()
            return replace(decision, form=None, reason=Reason.NOT_AVAILABLE), ()
        bases = held.for_category(attribute.category)
        decision = engine.decide(read.caller.id, read.purpose, name, bases, read.max_form)
        if decision.reason is Reason.BASIS_MISSING:
            decision = replace(decision, reason=held.reason(attribute.category, decision.wanted))
        return decision, _sorted(bases)

    def _decide_kept(
        self, read: Read, name: str, held: EffectiveBases, snapshot: SubjectSnapshot
    ) -> tuple[Decision, tuple[str, ...]]:
        attribute = self.loaded.bundle.attributes.get(name)
        key_class = _retained_class(snapshot, attribute) if attribute is not None else None
        if attribute is None or key_class is None:
            return self._decide(read, name, held, entitled=True)
        bases = held.for_category(attribute.category) & readable_bases(
            self.loaded.bundle.key_classes,
            key_class,
            read.purpose,
            legal_hold=bool(snapshot.subject.legal_hold),
        )
        return self._decide_retained(read, attribute, bases)

    def _decide_retained(
        self, read: Read, attribute: Attribute, bases: frozenset[str]
    ) -> tuple[Decision, tuple[str, ...]]:
        """The decision for a value that an erasure left for a ground or a legal hold: for these it is there,
        for all else as unknown as the customer would be."""
        decision = self.loaded.engine.decide(
            read.caller.id, read.purpose, attribute.id, bases or _EVERY_BASIS, read.max_form
        )
        # a rule for any basis is no basis
        if decision.reason is not Reason.NOT_PERMITTED and (decision.form is None or not bases):
            decision = replace(decision, form=None, reason=Reason.NOT_AVAILABLE)
        return decision, _sorted(bases)


def _refuse_inner_purpose(read: Read, loaded: Loaded) -> None:
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


def _show(attribute: Attribute, form: Form) -> Show | None:
    """How the form is made; None where the value is shown as it is, or not at all."""
    if form in (Form.CLEAR, Form.EXISTS):
        return None
    spec = attribute.spec(form)
    if spec is None:
        return _no_such_form
    return form_of(attribute, spec)


def _no_such_form(*_: object) -> None:
    raise IntegrityError("the policy gave a form that the attribute does not have")


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
