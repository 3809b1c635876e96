"""Work on many rows in slices that each hold the write slot for about `group_milliseconds`: between two of
them it goes to whoever waits for it, so that no amount of old rows holds up a change or a group of reads."""

from typing import Final

from vault.domain.limits import LIMITS

FEWEST_ROWS: Final = 8


def fitting(rows: int, seconds: float, most: int) -> int:
    """How many rows fill a slice, when `rows` took `seconds`: at least 8, at most `most` and twice `rows`."""
    filling = int(rows * LIMITS.group_milliseconds / max(seconds * 1_000, 0.1))
    return max(FEWEST_ROWS, min(filling, rows * 2, most))
