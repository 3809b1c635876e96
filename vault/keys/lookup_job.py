"""One rotation of a lookup key under way: how far it is, and what stands on record of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from vault.crypto.lookup_keys import LookupKeys
from vault.keys.phases import Phase
from vault.recording import RecordedAt

log = structlog.get_logger("datavault.keys")

_FIRST_SLICE: Final = 64
_NAMED_FAILURES: Final = 20


@dataclass(frozen=True, slots=True)
class LookupProgress:
    """How far it is; the last one, of phase DONE, is the result.

    `indexed` of `total` customers are found by the key `version`; `failed` are those whose number does not
    open, who keep the rotation from ending. `recorded` is set with DONE. `pause_seconds` is how long whoever
    takes the steps waits before the next one.
    """

    indexed: int
    total: int
    failed: int
    version: int
    phase: Phase
    recorded: RecordedAt | None = None
    pause_seconds: float = 0.0


@dataclass(slots=True)
class LookupJob:
    """`lookup` are the keys it works with, `version` the one that customers are indexed under.

    `indexed`, `failed` and `moved` count in the pass under way, and in the end in the last one.
    """

    lookup: LookupKeys
    total: int
    version: int
    indexed: int = 0
    failed: int = 0
    moved: int = 0
    slice_rows: int = _FIRST_SLICE

    @property
    def under_way(self) -> bool:
        """Whether there is an older version left to retire."""
        return len(self.lookup.in_force) > 1

    def begin_pass(self) -> None:
        self.indexed = self.failed = self.moved = 0

    def fail(self, subjects: Iterable[bytes]) -> None:
        """Count customers who cannot be indexed, and name the first few to operators, by subject id."""
        for subject in subjects:
            if self.failed < _NAMED_FAILURES:
                log.error("customer_not_indexed", row=subject.hex())
            self.failed += 1

    def progress(self, phase: Phase, pause_seconds: float = 0.0) -> LookupProgress:
        return LookupProgress(
            min(self.indexed, self.total),
            self.total,
            self.failed,
            self.version,
            phase,
            pause_seconds=pause_seconds,
        )

    def detail(self, stage: str) -> dict[str, str | int]:
        return {
            "key": "lookup",
            "stage": stage,
            "version": self.version,
            "indexed": self.indexed,
            "failed": self.failed,
        }
