"""Findings about rules that load and yet may not say what their author means."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vault.domain.types import ADMINISTRATION, NO_DATA, Attribute, Basis, Form, Purpose
from vault.policy.bundle import Bundle
from vault.policy.masks import Masks, compile_masks
from vault.policy.rules import POLICY_FILE, Rule

_FORM_ACTS: Final = {form.act: form for form in Form}


class FindingKind(StrEnum):
    """What a finding is about."""

    DUPLICATE = "duplicate"
    SHADOWED = "shadowed"
    NEVER_MATCHES = "never-matches"
    FORM_MISSING = "form-missing"
    BENEATH_DENY = "allow-beneath-deny"
    OVER_BROAD = "over-broad"
    FALLS_THROUGH = "legitimate-interest-beside-consent"


@dataclass(frozen=True, slots=True)
class Finding:
    """One questionable rule. `justification` is the entry of justifications.yaml, '' where there is none.

    `serious`: the finding needs a justification before the policies are used.
    """

    kind: FindingKind
    rule: str
    line: int
    message: str
    justification: str = ""

    @property
    def serious(self) -> bool:
        return self.kind is FindingKind.FALLS_THROUGH and not self.justification

    def __str__(self) -> str:
        return f"{POLICY_FILE}:{self.line}:1: {self.kind.value}: {self.message}"


_Said = tuple[FindingKind, str]


def lint(bundle: Bundle) -> tuple[Finding, ...]:
    """All findings, in file order of their rules."""
    linter = _Linter(bundle)
    return tuple(
        Finding(kind, rule.id, rule.line, message, bundle.justifications.get(rule.id, ""))
        for rule in bundle.rules
        for kind, message in linter.findings(rule)
    )


class _Linter:
    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._masks: Masks = compile_masks(bundle)
        self._places = {rule.id: len(bundle.rules) - 1 - place for place, rule in enumerate(bundle.rules)}
        self._subjects = set(bundle.callers)
        for caller in bundle.callers.values():
            self._subjects.update(caller.roles)

    def findings(self, rule: Rule) -> Iterator[_Said]:
        checks: tuple[Callable[[Rule], Iterable[_Said]], ...] = (
            self._covered,
            self._beneath_deny,
            self._never_matches,
            self._form_missing,
            self._over_broad,
            self._falls_through,
        )
        for check in checks:
            yield from check(rule)

    def _covering(self, rule: Rule) -> int:
        """Other rules for the same or more callers, purposes and data."""
        masks = self._masks
        found = masks.subjects.get(rule.subject, 0) & masks.purposes.get(rule.purpose, 0)
        return found & masks.data.get(rule.data, 0) & ~(1 << self._places[rule.id])

    def _covered(self, rule: Rule) -> Iterator[_Said]:
        """Duplicates, and rules that another rule makes pointless."""
        acts = self._masks.allows if rule.allows else self._masks.denies
        found = self._covering(rule) & acts[rule.act] & self._masks.bases[rule.basis]
        for other in self._masks.matching(found):
            same = _content(other) == _content(rule)
            if same and other.line < rule.line:
                yield FindingKind.DUPLICATE, f"{rule.id!r} says the same as {_at(other)}"
                return
            if not same:
                yield FindingKind.SHADOWED, f"{rule.id!r} adds nothing: {_at(other)} covers it"
                return

    def _beneath_deny(self, rule: Rule) -> Iterator[_Said]:
        if not rule.allows:
            return
        denies = self._masks.denies[rule.act]
        for other in self._masks.matching(self._covering(rule) & denies):
            yield FindingKind.BENEATH_DENY, f"{rule.id!r} is refused as a whole or in part by {_at(other)}"
            return

    def _never_matches(self, rule: Rule) -> Iterator[_Said]:
        if rule.subject not in self._subjects:
            yield FindingKind.NEVER_MATCHES, f"no caller has the role {rule.subject!r}"
        if rule.data != NO_DATA and not self._attributes_under(rule):
            yield FindingKind.NEVER_MATCHES, f"no attribute is under {rule.data!r}"
        if not rule.allows or rule.purpose == ADMINISTRATION:
            return
        leaves = self._leaves_under(rule.purpose)
        if rule.basis == Basis.CONSENT.value:
            good, lacking = any(leaf.notice for leaf in leaves), "has a notice to consent to"
        else:
            declared = {basis for leaf in leaves for bases in leaf.bases.values() for basis in bases}
            good, lacking = rule.basis in declared, f"declares the basis {rule.basis!r}"
        if not good:
            yield FindingKind.NEVER_MATCHES, f"no purpose under {rule.purpose!r} {lacking}"

    def _form_missing(self, rule: Rule) -> Iterator[_Said]:
        form = _FORM_ACTS.get(rule.act)
        attributes = self._attributes_under(rule)
        if form is None or not rule.allows or not attributes:
            return
        if not any(attribute.spec(form) for attribute in attributes):
            yield FindingKind.FORM_MISSING, f"no attribute under {rule.data!r} has the form {form.value!r}"

    def _over_broad(self, rule: Rule) -> Iterator[_Said]:
        """Grants on a whole tree of purposes or of categories."""
        if not rule.allows or rule.data == NO_DATA:
            return
        node = self._bundle.purposes.get(rule.purpose)
        if node is not None and not node.leaf and not node.parent:
            yield FindingKind.OVER_BROAD, f"{rule.id!r} allows every purpose under the root {node.id!r}"
        above = self._bundle.categories.get(rule.data, ())
        has_children = any(rule.data in line[1:] for line in self._bundle.categories.values())
        if len(above) == 1 and has_children:
            yield FindingKind.OVER_BROAD, f"{rule.id!r} allows every category under the root {rule.data!r}"

    def _falls_through(self, rule: Rule) -> Iterator[_Said]:
        """A withdrawal of consent would change nothing: legitimate interest allows the same (policy.md)."""
        if not rule.allows or rule.basis != Basis.LEGITIMATE_INTEREST.value:
            return
        for other in self._masks.matching(self._masks.bases.get(Basis.CONSENT.value, 0)):
            if self._share(rule, other):
                message = f"{rule.id!r} still allows after consent for {_at(other)} is withdrawn"
                yield FindingKind.FALLS_THROUGH, f"{message}: say why in justifications.yaml"
                return

    def _share(self, one: Rule, other: Rule) -> bool:
        """Whether two rules have a purpose and an attribute in common (in trees: one is under the other)."""
        return _related(one.purpose, other.purpose, self._purpose_line) and _related(
            one.data, other.data, self._data_line
        )

    def _purpose_line(self, purpose: str) -> tuple[str, ...]:
        return (purpose, *self._bundle.purposes[purpose].ancestors)

    def _data_line(self, word: str) -> tuple[str, ...]:
        attribute = self._bundle.attributes.get(word)
        if attribute is None:
            return self._bundle.categories[word]
        return (word, *self._bundle.categories[attribute.category])

    def _leaves_under(self, purpose: str) -> list[Purpose]:
        nodes = self._bundle.purposes.values()
        return [node for node in nodes if node.leaf and purpose in (node.id, *node.ancestors)]

    def _attributes_under(self, rule: Rule) -> list[Attribute]:
        if rule.data == NO_DATA:
            return []
        return [item for item in self._bundle.attributes.values() if rule.data in self._data_line(item.id)]


def _related(one: str, other: str, line: Callable[[str], tuple[str, ...]]) -> bool:
    return one in line(other) or other in line(one)


def _content(rule: Rule) -> tuple[str, ...]:
    return rule.subject, rule.purpose, rule.data, rule.act, rule.basis, rule.effect


def _at(rule: Rule) -> str:
    return f"{rule.id!r} (line {rule.line})"
