"""The rules of a bundle as one bitmask per word of each dimension (policy.md, "Engine").

Rule 0 of n is bit n-1, so the first matching rule in file order is the highest bit of a mask: its place is
`bit_length`, whatever the size of the mask.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from vault.domain.types import ADMINISTRATION, ANY_BASIS, NO_DATA
from vault.policy.bundle import Bundle
from vault.policy.hierarchy import closure
from vault.policy.model import ACTS, READ_ACTS, stronger_acts
from vault.policy.rules import Rule


@dataclass(frozen=True, slots=True)
class Masks:
    """For each word, the rules that match a question holding that word in that dimension.

    `allows` and `denies` are by the act asked for: g4 runs upwards for an allow and downwards for a deny.
    """

    rules: tuple[Rule, ...]
    subjects: Mapping[str, int]
    purposes: Mapping[str, int]
    data: Mapping[str, int]
    allows: Mapping[str, int]
    denies: Mapping[str, int]
    bases: Mapping[str, int]
    read_allows: int

    def held(self, bases: Iterable[str]) -> int:
        """Rules whose basis is among `bases`; `any` always is."""
        mask = self.bases.get(ANY_BASIS, 0)
        for basis in bases:
            mask |= self.bases.get(basis, 0)
        return mask

    def matching(self, mask: int) -> Iterator[Rule]:
        """The rules of a mask in file order."""
        count = len(self.rules)
        while mask:
            length = mask.bit_length()
            yield self.rules[count - length]
            mask ^= 1 << (length - 1)


def compile_masks(bundle: Bundle) -> Masks:
    """Index the rules of a bundle."""
    rules = bundle.rules
    subjects = _by(rules, lambda rule: rule.subject)
    purposes = _by(rules, lambda rule: rule.purpose)
    data = _by(rules, lambda rule: rule.data)
    allows = _by([rule if rule.allows else None for rule in rules], lambda rule: rule.act)
    denies = _by([None if rule.allows else rule for rule in rules], lambda rule: rule.act)
    return Masks(
        rules=rules,
        subjects=_spread(subjects, _members(bundle)),
        purposes=_spread(
            purposes, {node.id: (node.id, *node.ancestors) for node in bundle.purposes.values()}
        ),
        data=_spread(data, _data_words(bundle)),
        allows=_spread(allows, {act: stronger_acts(act) for act in ACTS}),
        denies=_spread(denies, {act: _weaker_acts(act) for act in ACTS}),
        bases=_by(rules, lambda rule: rule.basis),
        read_allows=_union(allows.get(act, 0) for act in READ_ACTS),
    )


def _members(bundle: Bundle) -> dict[str, Iterable[str]]:
    parents: dict[str, tuple[str, ...]] = {}
    for link in bundle.links:
        parents[link.member] = (*parents.get(link.member, ()), link.role)
    return {name: (name, *closure(name, parents)) for name in (*bundle.callers, *bundle.roles)}


def _data_words(bundle: Bundle) -> dict[str, Iterable[str]]:
    words: dict[str, Iterable[str]] = dict(bundle.categories)
    for attribute in bundle.attributes.values():
        words[attribute.id] = (attribute.id, *bundle.categories[attribute.category])
    return words


def _weaker_acts(act: str) -> frozenset[str]:
    return frozenset(weaker for weaker in ACTS if act in stronger_acts(weaker))


def _by(rules: Iterable[Rule | None], word: Callable[[Rule], str]) -> dict[str, int]:
    """Rules by the word they name themselves; None keeps a place empty."""
    listed = list(rules)
    places: dict[str, bytearray] = {}
    for place, rule in enumerate(reversed(listed)):
        if rule is not None:
            bits = places.setdefault(word(rule), bytearray(len(listed) // 8 + 1))
            bits[place // 8] |= 1 << (place % 8)
    return {name: int.from_bytes(bits, "little") for name, bits in places.items()}


def _spread(own: Mapping[str, int], reach: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Rules by every word from which the word they name is reached."""
    spread = {word: _union(own.get(above, 0) for above in reached) for word, reached in reach.items()}
    for word in (ADMINISTRATION, NO_DATA):
        if word in own:
            spread[word] = own[word]
    return spread


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
