"""Indexing customers under the newest lookup key, and dropping the rows of older ones: the passes of a
rotation (lookup_rotation.py).

A pass goes through all customers by subject id, a page at a time, each page read in a snapshot of its own.
What there is to do in it is done in slices, each one transaction that looks again whether it is still to do.
A row of the new key and the number sealed under it are written together, so no customer is ever half indexed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from vault.crypto.envelope import CUSTOMER_NUMBER
from vault.domain.errors import IntegrityError
from vault.domain.protocols import Clock, Randomness, Transactions
from vault.keys.lookup_job import LookupJob, LookupProgress
from vault.keys.phases import Phase
from vault.slicing import fitting
from vault.store.lookups import Indexed, LookupIndex, Unindexed
from vault.store.subjects import SubjectRepository

_PAGE_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Renewed:
    """What a customer gets: the MAC, and the number sealed anew in place of `old`."""

    subject: bytes
    mac: bytes
    old: bytes
    new: bytes


_Slice = Callable[[Connection, LookupJob, Sequence[bytes]], Sequence[bytes]]
"""Work on some subjects in a transaction; returns those that failed."""


class LookupIndexing:
    """Holds what the passes need; has no state of its own between calls."""

    def __init__(
        self,
        transactions: Transactions,
        index: LookupIndex,
        subjects: SubjectRepository,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._transactions = transactions
        self._index_rows = index
        self._subjects = subjects
        self._clock = clock
        self._randomness = randomness

    def index_all(self, job: LookupJob, phase: Phase, rate: int) -> Iterator[LookupProgress]:
        """One pass: index every customer who is not yet. `rate` customers a second at most, 0 for no limit.

        Raises:
            StoreUnavailableError: what was indexed stays so.
        """
        job.begin_pass()
        for page in self._pages(job, min(_PAGE_ROWS, rate or _PAGE_ROWS)):
            began = self._clock.monotonic()
            lacking = [each.subject for each in page if each.newest < job.version]
            job.indexed += len(page) - len(lacking)
            for part, failed in self._in_slices(job, lacking, self._index):
                job.fail(failed)
                job.moved += len(part) - len(failed)
                job.indexed += len(part) - len(failed)
            took = self._clock.monotonic() - began
            yield job.progress(phase, max(0.0, len(lacking) / rate - took) if rate else 0.0)

    def drop_older(self, job: LookupJob) -> Iterator[LookupProgress]:
        """One pass: delete every row of an older version than the job's.

        Raises:
            StoreUnavailableError: what was dropped stays so.
        """
        for page in self._pages(job, _PAGE_ROWS):
            having = [each.subject for each in page if each.oldest < job.version]
            for _ in self._in_slices(job, having, self._drop):
                pass
            yield job.progress(Phase.CHECKING)

    def _pages(self, job: LookupJob, rows: int) -> Iterator[Sequence[Indexed]]:
        after = b""
        while True:
            with self._transactions.read() as connection:
                page = self._index_rows.page(connection, job.lookup.tenant, after, rows)
            if not page:
                return
            after = page[-1].subject
            yield page

    def _in_slices(
        self, job: LookupJob, subjects: Sequence[bytes], work: _Slice
    ) -> Iterator[tuple[Sequence[bytes], Sequence[bytes]]]:
        """Do `work` in transactions that each hold the write slot for a short time; per committed one the
        subjects it was for, and those of them that failed."""
        done = 0
        while done < len(subjects):
            part = subjects[done : done + job.slice_rows]
            with self._transactions.write() as connection:
                began = self._clock.monotonic()
                failed = work(connection, job, part)
            job.slice_rows = fitting(len(part), self._clock.monotonic() - began, _PAGE_ROWS)
            done += len(part)
            yield part, failed

    def _index(self, connection: Connection, job: LookupJob, subjects: Sequence[bytes]) -> Sequence[bytes]:
        tenant = job.lookup.tenant
        rows = self._index_rows.unindexed(connection, tenant, subjects, job.version, CUSTOMER_NUMBER)
        renewed = {row.subject: self._renew(job, row) for row in rows}
        whole = [each for each in renewed.values() if each is not None]
        owners = self._index_rows.owners(connection, tenant, [each.mac for each in whole])
        # one number of two customers cannot be; where rows were meddled with, neither is indexed
        macs = Counter(each.mac for each in whole)
        good = [each for each in whole if each.mac not in owners and macs[each.mac] == 1]
        self._subjects.add_lookups(
            connection, tenant, [(each.mac, job.version, each.subject) for each in good]
        )
        self._index_rows.reseal(
            connection, tenant, CUSTOMER_NUMBER, [(each.subject, each.old, each.new) for each in good]
        )
        return sorted(renewed.keys() - {each.subject for each in good})

    def _renew(self, job: LookupJob, row: Unindexed) -> _Renewed | None:
        """None where the number does not open, or is not the one that the customer is found by."""
        if row.number is None:
            return None
        try:
            number = job.lookup.open_number(row.subject, row.number)
        except IntegrityError:
            return None
        macs = job.lookup.macs(number)
        if row.macs.isdisjoint(macs):
            return None
        sealed = job.lookup.seal_number(row.subject, number, self._randomness)
        return _Renewed(row.subject, macs[0], row.number, sealed)

    def _drop(self, connection: Connection, job: LookupJob, subjects: Sequence[bytes]) -> Sequence[bytes]:
        self._index_rows.drop(connection, job.lookup.tenant, subjects, job.version)
        return ()
