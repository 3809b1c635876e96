"""The ids that the files declare, for looking up what one file says of another."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from vault.policy.problems import Mark, Problems
from vault.policy.yamlfile import Document

Known = frozenset[str] | None
"""Declared ids; None when their file cannot be read: its mistake is told once, not at every use."""


@dataclass(frozen=True, slots=True)
class Names:
    """Ids by kind."""

    purposes: Known
    leaves: Known
    categories: Known
    attributes: Known
    key_classes: Known
    callers: Known
    roles: Known

    @property
    def subjects(self) -> Known:
        """What a rule can be for."""
        return None if self.callers is None or self.roles is None else self.callers | self.roles

    @property
    def data(self) -> Known:
        """What a rule can be about."""
        if self.attributes is None or self.categories is None:
            return None
        return self.attributes | self.categories


def declared_names(purposes: Document | None, attributes: Document | None, callers: Document | None) -> Names:
    """Read off the raw data, so that one bad entry does not make every name of its file unknown."""
    tree = _entries(purposes, "purposes")
    parents = {entry.get("parent") for entry in (tree or {}).values() if isinstance(entry, dict)}
    return Names(
        purposes=_ids(tree),
        leaves=None if tree is None else frozenset(tree) - parents,
        categories=_ids(_entries(attributes, "categories")),
        attributes=_ids(_entries(attributes, "attributes")),
        key_classes=_ids(_entries(attributes, "key_classes")),
        callers=_ids(_entries(callers, "callers")),
        roles=_ids(_entries(callers, "roles")),
    )


def require(problems: Problems, path: str, mark: Mark, kind: str, word: str, known: Known) -> bool:
    """Whether `word` is known (or cannot be looked up); adds a problem when not."""
    if known is None or word in known:
        return True
    problems.unknown(path, mark, kind, word, known)
    return False


def require_leaf(problems: Problems, path: str, mark: Mark, word: str, names: Names) -> bool:
    """Like `require`, for a purpose that has no purposes below it."""
    if not require(problems, path, mark, "purpose", word, names.purposes):
        return False
    if names.leaves is not None and word not in names.leaves:
        problems.add(path, mark, f"{word!r} has purposes below it: only a leaf can stand here")
        return False
    return True


def repeated(words: Collection[str]) -> str:
    """The first word that occurs twice, else ''."""
    seen: set[str] = set()
    for word in words:
        if word in seen:
            return word
        seen.add(word)
    return ""


def _entries(document: Document | None, section: str) -> Mapping[str, Any] | None:
    data = document.data if document else None
    entries = data.get(section) if isinstance(data, dict) else None
    return entries if isinstance(entries, dict) else None


def _ids(entries: Mapping[str, Any] | None) -> Known:
    return None if entries is None else frozenset(entries)
