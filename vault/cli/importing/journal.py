"""The import journal: how far an import came, so that running it again changes nothing twice.

One JSON object per line, appended: the start of an import (random id, digests of what is imported), the row
up to which the server has acknowledged, each row it refused, and the end. Request ids are made of the import
id and the row number, so rows sent again after an unclean end are dropped by the server. The journal holds no
customer number and no value.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from vault.cli.importing.files import open_private, sync_folder
from vault.cli.importing.outcome import Answer
from vault.domain.errors import ConfigurationError
from vault.domain.protocols import Randomness

_ACKNOWLEDGED_AT_ONCE: Final = 100
_VERSION: Final = 1
_ID_BYTES: Final = 12
_KINDS: Final = frozenset({"import", "acknowledged", "refused", "finished"})


@dataclass(slots=True)
class Section:
    """One import: its id, what was imported (`subject`), and how far its parts came."""

    id: str
    subject: Mapping[str, str]
    acknowledged: dict[str, int] = field(default_factory=dict)
    refused: dict[str, dict[int, Answer]] = field(default_factory=dict)
    finished: Mapping[str, Any] | None = None


class Journal:
    """The journal of one file, locked while it is open. A context manager.

    Order of calls: `begin`, then `answer` in the order of the rows, then `finish`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = open_private(path, os.O_APPEND)
        self._waiting: dict[str, int] = {}
        self._count = 0
        try:
            self._lock()
            self._last = self._load()
        except BaseException:
            os.close(self._descriptor)
            raise

    def begin(self, subject: Mapping[str, str], randomness: Randomness) -> Section:
        """Go on with the last import when it is of the same `subject`, else start a new one, durably."""
        if self._last is not None and self._last.subject == subject:
            return self._last
        self._last = Section(randomness.token(_ID_BYTES).hex(), dict(subject))
        self._write({"v": _VERSION, "import": self._last.id, "subject": self._last.subject})
        os.fsync(self._descriptor)
        sync_folder(self._path)
        return self._last

    def answer(self, part: str, row: int, answer: Answer) -> None:
        """Note that the server has answered for `row` and for all before it."""
        if answer.reason:
            self._write({"refused": row, "part": part, "reason": answer.reason, "message": answer.message})
        self._waiting[part] = row
        self._count += 1
        if self._count >= _ACKNOWLEDGED_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write how far it came."""
        for part, row in self._waiting.items():
            self._write({"acknowledged": row, "part": part})
        self._waiting.clear()
        self._count = 0

    def finish(self, totals: Mapping[str, Any]) -> None:
        """Note the end, durably."""
        self.flush()
        self._write({"finished": dict(totals)})
        os.fsync(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            os.close(self._descriptor)

    def _lock(self) -> None:
        with contextlib.suppress(ImportError):  # Windows has no fcntl: there, the request ids alone must do
            import fcntl

            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigurationError(f"{self._path}: another import of this file is running") from None

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, sort_keys=True, separators=(",", ":")) + "\n"
        try:
            os.write(self._descriptor, line.encode("ascii"))
        except OSError as error:
            raise ConfigurationError(f"{self._path}: cannot be written: {error.strerror}") from None

    def _load(self) -> Section | None:
        content = bytearray()
        while block := os.read(self._descriptor, 1 << 20):
            content += block
        whole, _, torn = bytes(content).rpartition(b"\n")
        if torn:
            # A crash tore the last line. End it, so that the next entry begins on a line of its own.
            os.write(self._descriptor, b"\n")
        section: Section | None = None
        for entry in self._entries(whole):
            section = _apply(section, entry)
        return section

    def _entries(self, content: bytes) -> Iterator[Mapping[str, Any]]:
        for number, line in enumerate(content.split(b"\n"), 1):
            try:
                entry = json.loads(line) if line else {}
            except ValueError:
                # Torn by a crash: what it said is sent again and dropped by the server.
                entry = {} if line.startswith(b'{"') else None
            if not _is_entry(entry):
                raise ConfigurationError(f"{self._path}:{number}: not an import journal of this datavault")
            yield entry


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or entry.get("v", _VERSION) != _VERSION:
        return False
    return not entry or not _KINDS.isdisjoint(entry)


def _apply(section: Section | None, entry: Mapping[str, Any]) -> Section | None:
    try:
        if "import" in entry:
            return Section(str(entry["import"]), dict(entry["subject"]))
        if section is None:
            return None
        if "acknowledged" in entry:
            section.acknowledged[entry["part"]] = int(entry["acknowledged"])
        elif "refused" in entry:
            refused = section.refused.setdefault(entry["part"], {})
            refused[int(entry["refused"])] = Answer(entry["reason"], entry["message"])
        elif "finished" in entry:
            section.finished = dict(entry["finished"])
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError("the journal is damaged: remove it to import from the beginning") from None
    return section
