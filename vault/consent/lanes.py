"""What is in force for one leaf purpose in each of the three lanes (consent.md, "Effective bases").

*Later* always means a higher `seq`, never a clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from vault.domain.types import ConsentEntry, ConsentState, Lane, Purpose, Reason


class Lanes(NamedTuple):
    """The latest entry of each lane that concerns a leaf; None where there is none."""

    consent: ConsentEntry | None
    objection: ConsentEntry | None
    opt_out: ConsentEntry | None

    @property
    def objected(self) -> bool:
        entry = self.objection
        # only a lifted objection is none: a state that is not known counts as one
        return entry is not None and entry.state is not ConsentState.OBJECTION_LIFTED

    @property
    def opted_out(self) -> bool:
        entry = self.opt_out
        return entry is not None and entry.state is not ConsentState.OPTED_IN


_GRANTS: Final = (ConsentState.GIVEN, ConsentState.RENEWED)
_ENDED: Final[Mapping[ConsentState, Reason]] = {
    ConsentState.WITHDRAWN: Reason.CONSENT_WITHDRAWN,
    ConsentState.EXPIRED: Reason.CONSENT_EXPIRED,
    ConsentState.REFUSED: Reason.CONSENT_REFUSED,
}


def lanes_of(leaf: Purpose, consents: Iterable[ConsentEntry]) -> Lanes:
    """The entries in force for `leaf`: its own and those it inherits.

    Objection and opt-out inherit both signs. In the consent lane only negative events inherit: a grant
    stands at the leaves it was expanded to, and nowhere else. `requested` changes nothing.
    """
    own, above = leaf.id, leaf.ancestors
    consent = objection = opt_out = None
    for entry in consents:
        purpose = entry.purpose
        if purpose != own and purpose not in above:
            continue
        lane = entry.lane
        if lane is Lane.CONSENT:
            if entry.state is ConsentState.REQUESTED or (purpose != own and entry.state in _GRANTS):
                continue
            if consent is None or entry.seq > consent.seq:
                consent = entry
        elif lane is Lane.OBJECTION:
            if objection is None or entry.seq > objection.seq:
                objection = entry
        elif opt_out is None or entry.seq > opt_out.seq:
            opt_out = entry
    return Lanes(consent, objection, opt_out)


def consent_problem(leaf: Purpose, entry: ConsentEntry | None, now: int) -> Reason | None:
    """Why consent holds for no category of `leaf` at `now`; None when it holds for those in its scope.

    A grant counts only with the notice that the purpose names, and needs an expiry where the purpose
    demands one, also when the purpose began to demand it after the grant.
    """
    if entry is None:
        return Reason.CONSENT_MISSING
    if entry.state not in _GRANTS:
        return _ENDED.get(entry.state, Reason.CONSENT_MISSING)
    if entry.expires_at:
        if now >= entry.expires_at:
            return Reason.CONSENT_EXPIRED
    elif leaf.consent_lifetime_seconds:
        return Reason.CONSENT_EXPIRED
    if leaf.notice and entry.notice != leaf.notice:
        return Reason.NOTICE_OUTDATED
    return Reason.NOTICE_OUTDATED if entry.notice_version < leaf.notice_minimum_version else None


def marketing_objections(
    purposes: Mapping[str, Purpose], consents: Sequence[ConsentEntry]
) -> tuple[ConsentEntry, ...]:
    """Objections in force at any direct-marketing leaf, its own or inherited (GDPR 21(3))."""
    objections = [entry for entry in consents if entry.lane is Lane.OBJECTION]
    if not objections:
        return ()
    found: dict[str, ConsentEntry] = {}
    for purpose in purposes.values():
        if purpose.leaf and purpose.direct_marketing:
            lanes = lanes_of(purpose, objections)
            if lanes.objected and lanes.objection is not None:
                found[lanes.objection.event_id] = lanes.objection
    return tuple(found.values())
