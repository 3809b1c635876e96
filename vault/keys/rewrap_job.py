"""One rewrap under way: what was wished, how far it is, what stands on record of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from vault.domain.errors import DatavaultError
from vault.keys.phases import Phase
from vault.keys.targets import KeyTarget
from vault.recording import RecordedAt
from vault.store.key_rows import KeyRow, KeySource, KeyTable

log = structlog.get_logger("datavault.keys")

_FIRST_SLICE: Final = 64
_NAMED_FAILURES: Final = 20


@dataclass(frozen=True, slots=True)
class RewrapWish:
    """`keys_per_second` 0: no limit. `keep_old_versions`: do not retire, though nothing is left."""

    word: str
    dry_run: bool = False
    keys_per_second: int = 0
    keep_old_versions: bool = False


@dataclass(frozen=True, slots=True)
class RewrapProgress:
    """How far it is; the last one, of phase DONE, is the result.

    `scanned` of `total` wrapped keys are looked at; `failed` did not open and were left. `stragglers`,
    `min_decryption_version` and `recorded` are set with DONE. `pause_seconds` is how long whoever takes the
    steps waits before the next one (on the event loop: no thread is held by a wait).
    """

    phase: Phase
    scanned: int = 0
    rewrapped: int = 0
    failed: int = 0
    total: int = 0
    stragglers: int = 0
    min_decryption_version: int = 0
    recorded: RecordedAt | None = None
    pause_seconds: float = 0.0


@dataclass(slots=True)
class RewrapJob:
    """One rewrap under way. `failed` counts in the pass under way, and in the end in the last one."""

    target: KeyTarget
    wish: RewrapWish
    total: int
    scanned: int
    stragglers: int
    rewrapped: int = 0
    failed: int = 0
    slice_rows: int = _FIRST_SLICE

    def begin_pass(self) -> None:
        self.failed = 0
        self.scanned = max(0, self.total - self.stragglers)

    def fail(self, source: KeySource, rows: Iterable[tuple[KeyRow, DatavaultError]]) -> None:
        """Count what does not open, and name the first few of it to operators."""
        for row, error in rows:
            if self.failed < _NAMED_FAILURES:
                log.error(
                    "key_not_rewrapped",
                    kind=self.target.word,
                    reason=error.reason.value,
                    row=_name(row, source),
                )
            self.failed += 1

    def progress(self, phase: Phase, pause_seconds: float = 0.0) -> RewrapProgress:
        return RewrapProgress(
            phase,
            scanned=min(self.scanned, self.total),
            rewrapped=self.rewrapped,
            failed=self.failed,
            total=self.total,
            pause_seconds=pause_seconds,
        )

    def detail(self, stage: str) -> dict[str, str | int]:
        return {
            "key": self.target.word,
            "stage": stage,
            "rewrapped": self.rewrapped,
            "failed": self.failed,
            "stragglers": self.stragglers,
        }


def _name(row: KeyRow, source: KeySource) -> str:
    """By which operators find a row: the DEK's id, the receipt, or the tenant and the version of its key."""
    if source.table is KeyTable.TENANT:
        return f"{source.table} {row.place[0]} {row.place[2]}"
    last = row.place[-1]
    return f"{source.table} {last.hex() if isinstance(last, bytes) else '(not of its type)'}"
