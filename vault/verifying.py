"""Verification of a log by several processes: each reads and hashes stretches on a connection of its own, the
calling one builds the tree of what they give, in order, and holds it against tiles and signatures.

What they say needs no trust in their order or number: every span is asked for once, and each hash goes into
the tree that was signed. A few stretches are under way at a time, so memory does not grow with the log.
"""

import contextlib
import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final

from vault.audit.stretch import Plan, Reader, Readers, Spans, Stretch
from vault.config import Settings
from vault.database_settings import database_of
from vault.domain.errors import AuditUnavailableError

_WORTHWHILE_SPANS: Final = 75
"""300,000 records: below, starting the processes takes longer than they save."""
_AHEAD: Final = 2
"""Stretches that wait for each process, so that none is idle."""


def reading_processes(settings: Settings, here: Readers, count: int | None = None) -> Readers:
    """Readers that are `count` processes, one per processor if None; `here`, where the log is short.

    Raises: what they give, AuditUnavailableError or StoreUnavailableError: the database did not answer, or a
        process was killed.
    """
    processes = count or os.cpu_count() or 1

    def read(plan: Plan, spans: Spans) -> Iterator[Stretch]:
        spans = iter(spans)
        first = list(itertools.islice(spans, _WORTHWHILE_SPANS))
        several = processes > 1 and len(first) == _WORTHWHILE_SPANS
        return (_spread(settings, processes) if several else here)(plan, itertools.chain(first, spans))

    return read


def _spread(settings: Settings, processes: int) -> Readers:
    def read(plan: Plan, spans: Spans) -> Iterator[Stretch]:
        pool = ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(settings, plan)
        )
        try:
            waiting: deque[Future[Stretch]] = deque()
            for span in spans:
                waiting.append(pool.submit(_read, span))
                if len(waiting) > _AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise AuditUnavailableError("a process that read the audit log was killed") from None
        finally:
            pool.shutdown(cancel_futures=True)

    return read


# --- in such a process ------------------------------------------------------------------------------------

_opened: Final = contextlib.ExitStack()
_asked: list[tuple[Settings, Plan]] = []
_readers: list[Reader] = []


def _begin(settings: Settings, plan: Plan) -> None:
    _asked.append((settings, plan))


def _read(span: tuple[int, int]) -> Stretch:
    if not _readers:
        # not in `_begin`, where an error would not reach the caller
        ((settings, plan),) = _asked
        database = database_of(settings)
        _opened.callback(database.close)
        _readers.append(Reader(_opened.enter_context(database.read()), plan))
    return _readers[0].read(span)
