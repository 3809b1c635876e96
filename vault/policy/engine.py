"""The compiled engine: Casbin's answers from bitmasks (policy.md, "Engine").

A decision ANDs the masks of caller, purpose and attribute; then, form by form from the strongest, nothing
may deny it and an allow whose basis holds must be left.
"""

from typing import Final

from vault.domain.types import (
    ADMINISTRATION,
    NO_DATA,
    OPERATION_BASIS,
    Act,
    Attribute,
    Decision,
    Form,
    Reason,
)
from vault.policy.bundle import Bundle
from vault.policy.masks import Masks, compile_masks

OPERATION: Final = frozenset({OPERATION_BASIS})
NOTHING_MATCHED: Final = Decision(None, Reason.NOT_PERMITTED)
_UNKNOWN_NAME: Final = Decision(None, Reason.NOT_PERMITTED)
"""Equal to NOTHING_MATCHED: callers must not learn which names exist."""
_MEMO_ENTRIES: Final = 65_536
_HELD_ENTRIES: Final = 1_024
_Given = dict[int, tuple[int, Decision]]
"""By the first rule that gave a form: the last set of rules that did, and the answer they gave."""
_Try = tuple[Form, int, int, _Given]
"""A form, the rules that deny it, the rules that allow it, and what they gave before."""


def forms_to_try(attribute: Attribute, max_form: Form | None) -> tuple[Form, ...]:
    """The attribute's forms at or below `max_form`, strongest first."""
    forms = (spec.form for spec in attribute.forms)
    return tuple(form for form in forms if max_form is None or max_form.admits(form))


class CompiledEngine:
    """Implements DecisionEngine for one bundle; never changes, so threads can share it."""

    def __init__(self, bundle: Bundle) -> None:
        masks = compile_masks(bundle)
        self._bundle = bundle
        self._masks = masks
        self._callers = {caller: masks.subjects[caller] for caller in bundle.callers}
        self._leaves = {leaf.id: masks.purposes[leaf.id] for leaf in bundle.purposes.values() if leaf.leaf}
        self._attributes = {attribute: masks.data[attribute] for attribute in bundle.attributes}
        self._given: dict[Form, _Given] = {form: {} for form in Form}
        self._tries = {
            max_form: {
                attribute.id: tuple(map(self._try, forms_to_try(attribute, max_form)))
                for attribute in bundle.attributes.values()
            }
            for max_form in (None, *Form)
        }
        self._strongest = self._tries[None]
        self._held: dict[frozenset[str], int] = {}
        self._memo: dict[tuple[str, str, str, frozenset[str]], Decision] = {}

    @property
    def masks(self) -> Masks:
        """The index, for explain, lint and the other authoring tools."""
        return self._masks

    def permits(self, caller: str, purpose: str, data: str, act: str, bases: frozenset[str]) -> bool:
        """The Casbin question as it stands in model.conf; `any` is added to the bases."""
        masks = self._masks
        matching = (
            masks.subjects.get(caller, 0)
            & masks.purposes.get(purpose, 0)
            & masks.data.get(data, 0)
            & self._holding(bases)
        )
        return not matching & masks.denies.get(act, 0) and bool(matching & masks.allows.get(act, 0))

    def decide(
        self, caller: str, purpose: str, attribute: str, bases: frozenset[str], max_form: Form | None
    ) -> Decision:
        """The strongest form at or below `max_form` that the rules permit, else why there is none.

        Unknown callers, purposes that are no leaf and unknown attributes are NOT_PERMITTED. With a form,
        `rules` are the rules that gave it; with a reason, all rules that matched for any form tried.
        """
        if max_form is not None:
            return self.decide_once(caller, purpose, attribute, bases, max_form)
        key = (caller, purpose, attribute, bases)
        known = self._memo.get(key)
        if known is not None:
            return known
        decision = self.decide_once(caller, purpose, attribute, bases, None)
        if decision is not _UNKNOWN_NAME:
            # names nobody declared come from anyone: remembering them would let callers fill the memo
            if len(self._memo) >= _MEMO_ENTRIES:
                self._memo.clear()
            self._memo[key] = decision
        return decision

    def decide_once(
        self, caller: str, purpose: str, attribute: str, bases: frozenset[str], max_form: Form | None
    ) -> Decision:
        """`decide` without its memory of earlier answers."""
        try:
            matching = self._callers[caller] & self._leaves[purpose] & self._attributes[attribute]
        except KeyError:
            return _UNKNOWN_NAME
        if not matching:
            return NOTHING_MATCHED
        holding = self._holding(bases)
        tries = (self._strongest if max_form is None else self._tries[max_form])[attribute]
        for form, denies, allows, given in tries:
            if matching & denies:
                continue
            found = matching & allows & holding
            if found:
                # building an answer takes longer than finding it, and few sets of rules ever give a form
                known = given.get(found.bit_length())
                return known[1] if known and known[0] == found else self._grant(form, found, given)
        return self._refusal(matching, tries)

    def act(self, caller: str, act: str, data: str = NO_DATA) -> Decision:
        """An act that is no read; `form` stays None and `reason` is None when it is allowed."""
        expected = self._attributes if act == Act.WRITE.value else (NO_DATA,)
        if caller not in self._callers or data not in expected:
            return NOTHING_MATCHED
        masks = self._masks
        matching = masks.subjects[caller] & masks.purposes.get(ADMINISTRATION, 0) & masks.data.get(data, 0)
        matching &= self._holding(OPERATION)
        denied = matching & masks.denies.get(act, 0)
        found = denied or matching & masks.allows.get(act, 0)
        if not found:
            return NOTHING_MATCHED
        rules = self._ids(found)
        return Decision(None, Reason.NOT_PERMITTED if denied else None, rules[0], rules)

    def entitled(self, caller: str, purpose: str) -> bool:
        """Whether some allow row of a read, search or export matches (caller, purpose) at all."""
        found = self._callers.get(caller, 0) & self._masks.purposes.get(purpose, 0)
        return bool(found & self._masks.read_allows)

    def _try(self, form: Form) -> _Try:
        return form, self._masks.denies[form.act], self._masks.allows[form.act], self._given[form]

    def _holding(self, bases: frozenset[str]) -> int:
        mask = self._held.get(bases)
        if mask is None:
            if len(self._held) >= _HELD_ENTRIES:
                self._held.clear()
            mask = self._held[bases] = self._masks.held(bases)
        return mask

    def _refusal(self, matching: int, tries: tuple[_Try, ...]) -> Decision:
        """No form was permitted: say which rule denied, or which bases would have let some form through."""
        denied = 0
        lacking = 0
        for _, denies, allows, _ in tries:
            refused = matching & denies
            denied |= refused
            lacking |= 0 if refused else matching & allows
        rules = self._ids(denied)
        if lacking:
            wanted = frozenset([basis for basis, rules_of in self._masks.bases.items() if lacking & rules_of])
            return Decision(None, Reason.BASIS_MISSING, "", rules, wanted)
        return Decision(None, Reason.NOT_PERMITTED, rules[0], rules) if rules else NOTHING_MATCHED

    def _grant(self, form: Form, found: int, given: _Given) -> Decision:
        rules = self._ids(found)
        decision = Decision(form, None, rules[0], rules)
        given[found.bit_length()] = (found, decision)
        return decision

    def _ids(self, mask: int) -> tuple[str, ...]:
        return tuple([rule.id for rule in self._masks.matching(mask)])
