"""How an unknown file is written: format, encoding, delimiter, quote. Guesses, for `--propose-map` alone."""

import codecs
import csv
import itertools
from collections import Counter
from pathlib import Path
from typing import Final

from vault.cli.importing.mapping import FileFormat
from vault.cli.importing.rows import ReadError
from vault.cli.importing.textlines import open_binary

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS: Final = ",;\t|"
_LINES: Final = 200
_BLOCK: Final = 1 << 20
_HEAD: Final = 1 << 18


def sniff(path: Path) -> FileFormat:
    """The layout that fits `path` best.

    Raises:
        ReadError: it cannot be read, or is empty.
    """
    with open_binary(path) as stream:
        head = stream.read(_HEAD)
    if not head.strip():
        raise ReadError(f"{path.name}: the file is empty")
    if head.startswith(b"PAR1"):
        return FileFormat(format="parquet")
    encoding = _encoding(path, head)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).removeprefix("\ufeff")
    if text.lstrip().startswith("{"):
        return FileFormat(format="jsonl", encoding=encoding)
    lines = text.splitlines(keepends=True)[:_LINES]
    quote = "'" if text.startswith("'") and '"' not in text else '"'
    return FileFormat(format="csv", delimiter=_delimiter(lines, quote), quote=quote, encoding=encoding)


def _encoding(path: Path, head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    # A file is often plain ASCII up to the one name that is not: all of it is looked at.
    for encoding in ("utf-8", "cp1252"):
        if _decodes(path, encoding):
            return encoding
    return "latin-1"


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    with open_binary(path) as stream:
        try:
            while block := stream.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _delimiter(lines: list[str], quote: str) -> str:
    """The delimiter that cuts most lines into the same number of pieces, more than one."""

    def score(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(lines, delimiter=delimiter, quotechar=quote, skipinitialspace=True)
        try:
            widths = Counter(len(fields) for fields in itertools.islice(reader, _LINES) if fields)
        except csv.Error:
            return (0.0, 0)
        width, often = widths.most_common(1)[0] if widths else (1, 1)
        return (often / max(sum(widths.values()), 1), width) if width > 1 else (0.0, 0)

    return max(_DELIMITERS, key=score)
