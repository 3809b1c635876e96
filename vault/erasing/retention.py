"""What an erasure destroys, what stays, and for what the rest can be read (consent.md, "Rights"). Pure.

A key class stays while its ground runs, or while a legal hold keeps everything of the customer. What stays is
read for its ground's purposes under legal-obligation; under a legal hold also where legal-claim holds. The
customer's own rights are served on whatever is still held (GDPR 15).
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vault.domain.types import SUBJECT_RIGHTS, Basis, KeyClass, Purpose, Subject
from vault.store.erasure import Holding

EVIDENCE_CLASS: Final = "evidence"
"""The key class of sealed evidence; it holds no attribute."""
UNDECLARED: Final = (
    "the policies declare no such key class any more: declare it again, with or without a ground"
)
RELATIONSHIP_END: Final = "relationship-end"

_DAY: Final = datetime.timedelta(days=1)
_EPOCH: Final = datetime.date(1970, 1, 1)
_DAY_MICROSECONDS: Final = 86_400_000_000
_NONE: Final[frozenset[str]] = frozenset()
_OBLIGATION: Final = frozenset({Basis.LEGAL_OBLIGATION.value})
_CLAIM: Final = frozenset({Basis.LEGAL_CLAIM.value})


@dataclass(frozen=True, slots=True)
class Retained:
    """One reason why a key class stays; a class that stays for two reasons has two of them.

    `ground` is the retention ground, or the reason of the legal hold. `ends_at` is when it runs out, in
    microseconds since 1970 UTC; None while that is open.
    """

    key_class: str
    ground: str
    legal_hold: bool
    ends_at: int | None
    purposes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What an erasure does. `whole`: nothing stays by which the vault would know the customer."""

    erased: tuple[Holding, ...]
    retained: tuple[Retained, ...]
    whole: bool

    @property
    def kept(self) -> tuple[str, ...]:
        """The classes that stay, each once."""
        return tuple(dict.fromkeys(one.key_class for one in self.retained))


def plan_erasure(
    classes: Mapping[str, KeyClass],
    purposes: Mapping[str, Purpose],
    subject: Subject,
    ended_on: datetime.date | None,
    held: Sequence[Holding],
    now: int,
) -> Plan:
    """Decide, per key class of which something is `held`, whether it is destroyed at `now` (microseconds).

    `ended_on` is the day the relationship ended, None while it goes on. A class that the bundle does not
    declare stays, unreadable: whether a ground keeps it cannot be told, and destroying is final.
    """
    erased: list[Holding] = []
    retained: list[Retained] = []
    for holding in sorted(held, key=lambda one: one.key_class):
        reasons = _ground(classes.get(holding.key_class), purposes, ended_on, holding, now)
        if subject.legal_hold:
            reasons.append(_hold(purposes, subject, holding))
        retained += reasons
        if not reasons:
            erased.append(holding)
    return Plan(tuple(erased), tuple(retained), whole=not retained and not subject.legal_hold)


def evidence_until(key_class: KeyClass | None, ended_on: datetime.date | None, now: int) -> int:
    """When evidence sealed at `now` is to be destroyed; 0 where no ground lets it be kept at all.

    Sealing is its last write. Counted from the end of a relationship that goes on, it starts at the sealing
    too: evidence is found by its receipt alone, and nothing would tell it of an end that comes later.
    """
    if key_class is None or not key_class.ground:
        return 0
    counted_from = now
    if key_class.counted_from == RELATIONSHIP_END and ended_on is not None:
        counted_from = _end_of(ended_on)
    until = counted_from + key_class.period_seconds * 1_000_000
    return until if until > now else 0


def readable_bases(
    classes: Mapping[str, KeyClass], key_class: str, purpose: str, *, legal_hold: bool
) -> frozenset[str]:
    """The bases under which a value of a retained class may be read for a purpose; empty: not at all."""
    known = classes.get(key_class)
    granted = purpose == SUBJECT_RIGHTS or (known is not None and purpose in known.purposes)
    bases = _OBLIGATION if granted else _NONE
    return bases | _CLAIM if legal_hold else bases


def _ground(
    key_class: KeyClass | None,
    purposes: Mapping[str, Purpose],
    ended_on: datetime.date | None,
    holding: Holding,
    now: int,
) -> list[Retained]:
    own_rights = (SUBJECT_RIGHTS,) if SUBJECT_RIGHTS in purposes else ()
    if key_class is None:
        return [Retained(holding.key_class, UNDECLARED, False, None, own_rights)]
    # a ground keeps data: keys and rows of values that were cleared are nothing it could ask for
    if not key_class.ground or not holding.values:
        return []
    ends_at = _ends_at(key_class, ended_on, holding)
    if ends_at is not None and ends_at <= now:
        return []
    readable = tuple(dict.fromkeys((*key_class.purposes, *own_rights)))
    return [Retained(key_class.id, key_class.ground, False, ends_at, readable)]


def _hold(purposes: Mapping[str, Purpose], subject: Subject, holding: Holding) -> Retained:
    claims = tuple(
        purpose.id
        for purpose in purposes.values()
        if purpose.leaf
        and subject.jurisdictions
        and all(Basis.LEGAL_CLAIM in purpose.declared(where) for where in subject.jurisdictions)
    )
    own_rights = (SUBJECT_RIGHTS,) if SUBJECT_RIGHTS in purposes else ()
    readable = tuple(dict.fromkeys((*claims, *own_rights)))
    return Retained(holding.key_class, subject.legal_hold, True, None, readable)


def _ends_at(key_class: KeyClass, ended_on: datetime.date | None, holding: Holding) -> int | None:
    period = key_class.period_seconds * 1_000_000
    if key_class.counted_from != RELATIONSHIP_END:
        return holding.newest + period
    return None if ended_on is None else _end_of(ended_on) + period


def _end_of(day: datetime.date) -> int:
    """The last moment of a day in UTC: a period that law counts from a day begins when it is over."""
    return ((day - _EPOCH) // _DAY + 1) * _DAY_MICROSECONDS
