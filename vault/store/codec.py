"""Columns to domain values and back. Few distinct texts occur in many rows, so their parses are kept."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from vault.domain.errors import IntegrityError
from vault.domain.types import ConsentState, Lane

_LANES: Final = {lane.value: lane for lane in Lane}
_STATES: Final = {state.value: state for state in ConsentState}
_MOST_NEGATIVE: Final = {
    Lane.CONSENT: ConsentState.INVALIDATED,
    Lane.OBJECTION: ConsentState.OBJECTED,
    Lane.OPT_OUT: ConsentState.OPTED_OUT,
}


def joined(names: Iterable[str]) -> str:
    """A set of names (none holds a comma) as the text of one column."""
    return ",".join(sorted(names))


@lru_cache(maxsize=4_096)
def names(text: str) -> tuple[str, ...]:
    """What `joined` joined, sorted."""
    return tuple(text.split(",")) if text else ()


@lru_cache(maxsize=4_096)
def name_set(text: str) -> frozenset[str]:
    """What `joined` joined."""
    return frozenset(names(text))


@lru_cache(maxsize=256)
def lane_and_state(lane: str, state: str) -> tuple[Lane, ConsentState]:
    """The stored lane and state.

    What this release does not know (a newer one wrote it) is read as the lane's most negative state, so it
    takes away and never gives.
    """
    known = _LANES.get(lane, Lane.CONSENT)
    found = _STATES.get(state)
    if found is None or lane not in _LANES or found.lane is not known:
        return known, _MOST_NEGATIVE[known]
    return known, found


def event_state(state: str) -> ConsentState:
    """The state of a stored event.

    Raises:
        IntegrityError: this release does not know it.
    """
    found = _STATES.get(state)
    if found is None:
        raise IntegrityError("a consent event has a state that this release does not know")
    return found
