"""Lines of a text file in any encoding, with their numbers, so that a raw row can be given back exactly."""

import codecs
import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vault.cli.importing.rows import ReadError

LONGEST_LINE_CHARACTERS: Final = 8 * 1024 * 1024


class TextLines:
    """Iterates lines with their ends. Bytes that do not decode become lone surrogates (`undecodable`)."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.name = path.name
        self.encoding = encoding
        self._binary = open_binary(path)
        self._size = max(path.stat().st_size, 1)
        # The byte-order mark that many programs write is no part of the first column's name.
        codec = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        self._text = io.TextIOWrapper(self._binary, encoding=codec, errors="surrogateescape", newline="")
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self._next = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            raise StopIteration
        self._taken.append(line)
        self._next += 1
        return line

    def take(self) -> tuple[int, list[str]]:
        """Number of the first line read since the last `take`, and those lines."""
        taken, self._taken = self._taken, []
        return self._next - len(taken), taken

    def give_back(self, lines: list[str]) -> None:
        """Read these lines again: they came last, in this order."""
        self._again.extendleft(reversed(lines))
        self._next -= len(lines)

    def fraction(self) -> float:
        """How much of the file has been read, 0 to 1."""
        return min(self._binary.tell() / self._size, 1.0)

    def undecodable(self, text: str) -> bool:
        """Whether `text` has bytes that the encoding does not know."""
        if text.isascii():
            return False
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return True
        return False

    def close(self) -> None:
        self._text.close()

    def _read(self) -> str:
        try:
            line = self._text.readline(LONGEST_LINE_CHARACTERS)
        except UnicodeError:
            raise ReadError(
                f"{self.name}:{self._next}: not {self.encoding}: say the right encoding"
            ) from None
        except OSError as error:
            raise ReadError(f"{self.name}: cannot be read: {error.strerror}") from None
        if len(line) == LONGEST_LINE_CHARACTERS:
            raise ReadError(f"{self.name}:{self._next}: a line of 8 MiB: is this the right format?")
        return line


def open_binary(path: Path) -> io.BufferedReader:
    """Open a file.

    Raises:
        ReadError: there is none, or it cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from None
