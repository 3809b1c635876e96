"""Step 3 of a disclosure: the decisions of a read, made once for all reads that they hold for.

A service asks for the same few attributes for the same purpose, of customers for whom the same legal bases
hold. What follows from that (decisions, the entries of the audit record, the parts of the answer that say
no, how each form is made) is worked out when it is asked for the first time, and looked up afterwards. Who
asks chooses the names: only declared ones are remembered, in bounded numbers.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from vault.audit.record import AttributeEntry, shared_entries
from vault.consent.bases import EffectiveBases
from vault.crypto.encoding import field_binding
from vault.disclosing.deciding import Ruling, decide, decide_after_erasure, refuse_inner_purpose
from vault.domain.errors import IntegrityError
from vault.domain.types import Attribute, Form, Reason, SubjectSnapshot
from vault.policy.forms import Show, form_of
from vault.policy.live import Loaded
from vault.reads import AnswerWriter, Part, Read

_REMEMBERED: Final = 4_096
"""Of lists, and of single decisions; then all are made anew."""
_REMEMBERED_NAMES: Final = 32
"""A longer list is made anew every time."""


class Decided(NamedTuple):
    """What a read does with one attribute: show it in `form`, or give `denial`, the part of the answer that
    denies it; then `form` and `attribute` are None. `entry` is that of the audit record."""

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
        self.entries: Final = shared_entries({decided.name: decided.entry for decided in each})
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
        self._lists: dict[Any, Decisions] = {}
        self._each: dict[Any, Decided] = {}
        self._entitled: dict[tuple[str, str], bool] = {}

    def entitled(self, read: Read) -> bool:
        """Whether the caller may learn anything at all for this purpose.

        Raises:
            PurposeNotLeafError: as `refuse_inner_purpose`.
        """
        asked = read.caller.id, read.purpose
        found = self._entitled.get(asked)
        if found is None:
            found = self.loaded.engine.entitled(*asked)
            refuse_inner_purpose(self.loaded, read)
            if read.purpose in self.loaded.bundle.purposes:
                self._entitled[asked] = found
        return found

    def of(self, read: Read, held: EffectiveBases | None, *, entitled: bool) -> Decisions:
        """The decisions for a read; `held` as in `decide`."""
        # no tenant: a caller's id stands for one, in callers.yaml
        asked = (
            read.caller.id,
            read.purpose,
            read.attributes,
            read.max_form,
            entitled,
            held.same if held else None,
        )
        found = self._lists.get(asked)
        if found is None:
            loaded = self.loaded
            found = self._decisions(
                read, [decide(loaded, read, name, held, entitled=entitled) for name in read.attributes]
            )
            if len(read.attributes) <= _REMEMBERED_NAMES and all(map(self._declared, read.attributes)):
                _remember(self._lists, asked, found)
        return found

    def of_retained(self, read: Read, held: EffectiveBases, snapshot: SubjectSnapshot) -> Decisions:
        """The same for a customer of whom an erasure left something: rare, and another for each."""
        rulings = [decide_after_erasure(self.loaded, read, name, held, snapshot) for name in read.attributes]
        return self._decisions(read, rulings)

    def _declared(self, name: str) -> bool:
        return name in self.loaded.bundle.attributes

    def _decisions(self, read: Read, rulings: Sequence[Ruling]) -> Decisions:
        strongest = (read.max_form or Form.CLEAR).act
        each = zip(read.attributes, rulings, strict=True)
        return Decisions(tuple(self._decided(name, ruling, strongest) for name, ruling in each), strongest)

    def _decided(self, name: str, ruling: Ruling, strongest: str) -> Decided:
        decision = ruling.decision
        made_of = name, decision.form, decision.reason, decision.rule, ruling.bases, strongest
        found = self._each.get(made_of)
        if found is None:
            found = self._made(name, ruling, strongest)
            if self._declared(name):
                _remember(self._each, made_of, found)
        return found

    def _made(self, name: str, ruling: Ruling, strongest: str) -> Decided:
        decision, bases = ruling
        form, attribute = decision.form, self.loaded.bundle.attributes.get(name)
        if form is None or attribute is None:
            reason = decision.reason or Reason.NOT_PERMITTED
            entry = AttributeEntry(strongest, reason.value, bases, decision.rule)
            denial = self._writer.denied(name, reason)
            return Decided(name, None, entry, denial, None, None, lambda *_: denial, b"")
        entry = AttributeEntry(form.act, "", bases, decision.rule)
        write = self._writer.given(name, form, attribute.type)
        return Decided(name, form, entry, b"", attribute, _show(attribute, form), write, field_binding(name))


def _remember(memory: dict[Any, Any], what: Any, found: Any) -> None:
    if len(memory) >= _REMEMBERED:
        memory.clear()
    memory[what] = found


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
