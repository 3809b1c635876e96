"""Moves the rows of one file to the server, each exactly once, and accounts for every one of them.

1 read      a row from the file
2 convert   it, or reject it with reasons
3 send      it, unless the journal says that the server has answered for it already
4 settle    in the order of the file: journal what the server answered, keep what was rejected
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol, TypeVar

from vault.cli.importing.journal import Journal, Section
from vault.cli.importing.outcome import Answer, Fault, Ready, Rejected, Totals
from vault.cli.importing.rows import Row, Table
from vault.domain.errors import DatavaultError, ErrorReason

T = TypeVar("T")
Convert = Callable[[Row], Ready[T] | Rejected]
Send = Callable[[Iterable[Ready[T]]], Iterator[Answer]]

_ROW_IS_WRONG: Final = frozenset(
    {
        ErrorReason.INVALID_ARGUMENT,
        ErrorReason.PURPOSE_NOT_LEAF,
        ErrorReason.NOT_FOUND,
        ErrorReason.REQUEST_ID_REUSED,
        ErrorReason.VERSION_MISMATCH,
        ErrorReason.SUBJECT_RESTRICTED,
        ErrorReason.RECORD_TOO_LARGE,
        ErrorReason.INTEGRITY,
        ErrorReason.INTERNAL,
    }
)


class KeepsRejects(Protocol):
    """Where rejected rows go."""

    def add(self, rejected: Rejected) -> None: ...


class ImportStoppedError(DatavaultError):
    """The server refused for a reason that is not the row's: the same command goes on from here."""


Watch = Callable[[Rejected | None, Totals], None]
"""Called after each settled row, with the rejected one if it was rejected."""


def check(table: Table, convert: Convert[T], rejects: KeepsRejects, watch: Watch) -> Totals:
    """A dry run: steps 1 and 2 for every row. Raises ReadError."""
    totals = Totals()
    for row in table.rows():
        totals.read += 1
        outcome = convert(row)
        if isinstance(outcome, Rejected):
            totals.count(outcome.faults)
            rejects.add(outcome)
            watch(outcome, totals)
        else:
            watch(None, totals)
    return totals


class Transfer:
    """One part (`attributes` or `consents`) of one import."""

    def __init__(
        self, part: str, journal: Journal, section: Section, rejects: KeepsRejects, watch: Watch
    ) -> None:
        self._part = part
        self._journal = journal
        self._acknowledged = section.acknowledged.get(part, 0)
        self._refused = section.refused.get(part, {})
        self._rejects = rejects
        self._watch = watch
        self.totals = Totals()

    def run(self, table: Table, convert: Convert[T], send: Send[T]) -> Totals:
        """Move all rows. After an exception the same call on the same file goes on.

        Raises:
            ReadError: the file cannot be read to its end.
            ImportStoppedError: the server refuses, not because of the row.
        """
        waiting: deque[Ready[T] | Rejected] = deque()
        feed = _Feed(self._to_send(table, convert, waiting))
        for answer in send(feed):
            self._settle_rejected(waiting)
            ready = waiting.popleft()
            assert isinstance(ready, Ready)  # noqa: S101 - answers come for sent rows, in order
            self._settle(ready, answer)
        feed.raise_failure()
        self._settle_rejected(waiting)
        if waiting:
            raise ImportStoppedError(f"row {waiting[0].row.number}: the server's answers ended before it")
        return self.totals

    def _to_send(
        self, table: Table, convert: Convert[T], waiting: "deque[Ready[T] | Rejected]"
    ) -> Iterator[Ready[T]]:
        for row in table.rows():
            self.totals.read += 1
            outcome = convert(row)
            if isinstance(outcome, Ready) and row.number <= self._acknowledged:
                refusal = self._refused.get(row.number)
                if refusal is None:
                    self.totals.earlier += 1
                    continue
                outcome = Rejected(row, (_fault(refusal),))
            waiting.append(outcome)
            if isinstance(outcome, Ready):
                yield outcome

    def _settle_rejected(self, waiting: "deque[Ready[T] | Rejected]") -> None:
        while waiting and isinstance(waiting[0], Rejected):
            self._reject(waiting[0])
            waiting.popleft()

    def _settle(self, ready: Ready[T], answer: Answer) -> None:
        if answer.reason and answer.reason not in _ROW_IS_WRONG:
            raise ImportStoppedError(f"row {ready.row.number}: {answer.reason}: {answer.message}")
        self._journal.answer(self._part, ready.row.number, answer)
        if answer.reason:
            self._reject(Rejected(ready.row, (_fault(answer),)))
            return
        self.totals.sent += 1
        self.totals.replayed += answer.replayed
        self._watch(None, self.totals)

    def _reject(self, rejected: Rejected) -> None:
        self.totals.count(rejected.faults)
        self._rejects.add(rejected)
        self._watch(rejected, self.totals)


class _Feed(Iterator[T]):
    """Hands items to a sender that may read them on a thread of its own and swallow what they raise."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._failure: Exception | None = None

    def __next__(self) -> T:
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self._failure = error
            raise StopIteration from None

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _fault(answer: Answer) -> Fault:
    return Fault("", f"refused by the server: {answer.reason}: {answer.message}")
