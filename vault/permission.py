"""May a caller do an act that concerns no attribute? Asked by every pipeline but disclosure."""

from vault.domain.errors import NotPermittedError
from vault.domain.types import Act, Caller
from vault.policy.live import Loaded


def authorise(loaded: Loaded, caller: Caller, act: Act) -> str:
    """Let the rules decide; returns the id of the deciding rule.

    Raises:
        NotPermittedError.
    """
    decision = loaded.engine.act(caller.id, act.value)
    if decision.reason is not None:
        raise NotPermittedError(f"no rule permits {act.value}")
    return decision.rule
