"""Verification of a whole log: everything stored is recomputed from the entries (audit.md).

Hashes first: entry, leaf hash, tiles, roots, signatures. Then, unless it is turned off, the contents: every
record canonical, under its own id, and the query index equal to it (contents.py).
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.announcement import ACTION as ANNOUNCES_KEY
from vault.audit.checkpoint import Checkpoint, signed_by
from vault.audit.contents import Contents
from vault.audit.indexing import INDEX_COLUMNS, IndexRow
from vault.audit.key_chain import KeyChain, follow
from vault.audit.merkle import HASH_BYTES, TILE_WIDTH, Tiles, root
from vault.audit.report import Problem, VerifyReport
from vault.audit.sql import driver_errors
from vault.audit.sql import fetch_tolerantly as fetch
from vault.audit.tree import TILE_BYTES, TreeBuilder, stored_tile, stored_tiles
from vault.domain.errors import IntegrityError, NotFoundError

__all__ = ["Problem", "VerifyReport", "verify"]

Progress = Callable[[int, int], None]

_CHUNK_RECORDS: Final = 16 * TILE_WIDTH
_PROBLEMS: Final = 20
_HEAD: Final = "SELECT origin, size, integrated FROM log WHERE log = ?"
_ENTRIES: Final = (
    'SELECT "index", record_id, entry, leaf_hash FROM log_entry '
    'WHERE log = ? AND "index" >= ? AND "index" < ? ORDER BY "index"'
)
_INDEX: Final = (
    f'SELECT "index", {INDEX_COLUMNS} FROM audit_index '  # noqa: S608 -- a constant
    'WHERE log = ? AND "index" >= ? AND "index" < ? ORDER BY "index"'
)
_CHECKPOINTS: Final = (
    "SELECT size, root, note FROM log_checkpoint WHERE log = ? AND size > ? AND size <= ? ORDER BY size"
)
_COUNTS: Final = {
    "log_entry": "SELECT count(*) FROM log_entry WHERE log = ?",
    "audit_index": "SELECT count(*) FROM audit_index WHERE log = ?",
    "log_tile": "SELECT count(*) FROM log_tile WHERE log = ?",
}
_BEYOND: Final = "SELECT count(*), min(size) FROM log_checkpoint WHERE log = ? AND (size > ? OR size <= 0)"


def verify(
    connection: Connection,
    log: int,
    *vkeys: str,
    from_checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    contents: bool = True,
) -> VerifyReport:
    """Verify a log, in one snapshot.

    Args:
        vkeys: trusted keys of the log. Its other keys follow from these by its announcements
            (key_chain.py); a checkpoint must be signed by the keys whose turn it was.
        from_checkpoint: verified and kept earlier: what it covers is not read again, and the log must
            extend it.
        progress: called with (records verified, records in all).
        contents: False checks hashes, tree and signatures alone, in less than half the time.

    Raises:
        NotFoundError: there is no such log.
        AuditUnavailableError: the database did not answer.
        ConfigurationError: a vkey is not one.
    """
    with driver_errors(connection):
        heads = fetch(connection, _HEAD, (log,))
        if not heads:
            raise NotFoundError("there is no such audit log")
        origin, size, integrated = heads[0]
        recomputed_from = from_checkpoint.size if from_checkpoint else 0
        chain = follow(connection, log, origin, vkeys, recomputed_from=recomputed_from)
        verification = _Verification(connection, log, chain, contents, origin, size, integrated)
        return verification.run(from_checkpoint, progress)


class _Verification:
    """One run over one log; `report` gathers what it meets."""

    def __init__(
        self,
        connection: Connection,
        log: int,
        chain: KeyChain,
        with_contents: bool,
        origin: str,
        size: int,
        integrated: int,
    ) -> None:
        self.connection = connection
        self.log = log
        self.chain = chain
        self.with_contents = with_contents
        self.integrated = integrated
        self.report = VerifyReport(origin, size)
        self.tree = TreeBuilder()
        self.contents = Contents()
        self.previous = 0
        """Size of the checkpoint before."""

    def run(self, start: Checkpoint | None, progress: Progress | None) -> VerifyReport:
        report = self.report
        for fault in self.chain.faults:
            self._bad(fault.what, fault.index)
        if start is None or self._start_from(start):
            while self.tree.size < report.size and self._chunk() and len(report.problems) < _PROBLEMS:
                if progress is not None:
                    progress(self.tree.size, report.size)
            report.root = self.tree.root()
        self._keys()
        self._totals()
        del report.problems[_PROBLEMS:]
        return report

    def _bad(self, what: str, index: int | None = None, record_id: object = "") -> None:
        self.report.problems.append(Problem(what, index, record_id if isinstance(record_id, str) else ""))

    def _start_from(self, start: Checkpoint) -> bool:
        report = self.report
        if start.origin != report.origin:
            self._bad(f"the kept checkpoint is one of {start.origin}")
            return False
        if start.size > report.size:
            self._bad(f"the log is shorter than the kept checkpoint of {start.size} records", report.size)
            return False
        try:
            if start.size <= self.integrated:
                self.tree = TreeBuilder(start.size, stored_tiles(self.connection, self.log))
            if self.tree.root() != start.root or self.tree.size != start.size:
                raise IntegrityError("the log does not extend the kept checkpoint")
        except IntegrityError as error:
            self._bad(error.message)
            return False
        report.first = report.signed_size = self.previous = start.size
        return True

    def _chunk(self) -> bool:
        """Verify the next records; False where the tree cannot be followed further."""
        base = self.tree.size
        end = min(self.report.size, base - base % TILE_WIDTH + _CHUNK_RECORDS)
        rows = fetch(self.connection, _ENTRIES, (self.log, base, end))
        whole = [row[0] for row in rows] == list(range(base, end))
        if not whole:
            missing = next(
                (place for place, row in enumerate(rows, base) if row[0] != place), base + len(rows)
            )
            self._bad("the record is missing", missing)
            rows = rows[: missing - base]
        leaves = self._leaves(rows)
        if self.with_contents:
            self._records(rows, base)
        checkpoints = fetch(self.connection, _CHECKPOINTS, (self.log, base, base + len(rows)))
        self._grow(leaves, checkpoints)
        return whole

    def _leaves(self, rows: list[Any]) -> list[bytes]:
        """The leaf hashes to go on with: where one is not that of its record, that is said here, and the
        stored one goes into the tree, so that the tree's own checks name nothing that follows from it."""
        try:
            leaves = [sha256(b"\x00" + row[2]).digest() for row in rows]
        except TypeError:
            leaves = [sha256(b"\x00" + _as_bytes(row[2])).digest() for row in rows]
        if leaves == [row[3] for row in rows]:
            return leaves
        for row, leaf in zip(rows, leaves, strict=True):
            if row[3] != leaf:
                self._bad("the record is not the one whose hash was stored", row[0], row[1])
        return [
            row[3] if len(_as_bytes(row[3])) == HASH_BYTES else leaf
            for row, leaf in zip(rows, leaves, strict=True)
        ]

    def _records(self, rows: list[Any], base: int) -> None:
        edge = min(base + len(rows), max(base, self.integrated))
        indexed = {row[0]: row[1:] for row in fetch(self.connection, _INDEX, (self.log, base, edge))}
        check, integrated = self.contents.problem, self.integrated
        for index, record_id, entry, _ in rows:
            row = indexed.get(index)
            what = check(record_id, entry, row, index < integrated) or self._unheard_of(index, row)
            if what:
                self._bad(what, index, record_id)

    def _unheard_of(self, index: int, row: IndexRow | None) -> str | None:
        if row is None or row[-2] != ANNOUNCES_KEY or index in self.chain.announced:
            return None
        return "the record announces a log key that is not the log's"

    # --- tree -------------------------------------------------------------------------------------------

    def _grow(self, leaves: list[bytes], checkpoints: list[Any]) -> None:
        """Add the leaves tile by tile; compare tiles as they fill up, roots where one was signed."""
        done = 0
        waiting = iter(checkpoints)
        checkpoint = next(waiting, None)
        while done < len(leaves):
            take = self._until_edge(len(leaves) - done)
            block = b"".join(leaves[done : done + take])
            while checkpoint is not None and checkpoint[0] <= self.tree.size + take:
                self._checkpoint(checkpoint, block)
                checkpoint = next(waiting, None)
            changed = self.tree.add([block])
            done += take
            if self.tree.size <= self.integrated:
                edge = self.tree.size == self.integrated
                self._tiles(changed if not edge else changed | self.tree.rightmost(), edge)

    def _until_edge(self, left: int) -> int:
        size = self.tree.size
        edges = [TILE_WIDTH - size % TILE_WIDTH, left]
        if size < self.integrated:
            edges.append(self.integrated - size)
        return min(edges)

    def _tiles(self, tiles: dict[tuple[int, int], bytes], edge: bool) -> None:
        for (level, index), hashes in tiles.items():
            if len(hashes) < TILE_BYTES and not edge:
                continue
            stored = stored_tile(self.connection, self.log, level, index)
            if stored != hashes:
                place = _first_difference(stored, hashes) + index * TILE_WIDTH
                what = f"the stored hash tile {level}/{index} is not that of the records"
                self._bad(what, place if level == 0 else None)

    def _checkpoint(self, row: Any, block: bytes) -> None:
        size, stored_root, note = row
        previous, self.previous = self.previous, size
        expected = root(size, self._tiles_with(block))
        self.report.checkpoints += 1
        try:
            checkpoint, signed = signed_by(note if isinstance(note, str) else "", *self.chain.known)
        except IntegrityError as error:
            self._bad(f"checkpoint {size}: {error.message}", size - 1)
            return
        if checkpoint.origin != self.report.origin or checkpoint.size != size:
            self._bad(f"checkpoint {size}: it belongs to another place", size - 1)
        elif checkpoint.root != expected:
            self._bad(f"checkpoint {size}: the records up to here are not those that were signed", size - 1)
        elif stored_root != expected:
            self._bad(f"checkpoint {size}: its stored root is not the signed one", size - 1)
        elif self.chain.missing(signed, previous, size):
            self._bad(f"checkpoint {size}: it is not signed by the log key whose turn it was", size - 1)
        else:
            self.report.signed_size = size

    def _tiles_with(self, block: bytes) -> Tiles:
        """The rightmost tiles, as if `block`, which does not pass the end of its tile, were added."""
        changed = {level: hashes for (level, _), hashes in self.tree.copy().add([block]).items()}
        return lambda level, _: changed.get(level) or self.tree.partial(level)

    def _keys(self) -> None:
        chain = self.chain
        untouched = not chain.first or chain.links or chain.faults
        if not untouched and self.report.signed_size and chain.first not in chain.known:
            self._bad("the log's stored key is not the one that signs")

    def _totals(self) -> None:
        report = self.report
        counts = {name: fetch(self.connection, sql, (self.log,))[0][0] for name, sql in _COUNTS.items()}
        if counts["log_entry"] != report.size:
            self._bad(f"the head says {report.size} records and {counts['log_entry']} are stored")
        if not 0 <= self.integrated <= report.size:
            self._bad(f"the head says {self.integrated} of {report.size} records are integrated")
        if counts["audit_index"] != self.integrated:
            self._bad(f"the query index holds {counts['audit_index']} records of {self.integrated}")
        if counts["log_tile"] != sum(_tiles_per_level(self.integrated)):
            self._bad(f"{counts['log_tile']} hash tiles are stored for {self.integrated} records")
        beyond, lowest = fetch(self.connection, _BEYOND, (self.log, report.size))[0]
        if beyond:
            self._bad(f"a checkpoint was signed for {lowest} records, the log holds {report.size}")


def _first_difference(stored: bytes, hashes: bytes) -> int:
    """Which hash of a tile differs first."""
    width = len(hashes) // HASH_BYTES
    parts = (slice(place * HASH_BYTES, (place + 1) * HASH_BYTES) for place in range(width))
    return next((place for place, part in enumerate(parts) if stored[part] != hashes[part]), width - 1)


def _as_bytes(data: object) -> bytes:
    return data if isinstance(data, bytes) else b""


def _tiles_per_level(size: int) -> Iterator[int]:
    while size > 0:
        yield -(-size // TILE_WIDTH)
        size //= TILE_WIDTH
