"""What is in force for a purpose, as customers and channels see it. Same computation as a read's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vault.consent.bases import effective
from vault.consent.lanes import lanes_of, marketing_objections
from vault.domain.types import Basis, ConsentEntry, Purpose, Reason, Subject

_CONSENT = frozenset({Basis.CONSENT.value})
_NO_CATEGORY = ""


@dataclass(frozen=True, slots=True)
class InForce:
    """What is in force for one leaf.

    `reason` is why consent holds for no category, None when it holds for `categories`; `expires_at` 0 means
    never (or no consent); `bases` hold for at least one category.
    """

    purpose: str
    reason: Reason | None
    categories: frozenset[str]
    expires_at: int
    notice_version: int
    objected: bool
    opted_out: bool
    bases: frozenset[str]


def in_force(
    purposes: Mapping[str, Purpose],
    subject: Subject,
    consents: Sequence[ConsentEntry],
    leaf: Purpose,
    now: int,
) -> InForce:
    """What is in force for `leaf` at `now` (microseconds since 1970 UTC)."""
    bases = effective(purposes, subject, consents, leaf.id, now)
    lanes = lanes_of(leaf, consents)
    scope = lanes.consent.categories if lanes.consent else frozenset()
    covered = frozenset(category for category in scope if bases.for_category(category) >= _CONSENT)
    grant = lanes.consent if covered else None
    return InForce(
        purpose=leaf.id,
        reason=None if covered else bases.reason(_NO_CATEGORY, _CONSENT),
        categories=covered,
        expires_at=grant.expires_at if grant else 0,
        notice_version=grant.notice_version if grant else 0,
        objected=lanes.objected or (leaf.direct_marketing and bool(marketing_objections(purposes, consents))),
        opted_out=lanes.opted_out,
        bases=bases.for_category(_NO_CATEGORY) | (_CONSENT if covered else frozenset()),
    )
