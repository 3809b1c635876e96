"""Rotation of a tenant's lookup key, while reads and writes go on (keys.md).

    1 authorise   the act keys.rotate; check the fields
    2 begin       the new version goes into the table, in one transaction with the record; from then on reads
                  try both, and a new customer is indexed under both
    3 index       every customer who is not indexed under the new version yet, their numbers sealed anew
    4 wait        one longest deadline, so that no call is left that knows the old version alone
    5 check       pass over all customers again: only when nobody had to be indexed
    6 retire      the older versions, in one transaction with the record; then their rows are deleted
    7 record      what was done, or where it was broken off

It can be broken off between any two steps, killed, run again and run twice at once. A rotation is under way
as long as more than one version is in force; the next run goes on with it. Versions are retired before their
rows are deleted, because then nobody adds rows of them any more. A customer whose number does not open, or is
not the number that leads to them, is left as they are and keeps the rotation from ending.

Retired versions stay in the table for as long as answers are kept for repeated requests, whose fingerprints
they recognise (housekeeping.py deletes them). A backup holds the lookup keys that its rows are indexed under,
so a restored one is whole, whatever was rotated since.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.record import Record
from vault.crypto.lookup_keys import LookupKeys
from vault.crypto.tenant_keys import TenantKeys
from vault.domain.checks import FieldChecks
from vault.domain.errors import DatavaultError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, Transactions
from vault.domain.types import Act, Caller, Outcome
from vault.keys.lookup_indexing import LookupIndexing
from vault.keys.lookup_job import LookupJob, LookupProgress
from vault.keys.phases import Phase
from vault.permission import authorise
from vault.policy.live import LivePolicy
from vault.recording import Recorder
from vault.store.lookups import LookupIndex
from vault.store.tenant_keys import insert_lookup, retire_lookups

__all__ = ["LookupProgress", "LookupRotation"]

ACTION: Final = "keys.rotate-lookup"
_POLL_SECONDS: Final = 0.25


class LookupRotation:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self,
        transactions: Transactions,
        index: LookupIndex,
        indexing: LookupIndexing,
        tenant_keys: TenantKeys,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._index = index
        self._indexing = indexing
        self._tenant_keys = tenant_keys
        self._policy = policy
        self._recorder = recorder
        self._clock = clock

    def run(
        self, caller: Caller, *, dry_run: bool, subjects_per_second: int, resume_only: bool
    ) -> Generator[LookupProgress, None, None]:
        """The steps of one rotation of the lookup key of the caller's tenant, none of them long. Each blocks:
        take them on a worker, one at a time. With `resume_only` none is begun, only one that was is ended.

        To close the iterator breaks the rotation off, on record.

        Raises:
            NotPermittedError, InvalidArgumentError, IntegrityError, KeysUnavailableError,
            StoreUnavailableError, AuditUnavailableError: run it again to go on.
        """
        loaded = self._policy.current
        draft = self._recorder.draft(caller, ACTION, policy=loaded.bundle.hash)
        try:
            authorise(loaded, caller, Act.KEYS_ROTATE)  # 1
            _check(subjects_per_second)
            lookup = self._tenant_keys.refresh(caller.tenant)
            if dry_run:
                job = self._preview(lookup, resume_only=resume_only)
            else:
                job = self._begin(lookup, draft, resume_only=resume_only)  # 2
        except DatavaultError as error:
            self._recorder.refuse(draft, error)
        if dry_run:
            yield self._done(job, draft, "dry-run")
            return

        def ended(outcome: Outcome, detail: Mapping[str, str | int]) -> Record:
            return self._recorder.draft(caller, ACTION, outcome=outcome, policy=draft.policy, detail=detail)

        try:
            yield from self._work(job, caller, subjects_per_second, draft.policy)
            outcome = Outcome.PARTIAL if job.failed else Outcome.AUTHORISED
            done = self._done(job, ended(outcome, {}), "done")  # 7
        except GeneratorExit:
            self._recorder.record(ended(Outcome.PARTIAL, job.detail("broken-off")))
            raise
        except DatavaultError as error:
            detail = {**job.detail("failed"), "error": error.reason.value}
            self._recorder.record(ended(Outcome.ERROR, detail))
            raise
        yield done

    # --- 2 begin -------------------------------------------------------------------------------------------

    def _preview(self, lookup: LookupKeys, *, resume_only: bool) -> LookupJob:
        begins = len(lookup.in_force) == 1 and not resume_only
        version = lookup.rows[-1].version + int(begins)
        with self._transactions.read() as connection:
            total = self._index.count(connection, lookup.tenant)
            indexed = self._index.count_indexed(connection, lookup.tenant, version)
        return LookupJob(lookup, total, version, indexed)

    def _begin(self, lookup: LookupKeys, draft: Record, *, resume_only: bool) -> LookupJob:
        """Begin a rotation, or go on with the one under way."""
        if len(lookup.in_force) > 1 or resume_only:
            job = self._preview(lookup, resume_only=True)
            self._recorder.record(replace(draft, detail=job.detail("resumed")))
            return job
        row = self._tenant_keys.draft_lookup(lookup.tenant)
        job = replace(self._preview(lookup, resume_only=False), version=row.version)

        def work(connection: Connection) -> tuple[None, list[EncodedRecord]]:
            began = insert_lookup(connection, lookup.tenant, row)
            # another operator may have been first: then this one goes on with theirs
            record = replace(draft, detail=job.detail("begun" if began else "resumed"))
            return None, [EncodedRecord.of(record)]

        self._recorder.commit(work)
        return job

    # --- 3 index to 6 retire -------------------------------------------------------------------------------

    def _work(self, job: LookupJob, caller: Caller, rate: int, policy: str) -> Iterator[LookupProgress]:
        job.lookup = self._tenant_keys.refresh(caller.tenant)
        if job.under_way:
            yield job.progress(Phase.REWRAPPING)
            yield from self._indexing.index_all(job, Phase.REWRAPPING, rate)  # 3
            while True:
                if job.failed:
                    return
                yield from self._wait(job)  # 4
                yield from self._indexing.index_all(job, Phase.CHECKING, rate)  # 5
                if not job.moved and not job.failed:
                    break
            self._retire(job, self._recorder.draft(caller, ACTION, policy=policy))  # 6
        if any(row.retired_at for row in job.lookup.rows):
            yield from self._indexing.drop_older(job)

    def _wait(self, job: LookupJob) -> Iterator[LookupProgress]:
        until = self._clock.monotonic() + LIMITS.longest_deadline_seconds
        while (left := until - self._clock.monotonic()) > 0:
            yield job.progress(Phase.WAITING, min(left, _POLL_SECONDS))

    def _retire(self, job: LookupJob, draft: Record) -> None:
        tenant = job.lookup.tenant
        record = replace(draft, detail=job.detail("retired"))

        def work(connection: Connection) -> tuple[None, list[EncodedRecord]]:
            retire_lookups(connection, tenant, job.version, self._clock.now())
            return None, [EncodedRecord.of(record)]

        self._recorder.commit(work)
        job.lookup = self._tenant_keys.refresh(tenant)

    # --- 7 record ------------------------------------------------------------------------------------------

    def _done(self, job: LookupJob, record: Record, stage: str) -> LookupProgress:
        recorded = self._recorder.record(replace(record, detail=job.detail(stage)))
        return replace(job.progress(Phase.DONE), recorded=recorded)


def _check(subjects_per_second: int) -> None:
    checks = FieldChecks()
    checks.require(subjects_per_second >= 0, "subjects_per_second", "must not be negative; 0 means no limit")
    checks.raise_if_any()
