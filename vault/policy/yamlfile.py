"""A strict subset of YAML, with the place of every key and value.

Built from PyYAML's events, because its nodes no longer show anchors. Refused: anchors, aliases, tags,
duplicate and non-string keys, several documents. Plain scalars are `true`, `false`, `null` and decimal
integers; all else is a string, so `no`, `12:30`, `0x1f` and `2024-01-01` are what they look like.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import yaml

from vault.policy.problems import START, Mark, Problems
from vault.policy.textfile import hidden

Where = tuple[str | int, ...]

_DEPTH: Final = 16
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_WORDS: Final[Mapping[str, object]] = {"true": True, "false": False, "null": None, "~": None, "": None}
# libyaml's parser gives the same events as the one in Python, 20 times as fast.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data of one file and where each key and value of it stands."""

    path: str
    data: Any
    keys: Mapping[Where, Mark] = field(default_factory=dict)
    values: Mapping[Where, Mark] = field(default_factory=dict)

    def value(self, *where: str | int) -> Mark:
        """Place of the value at `where`, or of the nearest thing above it that exists."""
        while where and where not in self.values:
            where = where[:-1]
        return self.values.get(where, START)

    def at(self, where: Where) -> Any:
        """The data at `where`, None where there is none."""
        data = self.data
        for step in where:
            if isinstance(data, dict):
                data = data.get(step)
            elif isinstance(data, list) and isinstance(step, int) and step < len(data):
                data = data[step]
            else:
                return None
        return data

    def key(self, *where: str | int) -> Mark:
        """Place of the last key of `where`, else of its value."""
        return self.keys.get(where) or self.value(*where)


class _Refused(Exception):
    """Stops reading: what follows would be noise."""


def _mark_in(text: str, where: yaml.Mark, first_line: int) -> Mark:
    """Where a parser's mark stands; at the end of a file that broke off it can point a line past it."""
    last = text.count("\n")
    if where.line > last:
        return Mark(last + first_line, len(text) - text.rfind("\n"))
    return Mark(where.line + first_line, where.column + 1)


def read_yaml(path: str, text: str, problems: Problems, first_line: int = 1) -> Document | None:
    """Parse one document, or add what is wrong and return None. `first_line` shifts all marks."""
    before = len(problems)
    builder = _Builder(path, problems, first_line - 1)
    try:
        data = builder.document(yaml.parse(text, Loader=_LOADER))
    except _Refused:
        return None
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        mark = _mark_in(text, where, first_line) if where else START
        problems.add(path, mark, f"not YAML: {error.problem or error.context}")
        return None
    except (yaml.YAMLError, RecursionError, ValueError):
        problems.add(path, START, "not YAML")
        return None
    if len(problems) > before:
        return None
    return Document(path, data, builder.keys, builder.values)


class _Builder:
    def __init__(self, path: str, problems: Problems, lines_before: int) -> None:
        self._path = path
        self._problems = problems
        self._lines_before = lines_before
        self.keys: dict[Where, Mark] = {}
        self.values: dict[Where, Mark] = {}

    def document(self, events: Iterator[Any]) -> Any:
        data = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "only one YAML document is allowed")
            elif isinstance(event, yaml.NodeEvent):
                data = self._node(event, events, ())
        if not documents:
            self._problems.add(self._path, Mark(self._lines_before + 1, 1), "the file is empty")
            raise _Refused
        return data

    def _node(self, event: Any, events: Iterator[Any], where: Where) -> Any:
        self.values[where] = self._mark(event)
        if len(where) > _DEPTH:
            self._refuse(event, "nested too deeply")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._refuse(event, "anchors and aliases are not allowed: write the value out")
        if event.tag is not None:
            self._refuse(event, "tags are not allowed")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, where)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, where)
        return self._scalar(event)

    def _mapping(self, events: Iterator[Any], where: Where) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event)
            inner: Where = (*where, key)
            if key in result:
                self._problems.add(self._path, self._mark(event), f"duplicate key {key!r}")
                inner = (*where, key, "duplicate")
            self.keys[inner] = self._mark(event)
            value = self._node(next(events), events, inner)
            result.setdefault(key, value)
        return result

    def _key(self, event: Any) -> str:
        key = self._scalar(event) if isinstance(event, yaml.ScalarEvent) else None
        if isinstance(key, str) and event.anchor is None and event.tag is None:
            return key
        self._refuse(event, "a key must be a plain string (put numbers, true and false in quotes)")

    def _sequence(self, events: Iterator[Any], where: Where) -> list[Any]:
        result: list[Any] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            result.append(self._node(event, events, (*where, len(result))))
        return result

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if any(map(hidden, text)):
            self._problems.add(self._path, self._mark(event), "invisible or control character in a value")
        if not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        return int(text) if _INTEGER.fullmatch(text) else text

    def _mark(self, event: Any) -> Mark:
        return Mark(event.start_mark.line + self._lines_before + 1, event.start_mark.column + 1)

    def _refuse(self, event: Any, message: str) -> NoReturn:
        self._problems.add(self._path, self._mark(event), message)
        raise _Refused
