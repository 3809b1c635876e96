"""What a sample of the rows says about each column: missing words, types, whether it names customers."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from vault.cli.importing.rows import Table
from vault.domain.types import ValueType

_HEAD_ROWS: Final = 5_000
_EVERY: Final = 10
_READ_ROWS: Final = 500_000
_DISTINCT_KEPT: Final = 5_000
_MISSING_WORDS: Final = frozenset(
    {
        "unknown",
        "unk",
        "n/a",
        "na",
        "#n/a",
        "nan",
        "none",
        "null",
        "nil",
        "missing",
        "undefined",
        "-",
        "--",
        "?",
        ".",
        "not available",
    }
)
_SENTINELS: Final = frozenset({"-1", "-9", "-99", "-999", "-9999"})
_SENTINEL_SHARE: Final = 0.01
TRUTH_WORDS: Final = (
    ("true", "false"),
    ("yes", "no"),
    ("y", "n"),
    ("t", "f"),
    ("1", "0"),
    ("on", "off"),
    ("ja", "nein"),
    ("oui", "non"),
    ("sim", "não"),
    ("sí", "no"),
)
DATE_FORMATS: Final = ("%Y-%m-%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,18}[.,]([0-9]{1,9})")
_DATE: Final = re.compile(
    r"[12][0-9]{7}|[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}|[0-9]{1,2}[-./][0-9]{1,2}[-./][0-9]{4}"
)
_MOSTLY: Final = 0.95


@dataclass(slots=True, repr=False)
class Column:
    """One column of the sample; `texts` counts its distinct texts, trimmed, as far as they were kept."""

    name: str
    rows: int = 0
    empty: int = 0
    longest: int = 0
    unique: bool = True
    texts: Counter[str] = field(default_factory=Counter)

    def add(self, text: str | None) -> None:
        text = (text or "").strip()
        self.rows += 1
        if not text:
            self.empty += 1
            self.unique = False
            return
        self.longest = max(self.longest, len(text.encode("utf-8", "surrogatepass")))
        if text in self.texts:
            self.unique = False
            self.texts[text] += 1
        elif len(self.texts) < _DISTINCT_KEPT or self.unique:
            self.texts[text] = 1

    def missing_words(self) -> list[str]:
        """Words that often stand for a missing value, spelt as in the file; known words only."""
        words = [text for text in self.texts if text.lower() in _MISSING_WORDS]
        negatives = [text for text in self.texts if text.startswith("-") and _INTEGER.fullmatch(text)]
        sentinel = negatives[0] if len(negatives) == 1 and negatives[0] in _SENTINELS else ""
        if sentinel and self.texts[sentinel] >= self.rows * _SENTINEL_SHARE:
            # The only negative number, and a frequent one: no amount behaves like that.
            words.append(sentinel)
        return sorted(words)

    def values(self, missing: Iterable[str]) -> Counter[str]:
        """The distinct texts that are no missing word."""
        left = Counter(self.texts)
        for word in missing:
            del left[word]
        return left

    def truth_words(self, missing: Iterable[str]) -> dict[str, bool]:
        """The words for true and false, spelt as in the file, or nothing."""
        words = {text.lower(): text for text in self.values(missing)}
        for true, false in TRUTH_WORDS:
            if words and words.keys() <= {true, false}:
                return {words.get(true, true): True, words.get(false, false): False}
        return {}

    def kind(self, missing: Iterable[str]) -> tuple[ValueType, int]:
        """The type that fits most of the texts, and the scale of a decimal."""
        values = self.values(missing)
        if not values:
            return ValueType.STRING, 0
        if self.truth_words(missing) and not values.keys() <= {"0", "1"}:
            return ValueType.BOOL, 0
        if _share(values, _DATE) >= _MOSTLY:
            return ValueType.DATE, 0
        if _share(values, _INTEGER) == 1:
            return ValueType.INT64, 0
        fractions = [len(match[1]) for text in values if (match := _DECIMAL.fullmatch(text))]
        if fractions and all(_DECIMAL.fullmatch(text) or _INTEGER.fullmatch(text) for text in values):
            return ValueType.DECIMAL, max(fractions)
        return ValueType.STRING, 0


def sample(table: Table) -> dict[str, Column]:
    """The columns of the first 5,000 rows and of every tenth up to 500,000, because files are often sorted.

    Rows that cannot be read say nothing. Raises ReadError.
    """
    columns = {name: Column(name) for name in table.columns}
    for row in itertools.islice(table.rows(), _READ_ROWS):
        if row.problem or (row.number > _HEAD_ROWS and row.number % _EVERY):
            continue
        for name, column in columns.items():
            column.add(row.cells.get(name))
    return columns


def _share(values: Counter[str], pattern: re.Pattern[str]) -> float:
    fitting = sum(count for text, count in values.items() if pattern.fullmatch(text))
    return fitting / max(values.total(), 1)
