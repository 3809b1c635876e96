"""Verification of a whole log: everything stored is recomputed from the entries (audit.md).

Records are read a stretch at a time (stretch.py): entry against leaf hash, and, unless it is turned off, the
contents: every record canonical, under its own id, and the query index equal to it (contents.py). Their leaf
hashes go, in order, into a tree that is held against tiles, roots and signatures here.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.checkpoint import Checkpoint, signed_by
from vault.audit.key_chain import KeyChain, follow
from vault.audit.merkle import HASH_BYTES, TILE_WIDTH
from vault.audit.report import Problem, VerifyReport
from vault.audit.sql import driver_errors
from vault.audit.sql import fetch_tolerantly as fetch
from vault.audit.stretch import Plan, Readers, Stretch, reading, spans
from vault.audit.tree import TILE_BYTES, TreeBuilder, stored_tile, stored_tiles
from vault.domain.errors import IntegrityError, NotFoundError

__all__ = ["Problem", "VerifyReport", "verify"]

Progress = Callable[[int, int], None]

_PROBLEMS: Final = 20
_HEAD: Final = "SELECT origin, size, integrated FROM log WHERE log = ?"
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
    readers: Readers | None = None,
) -> VerifyReport:
    """Verify a log, in one snapshot.

    Args:
        vkeys: trusted keys of the log. Its other keys follow from these by its announcements
            (key_chain.py); a checkpoint must be signed by the keys whose turn it was.
        from_checkpoint: verified and kept earlier: what it covers is not read again, and the log must
            extend it.
        progress: called with (records verified, records in all).
        contents: False checks hashes, tree and signatures alone, in half the time.
        readers: read and hash the records for it, from snapshots that are not older; None: this connection.

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
        plan = Plan(log, integrated, chain.announced, contents)
        verification = _Verification(connection, plan, chain, VerifyReport(origin, size))
        return verification.run(from_checkpoint, readers or reading(connection), progress)


class _Verification:
    """One run over one log; `report` gathers what it meets."""

    def __init__(self, connection: Connection, plan: Plan, chain: KeyChain, report: VerifyReport) -> None:
        self.connection = connection
        self.plan = plan
        self.log, self.integrated = plan.log, plan.integrated
        self.chain = chain
        self.report = report
        self.tree = TreeBuilder()
        self.previous = 0
        """Size of the checkpoint before."""

    def run(self, start: Checkpoint | None, readers: Readers, progress: Progress | None) -> VerifyReport:
        report = self.report
        for fault in self.chain.faults:
            self._bad(fault.what, fault.index)
        if start is None or self._start_from(start):
            for stretch in readers(self.plan, spans(self.tree.size, report.size)):
                report.problems += stretch.problems
                self._grow(stretch)
                if not stretch.whole or len(report.problems) >= _PROBLEMS:
                    # the tree cannot be followed further, or enough was said
                    break
                if progress is not None:
                    progress(self.tree.size, report.size)
            report.root = self.tree.root()
        self._keys()
        self._totals()
        del report.problems[_PROBLEMS:]
        return report

    def _bad(self, what: str, index: int | None = None) -> None:
        self.report.problems.append(Problem(what, index))

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

    # --- tree -------------------------------------------------------------------------------------------

    def _grow(self, stretch: Stretch) -> None:
        """Add the leaves tile by tile; compare roots where one was signed, tiles as they fill up."""
        signed = fetch(self.connection, _CHECKPOINTS, (self.log, stretch.first, stretch.end))
        done = 0
        while done < len(stretch.leaves):
            take = self._until_edge(len(stretch.leaves) - done, signed)
            changed = self.tree.add([stretch.leaves[done : done + take]])
            done += take
            while signed and signed[0][0] <= self.tree.size:
                self._checkpoint(signed.pop(0))
            if self.tree.size <= self.integrated:
                edge = self.tree.size == self.integrated
                self._tiles(changed if not edge else changed | self.tree.rightmost(), edge)

    def _until_edge(self, left: int, signed: list[Any]) -> int:
        """Bytes of leaves up to the next place where something is compared."""
        size = self.tree.size
        edges = [TILE_WIDTH - size % TILE_WIDTH, left // HASH_BYTES]
        if size < self.integrated:
            edges.append(self.integrated - size)
        if signed:
            # a size that was changed by hand may be no integer
            edges.append(max(1, int(signed[0][0]) - size))
        return min(edges) * HASH_BYTES

    def _tiles(self, tiles: dict[tuple[int, int], bytes], edge: bool) -> None:
        for (level, index), hashes in tiles.items():
            if len(hashes) < TILE_BYTES and not edge:
                continue
            stored = stored_tile(self.connection, self.log, level, index)
            if stored != hashes:
                place = _first_difference(stored, hashes) + index * TILE_WIDTH
                what = f"the stored hash tile {level}/{index} is not that of the records"
                self._bad(what, place if level == 0 else None)

    def _checkpoint(self, row: Any) -> None:
        size, stored_root, note = row
        previous, self.previous = self.previous, size
        expected = self.tree.root()
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


def _tiles_per_level(size: int) -> Iterator[int]:
    while size > 0:
        yield -(-size // TILE_WIDTH)
        size //= TILE_WIDTH
