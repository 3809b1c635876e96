"""What verification of a log says."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was appended or signed.

    `index` is that of the record concerned, or None where it concerns the log as a whole.
    """

    what: str
    index: int | None = None
    record_id: str = ""


@dataclass(slots=True)
class VerifyReport:
    """What verification saw. `signed_size` records are covered by a verified checkpoint; those behind it
    wait for the next one. `problems` are in the order they were met, at most 20."""

    origin: str
    size: int
    first: int = 0
    checkpoints: int = 0
    signed_size: int = 0
    root: bytes = b""
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def first_problem(self) -> Problem | None:
        """The problem with the lowest index; those of the log as a whole come last."""
        return min(self.problems, key=lambda p: (p.index is None, p.index or 0), default=None)
