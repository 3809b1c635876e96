"""What is wrong in the policy files: file, line, column and, where a known word is near, a suggestion."""

import difflib
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from vault.domain.errors import ConfigurationError

_SHOWN_IN_MESSAGE: Final = 50
# Letters of other scripts that a reader takes for ASCII ones (Unicode TR 39 lists them all; these are the
# ones a keyboard produces).
_LOOK_ALIKES: Final = str.maketrans(
    "асеорхуіјѕԁһӏАВСЕНКМОРТХІЈЅαινορυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ‐‑‒–—−，：．",
    "aceopxyijsdhlABCEHKMOPTXIJSaivopuABEZHIKMNOPTYX------,:.",
)


class Mark(NamedTuple):
    """A place in a file; lines and columns (in characters) count from 1."""

    line: int
    column: int


START: Final = Mark(1, 1)


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """One mistake: `path` is relative to the policies folder; `suggestion` is '' where nothing is near.

    Line 0 stands for the whole of `path`, where there is no line to name.
    """

    path: str
    line: int
    column: int
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return f"{place}: {self.message}{hint}"


class PolicyError(ConfigurationError):
    """The policy files are refused as a whole; `errors` are all problems found, in order of place."""

    def __init__(self, errors: Iterable[PolicyProblem]) -> None:
        self.errors = tuple(errors)
        lines = [str(problem) for problem in self.errors[:_SHOWN_IN_MESSAGE]]
        if len(self.errors) > _SHOWN_IN_MESSAGE:
            lines.append(f"... and {len(self.errors) - _SHOWN_IN_MESSAGE} more")
        super().__init__("\n".join(lines))


class FolderError(PolicyError):
    """There is no folder of policies to read, or it cannot be read: the setting is wrong, not a policy."""

    def __init__(self, folder: Path, message: str) -> None:
        super().__init__([PolicyProblem(str(folder), 0, 0, message)])


class Problems:
    """Collects problems, so that an author sees all of them at once."""

    def __init__(self) -> None:
        self._found: dict[PolicyProblem, None] = {}

    def add(self, path: str, mark: Mark, message: str, suggestion: str = "") -> None:
        self._found[PolicyProblem(path, mark.line, mark.column, message, suggestion)] = None

    def unknown(self, path: str, mark: Mark, kind: str, word: str, known: Collection[str]) -> None:
        """`word` is none of the `known` ones: say so, and which one is near."""
        self.add(path, mark, f"unknown {kind} {word!r}{foreign(word)}", suggest(word, known))

    def __len__(self) -> int:
        return len(self._found)

    def raise_any(self) -> None:
        """Raises: PolicyError: when at least one problem was added."""
        if self._found:
            raise PolicyError(sorted(self._found))


def suggest(word: str, known: Collection[str]) -> str:
    """The known word nearest to `word`, seeing through case, look-alike letters and invisible characters."""
    plain = "".join(
        char for char in unicodedata.normalize("NFKC", word[:256]) if unicodedata.category(char) != "Cf"
    )
    plain = plain.translate(_LOOK_ALIKES).strip(" \t;\"'").lower()
    by_lower = {candidate.lower(): candidate for candidate in sorted(known)}
    near = difflib.get_close_matches(plain, by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else ""


def foreign(text: str) -> str:
    """Names the first character that is not printable ASCII (look-alikes cannot be seen), else ''."""
    char = next((char for char in text if not " " <= char <= "~"), None)
    return "" if char is None else f" (contains {describe(char)})"


def describe(char: str) -> str:
    """`U+200B ZERO WIDTH SPACE`."""
    return f"U+{ord(char):04X} {unicodedata.name(char, 'control character')}"
