"""Moving what one key provider wraps to another: every wrapped key, and nothing else (keys.md).

A slice of rows is unwrapped at the source, wrapped at the target, opened there again and compared; only then
are the rows replaced, each where it still has the text that was read. So a run may end anywhere and begin
again: what is moved stays moved. Ciphertexts are neither read nor written.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vault.crypto.envelope import DataKey
from vault.crypto.names import INDEX, LOOKUP, PSEUDONYM, class_key
from vault.crypto.opaque import KEY_BYTES
from vault.crypto.wrapped import wrapping_provider
from vault.domain.errors import ConfigurationError, DatavaultError, IntegrityError, KeysUnavailableError
from vault.domain.protocols import KeyProvider, Transactions, UnwrapItem, WrapItem
from vault.keys.targets import wrapping_context
from vault.store.key_rows import KeyRow, KeyRowRepository, KeySource, KeyTable, MarkCount, Place

Progress = Callable[[str, int, int], None]
"""(what is done, wrapped keys done, wrapped keys in all)"""
CHECKING: Final = "checking"
MOVING: Final = "moving"
Change = tuple[KeyRow, bytes]

_SLICE_ROWS: Final = 500
"""Rows of one transaction: some milliseconds, and a few batches of the provider."""
_DATA_TABLES: Final = (KeyTable.SUBJECT, KeyTable.EVIDENCE)
_OF_TENANTS: Final[Mapping[str, str]] = {"lookup": LOOKUP, "index": INDEX, "pseudonym": PSEUDONYM}
_PLACE_OF_DEK_ID: Final = 2


@dataclass(slots=True)
class Stragglers:
    """Rows that do not open, by class or use: they stay where they are."""

    rows: dict[str, int] = field(default_factory=dict)

    def add(self, source: KeySource, rows: int = 1) -> None:
        if rows:
            self.rows[source.use] = self.rows.get(source.use, 0) + rows

    @property
    def total(self) -> int:
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True)
class Counts:
    """What is wrapped by whom, at one moment."""

    marks: tuple[MarkCount, ...]

    def at(self, provider: str, tables: Iterable[KeyTable] = tuple(KeyTable)) -> int:
        """How many keys of these tables a provider wraps ('': none that is known)."""
        wanted = set(tables)
        return sum(
            each.rows
            for each in self.marks
            if each.source.table in wanted and wrapping_provider(each.mark) == provider
        )

    @property
    def total(self) -> int:
        return sum(each.rows for each in self.marks)

    def sources(self, tables: Iterable[KeyTable] = tuple(KeyTable)) -> list[KeySource]:
        """Every source that holds rows, in a fixed order."""
        wanted = set(tables)
        found = {each.source for each in self.marks if each.source.table in wanted}
        return sorted(found, key=lambda source: (source.table.value, source.use))

    def marks_at(self, source: KeySource, provider: str) -> list[bytes]:
        """The marks of this source's rows that a provider wrapped."""
        return [
            each.mark
            for each in self.marks
            if each.source == source and wrapping_provider(each.mark) == provider
        ]


class KeyMove:
    """From `source` to `target`. For one process at a time, while no service runs."""

    def __init__(
        self,
        transactions: Transactions,
        rows: KeyRowRepository,
        source: KeyProvider,
        target: KeyProvider,
    ) -> None:
        self._transactions = transactions
        self._rows = rows
        self._source = source
        self._target = target

    def count(self) -> Counts:
        """One scan of each table.

        Raises:
            StoreUnavailableError.
        """
        with self._transactions.read() as connection:
            return Counts(tuple(self._rows.count(connection)))

    def check(self, counts: Counts, progress: Progress) -> Stragglers:
        """Open every key that is still to be moved, and change nothing.

        Raises:
            KeysUnavailableError, StoreUnavailableError.
        """
        found, done = Stragglers(), counts.at(self._target.name)
        for each in counts.marks:
            if not wrapping_provider(each.mark):
                found.add(each.source, each.rows)
        for source in counts.sources():
            for rows in self._pages(source, counts):
                opened = self._open(source, rows)
                found.add(source, sum(isinstance(raw, DatavaultError) for raw in opened))
                done += len(rows)
                progress(CHECKING, done, counts.total)
        return found

    def move_data_keys(self, counts: Counts, progress: Progress) -> None:
        """Move the DEKs, in a transaction per slice. What does not open is left.

        Raises:
            KeysUnavailableError, StoreUnavailableError: run it again to go on.
        """
        done = counts.at(self._target.name)
        for source in counts.sources(_DATA_TABLES):
            for rows in self._pages(source, counts):
                changes = self._rewrapped(source, rows)
                with self._transactions.write() as connection:
                    self._rows.replace(connection, source, changes)
                done += len(rows)
                progress(MOVING, done, counts.total)

    def tenant_changes(self, counts: Counts) -> dict[KeySource, list[Change]]:
        """What to replace in `tenant_key`, for the transaction that ends the move.

        Raises:
            KeysUnavailableError, StoreUnavailableError.
            IntegrityError: a tenant's key does not open.
        """
        changes: dict[KeySource, list[Change]] = {}
        for source in counts.sources([KeyTable.TENANT]):
            rows = [row for page in self._pages(source, counts) for row in page]
            changes[source] = self._rewrapped(source, rows)
            if len(changes[source]) != len(rows):
                raise IntegrityError(f"a tenant's {source.use} key does not open")
        return changes

    def require_usable(self, sources: Iterable[KeySource], probe: bytes) -> None:
        """See that the target wraps and opens with every key that is needed there. `probe`: 32 random bytes.

        Raises:
            ConfigurationError: a key is missing, or the token may not use it.
            KeysUnavailableError: the target does not answer.
        """
        for name in sorted({key_name(source) for source in sources}):
            context = b"datavault keys migrate"
            try:
                (wrapped,) = self._target.wrap(name, [WrapItem(probe, context)])
                (opened,) = self._target.unwrap(name, [UnwrapItem(wrapped, context)])
            except KeysUnavailableError as error:
                raise KeysUnavailableError(f"the key {name}: {error.message}") from None
            if opened != probe:
                raise ConfigurationError(f"the key {name} does not open what it wraps")

    def _pages(self, source: KeySource, counts: Counts) -> Iterable[list[KeyRow]]:
        after: Place | None = None
        marks = counts.marks_at(source, self._source.name)
        while True:
            with self._transactions.read() as connection:
                rows = self._rows.page(connection, source, marks, after, _SLICE_ROWS)
            if not rows:
                return
            yield rows
            after = rows[-1].place

    def _open(self, source: KeySource, rows: Sequence[KeyRow]) -> list[bytes | DatavaultError]:
        items = [UnwrapItem(row.wrapped, wrapping_context(source, row.place)) for row in rows]
        opened = self._source.unwrap(key_name(source), items)
        return [_checked(source, row, raw) for row, raw in zip(rows, opened, strict=True)]

    def _rewrapped(self, source: KeySource, rows: Sequence[KeyRow]) -> list[Change]:
        """The rows that open, with what the target makes of them."""
        opened = zip(rows, self._open(source, rows), strict=True)
        good = [(row, raw) for row, raw in opened if isinstance(raw, bytes)]
        if not good:
            return []
        name, contexts = key_name(source), [wrapping_context(source, row.place) for row, _ in good]
        texts = self._target.wrap(
            name, [WrapItem(raw, context) for (_, raw), context in zip(good, contexts, strict=True)]
        )
        # the old text is about to go, and perhaps the old key after it: what replaces it must be seen to open
        again = self._target.unwrap(name, [UnwrapItem(*pair) for pair in zip(texts, contexts, strict=True)])
        if again != [raw for _, raw in good]:
            raise KeysUnavailableError(f"the key {name} does not open what it wraps: nothing was replaced")
        return [(row, text) for (row, _), text in zip(good, texts, strict=True)]


def key_name(source: KeySource) -> str:
    """The provider's key that wraps the rows of a source.

    Raises:
        ConfigurationError: no such key can be.
    """
    if source.table is not KeyTable.TENANT:
        return class_key(source.use)
    if source.use not in _OF_TENANTS:
        raise ConfigurationError("the database holds tenants' keys of a use that this release does not know")
    return _OF_TENANTS[source.use]


def _checked(source: KeySource, row: KeyRow, raw: bytes | DatavaultError) -> bytes | DatavaultError:
    """What opened, if it is the key that its row commits to."""
    if isinstance(raw, DatavaultError):
        return raw
    if len(raw) != KEY_BYTES:
        return IntegrityError("a wrapped key is not 32 bytes long")
    if source.table is KeyTable.SUBJECT and not hmac.compare_digest(
        DataKey(raw).id, row.place[_PLACE_OF_DEK_ID]
    ):
        return IntegrityError("a data key is not the one its row commits to")
    return raw
