"""Bringing what a key wraps to its newest version, then retiring the older ones (keys.md, "Rotation").

    1 authorise   the act keys.rewrap; check the fields
    2 record      that it begins
    3 rewrap      whatever is of an older version, in pages: the provider outside of any transaction, then
                  slices of `UPDATE ... WHERE wrapped = :old`; until a count finds nothing left
    4 wait        one longest deadline, so that no call is left that read an old wrapped key
    5 check       count again: only when nothing is left
    6 retire      the older versions
    7 record      what was done, or where it was broken off

It can be broken off between any two steps, killed, run again and run twice at once: what was rewrapped stays
so, and a row that somebody else changed is left as it is. New keys are wrapped by the newest version anyway.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from vault.audit.record import Record
from vault.domain.checks import FieldChecks
from vault.domain.errors import DatavaultError, IntegrityError, KeysUnavailableError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, KeyProvider, Transactions, UnwrapItem
from vault.domain.types import Act, Caller, Outcome
from vault.keys.census import Census, census
from vault.keys.phases import Phase
from vault.keys.rewrap_job import RewrapJob, RewrapProgress, RewrapWish
from vault.keys.targets import KeyTarget, find_target, wrapping_context
from vault.permission import authorise
from vault.policy.live import LivePolicy
from vault.recording import Recorder
from vault.slicing import fitting
from vault.store.key_rows import KeyRow, KeyRowRepository, KeySource, Place

_PAGE_ROWS: Final = 1_000
_POLL_SECONDS: Final = 0.25


class RewrapPipeline:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self,
        transactions: Transactions,
        rows: KeyRowRepository,
        provider: KeyProvider,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._rows = rows
        self._provider = provider
        self._policy = policy
        self._recorder = recorder
        self._clock = clock

    def run(self, caller: Caller, wish: RewrapWish) -> Generator[RewrapProgress, None, None]:
        """The steps of one rewrap, none of them long. Each blocks: take them on a worker, one at a time.

        To close the iterator breaks the job off, on record.

        Raises:
            NotPermittedError, InvalidArgumentError, KeysUnavailableError, StoreUnavailableError,
            AuditUnavailableError: run it again to go on.
        """
        loaded = self._policy.current
        draft = self._recorder.draft(caller, Act.KEYS_REWRAP.value, policy=loaded.bundle.hash)
        try:
            authorise(loaded, caller, Act.KEYS_REWRAP)  # 1
            _check(wish)
            job = self._job(find_target(loaded.bundle.key_classes, wish.word, wrapping=True), wish)
        except DatavaultError as error:
            self._recorder.refuse(draft, error)
        if wish.dry_run:
            yield self._done(job, draft, "dry-run")
            return
        self._recorder.record(replace(draft, detail=job.detail("begun")))  # 2

        def ended(outcome: Outcome, detail: Mapping[str, str | int]) -> Record:
            return self._recorder.draft(
                caller, draft.action, outcome=outcome, policy=draft.policy, detail=detail
            )

        try:
            yield from self._work(job)
            outcome = Outcome.PARTIAL if job.stragglers else Outcome.AUTHORISED
            done = self._done(job, ended(outcome, {}), "done")  # 7
        except GeneratorExit:
            self._recorder.record(ended(Outcome.PARTIAL, job.detail("broken-off")))
            raise
        except DatavaultError as error:
            detail = {**job.detail("failed"), "error": error.reason.value}
            self._recorder.record(ended(Outcome.ERROR, detail))
            raise
        yield done

    # --- the steps -----------------------------------------------------------------------------------------

    def _job(self, target: KeyTarget, wish: RewrapWish) -> RewrapJob:
        newest = self._provider.info(target.name).latest_version
        counted = self._count(target)
        left = counted.stragglers(newest)
        return RewrapJob(target, wish, counted.total, counted.total - left, stragglers=left)

    def _count(self, target: KeyTarget) -> Census:
        tables = {source.table for source in target.sources}
        with self._transactions.read() as connection:
            counts = self._rows.count(connection, tables)
        return census(counts, target.sources, self._provider)

    def _work(self, job: RewrapJob) -> Iterator[RewrapProgress]:
        while True:
            yield job.progress(Phase.REWRAPPING)
            newest = yield from self._rewrap_all(job)  # 3
            if job.stragglers or job.wish.keep_old_versions:
                return
            if self._provider.info(job.target.name).min_decryption_version >= newest:
                return
            yield from self._wait(job)  # 4
            yield job.progress(Phase.CHECKING)
            job.stragglers = self._count(job.target).stragglers(newest)  # 5
            if not job.stragglers:
                self._provider.retire(job.target.name, newest)  # 6
                return

    def _rewrap_all(self, job: RewrapJob) -> Generator[RewrapProgress, None, int]:
        """Pass after pass, until nothing is left, or nothing that opens; returns the newest version."""
        before = (0, 0)
        while True:
            newest = self._provider.info(job.target.name).latest_version
            counted = self._count(job.target)
            job.stragglers = counted.stragglers(newest)
            if not job.stragglers:
                job.failed = 0
                return newest
            if before[0] == newest and job.stragglers >= before[1]:
                return newest
            before = (newest, job.stragglers)
            job.begin_pass()
            for source, marks in counted.old_marks(newest).items():
                yield from self._pass(job, source, marks)

    def _pass(self, job: RewrapJob, source: KeySource, marks: Sequence[bytes]) -> Iterator[RewrapProgress]:
        rate = job.wish.keys_per_second
        most = min(_PAGE_ROWS, rate or _PAGE_ROWS)
        after: Place | None = None
        while True:
            began = self._clock.monotonic()
            with self._transactions.read() as connection:
                page = self._rows.page(connection, source, marks, after, most)
            if page:
                after = page[-1].place
                self._replace(job, source, self._rewrap(job, source, page))
                job.scanned += len(page)
                took = self._clock.monotonic() - began
                yield job.progress(Phase.REWRAPPING, max(0.0, len(page) / rate - took) if rate else 0.0)
            if len(page) < most:
                return

    def _rewrap(
        self, job: RewrapJob, source: KeySource, page: Sequence[KeyRow]
    ) -> list[tuple[KeyRow, bytes]]:
        """Those of a page that open, with their new texts. The others are counted and logged."""
        whole = [row for row in page if row.wrapped]
        items = [UnwrapItem(row.wrapped, wrapping_context(source, row.place)) for row in whole]
        answers = self._provider.rewrap(job.target.name, items)
        if len(answers) != len(items):
            raise KeysUnavailableError("the key provider answered another number of keys than asked for")
        damaged = IntegrityError("a row is not of the types that were written")
        job.fail(source, [(row, damaged) for row in page if not row.wrapped])
        changes: list[tuple[KeyRow, bytes]] = []
        for row, answer in zip(whole, answers, strict=True):
            if isinstance(answer, bytes):
                changes.append((row, answer))
            else:
                job.fail(source, [(row, answer)])
        return changes

    def _replace(self, job: RewrapJob, source: KeySource, changes: Sequence[tuple[KeyRow, bytes]]) -> None:
        done = 0
        while done < len(changes):
            part = changes[done : done + job.slice_rows]
            with self._transactions.write() as connection:
                began = self._clock.monotonic()
                job.rewrapped += self._rows.replace(connection, source, part)
            job.slice_rows = fitting(len(part), self._clock.monotonic() - began, _PAGE_ROWS)
            done += len(part)

    def _wait(self, job: RewrapJob) -> Iterator[RewrapProgress]:
        until = self._clock.monotonic() + LIMITS.longest_deadline_seconds
        while (left := until - self._clock.monotonic()) > 0:
            yield job.progress(Phase.WAITING, min(left, _POLL_SECONDS))

    def _done(self, job: RewrapJob, record: Record, stage: str) -> RewrapProgress:
        oldest = self._provider.info(job.target.name).min_decryption_version
        recorded = self._recorder.record(replace(record, detail=job.detail(stage)))
        return replace(
            job.progress(Phase.DONE),
            stragglers=job.stragglers,
            min_decryption_version=oldest,
            recorded=recorded,
        )


def _check(wish: RewrapWish) -> None:
    checks = FieldChecks()
    checks.require(wish.keys_per_second >= 0, "keys_per_second", "must not be negative; 0 means no limit")
    checks.raise_if_any()
