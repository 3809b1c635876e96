"""How the interpreter is set for a process that serves."""

import gc
import sys

from vault.server.interpreter import settle


def test_what_was_made_before_serving_is_passed_over_by_the_collector() -> None:
    """And what comes later is not."""
    before: list[object] = [[]]
    interval = sys.getswitchinterval()
    try:
        settle()
        later: list[object] = [[]]
        tracked = {id(each) for each in gc.get_objects()}
        assert id(before) not in tracked
        assert id(later) in tracked
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval)
