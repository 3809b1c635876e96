"""The growing tree and the tiles it is stored in: what integrator, verification and proofs share."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection

from vault.audit.merkle import HASH_BYTES, TILE_WIDTH, Tiles, perfect_root, root, tile_widths
from vault.audit.sql import fetch
from vault.domain.errors import IntegrityError

TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
_TILE: Final = 'SELECT hashes FROM log_tile WHERE log = ? AND level = ? AND "index" = ?'


class TreeBuilder:
    """A tree that grows by leaf hashes. Holds the rightmost tile of each level (the frontier) alone."""

    def __init__(self, size: int = 0, tiles: Tiles | None = None) -> None:
        """Continue a tree of `size` leaves.

        Raises:
            IntegrityError: a rightmost tile is missing or too short.
        """
        self.size = size
        self._partial: list[bytes] = []
        for level, index, width in tile_widths(size):
            self._level(level)
            hashes = tiles(level, index)[: width * HASH_BYTES] if tiles else b""
            if len(hashes) != width * HASH_BYTES:
                raise IntegrityError(f"hash tile {level}/{index} is shorter than the log's size demands")
            self._partial[level] = hashes

    def copy(self) -> "TreeBuilder":
        """A second builder in the same state."""
        twin = TreeBuilder()
        twin.size, twin._partial = self.size, list(self._partial)
        return twin

    def add(self, leaves: Iterable[bytes]) -> dict[tuple[int, int], bytes]:
        """Append leaf hashes; returns the tiles that changed, by (level, index), at their new width."""
        added = b"".join(leaves)
        self.size += len(added) // HASH_BYTES
        changed: dict[tuple[int, int], bytes] = {}
        level = 0
        while added:
            hashes = self._level(level) + added
            ends = self.size // TILE_WIDTH**level
            index = (ends - len(hashes) // HASH_BYTES) // TILE_WIDTH
            full = [hashes[i : i + TILE_BYTES] for i in range(0, len(hashes) - TILE_BYTES + 1, TILE_BYTES)]
            changed.update({(level, index + place): tile for place, tile in enumerate(full)})
            self._partial[level] = hashes[len(full) * TILE_BYTES :]
            if self._partial[level]:
                changed[level, index + len(full)] = self._partial[level]
            added = b"".join(map(perfect_root, full))
            level += 1
        return changed

    def rightmost(self) -> dict[tuple[int, int], bytes]:
        """The partial tiles at the right edge, by (level, index)."""
        return {(level, index): self._partial[level] for level, index, _ in tile_widths(self.size)}

    def partial(self, level: int) -> bytes:
        """The hashes of the rightmost tile of `level`, where it is not full."""
        return self._level(level)

    def root(self) -> bytes:
        """Root over all leaves so far."""
        return root(self.size, lambda level, _: self._level(level))

    def _level(self, level: int) -> bytes:
        while len(self._partial) <= level:
            self._partial.append(b"")
        return self._partial[level]


def stored_tile(connection: Connection, log: int, level: int, index: int) -> bytes:
    """The tile as stored, b"" where there is none. Call it under `driver_errors`."""
    rows = fetch(connection, _TILE, (log, level, index))
    return bytes(rows[0][0]) if rows and isinstance(rows[0][0], bytes) else b""


def stored_tiles(connection: Connection, log: int) -> Tiles:
    """The tiles of a log, each fetched once, for the proofs of one snapshot."""
    known: dict[tuple[int, int], bytes] = {}

    def tile(level: int, index: int) -> bytes:
        if (level, index) not in known:
            known[level, index] = stored_tile(connection, log, level, index)
        return known[level, index]

    return tile
