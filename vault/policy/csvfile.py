"""policy.csv as rows of fields with their places; what Casbin's own reader swallows is an error."""

from dataclasses import dataclass
from typing import Final

from vault.policy.problems import Mark, Problems, describe, suggest

FIELDS: Final = {
    "p": ("id", "role or caller", "purpose", "category or attribute", "act", "basis", "effect"),
    "g": ("caller or role", "role"),
}
_FROM_YAML: Final = ("g2", "g3", "g4")
_FORBIDDEN: Final = {
    '"': "quotes are not allowed: fields are plain words",
    "'": "quotes are not allowed: fields are plain words",
    ";": "';' is no separator: fields are separated by ', '",
    "#": "a comment must stand on a line of its own",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One `p` or `g` line: its fields without the type, and where each stands."""

    kind: str
    fields: tuple[str, ...]
    marks: tuple[Mark, ...]

    @property
    def line(self) -> int:
        return self.marks[0].line


def read_rows(path: str, text: str, problems: Problems) -> list[Row]:
    """All well-formed rows; a problem is added for every line that is none."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line and not line.startswith("#"):
            row = _row(path, number, line, problems)
            if row is not None:
                rows.append(row)
    return rows


def _row(path: str, number: int, line: str, problems: Problems) -> Row | None:
    if not _plain(path, number, line, problems):
        return None
    fields, marks = _split(number, line)
    kind = fields[0]
    names = FIELDS.get(kind)
    if names is None:
        message = f"unknown row type {kind!r}"
        if kind in _FROM_YAML:
            message = f"{kind!r} rows come from the YAML files and cannot stand here"
        problems.add(path, marks[0], message, "" if kind in _FROM_YAML else suggest(kind, FIELDS))
        return None
    if len(fields) != len(names) + 1:
        message = f"a {kind!r} row has {len(names)} fields after {kind!r} ({', '.join(names)})"
        place = marks[min(len(fields), len(names) + 2) - 1]
        problems.add(path, place, f"{message}, not {len(fields) - 1}")
        return None
    good = True
    for name, field, mark in zip(names, fields[1:], marks[1:], strict=True):
        if not field or " " in field:
            message = f"{name} is empty" if not field.strip(" ") else "spaces: a field is one word after ', '"
            problems.add(path, mark, message, field.strip(" ") if " " not in field.strip(" ") else "")
            good = False
    return Row(kind, tuple(fields[1:]), (marks[0], *marks[1:])) if good else None


def _plain(path: str, number: int, line: str, problems: Problems) -> bool:
    """Adds a problem for the first character that no row can have."""
    for column, char in enumerate(line, 1):
        if char in _FORBIDDEN:
            problems.add(path, Mark(number, column), _FORBIDDEN[char])
            return False
        if not " " <= char <= "~":
            near = suggest(char, "abcdefghijklmnopqrstuvwxyz")
            problems.add(path, Mark(number, column), f"not an ASCII character: {describe(char)}", near)
            return False
    return True


def _split(number: int, line: str) -> tuple[list[str], list[Mark]]:
    """Fields and their marks; one space after a comma belongs to the separator."""
    fields, marks = [], []
    column = 1
    for place, part in enumerate(line.split(",")):
        skipped = 1 if place and part.startswith(" ") else 0
        fields.append(part[skipped:])
        marks.append(Mark(number, column + skipped))
        column += len(part) + 1
    return fields, marks
