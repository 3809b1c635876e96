"""How many wrapped keys there are of each version of the key that wrapped them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vault.domain.errors import IntegrityError
from vault.domain.protocols import KeyProvider
from vault.store.key_rows import KeySource, MarkCount

UNREADABLE: Final = 0
"""Stands for the version of what the provider in use never wrapped."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows of one source with one mark."""

    source: KeySource
    mark: bytes
    version: int
    rows: int


@dataclass(frozen=True, slots=True)
class Census:
    """What one key wraps, counted at one moment."""

    counted: tuple[Counted, ...]

    @property
    def total(self) -> int:
        """All wrapped keys."""
        return sum(each.rows for each in self.counted)

    def versions(self) -> dict[int, int]:
        """Wrapped keys by version, UNREADABLE included, oldest first."""
        found: dict[int, int] = {}
        for each in sorted(self.counted, key=lambda each: each.version):
            found[each.version] = found.get(each.version, 0) + each.rows
        return found

    def stragglers(self, newest: int) -> int:
        """Wrapped keys that are not of the version `newest` or a later one."""
        return sum(each.rows for each in self.counted if each.version < newest)

    def old_marks(self, newest: int) -> dict[KeySource, list[bytes]]:
        """Where the stragglers are, and by which marks they are found."""
        found: dict[KeySource, list[bytes]] = {}
        for each in self.counted:
            if each.version < newest:
                found.setdefault(each.source, []).append(each.mark)
        return found


def census(counts: Iterable[MarkCount], sources: Sequence[KeySource], provider: KeyProvider) -> Census:
    """The counts of these sources, by version."""
    return Census(
        tuple(
            Counted(each.source, each.mark, _version(provider, each.mark), each.rows)
            for each in counts
            if each.source in sources
        )
    )


def _version(provider: KeyProvider, mark: bytes) -> int:
    try:
        # what comes after the mark plays no part in the version, but it has to be base64
        return provider.wrapped_version(mark + b":AAAA")
    except IntegrityError:
        return UNREADABLE
