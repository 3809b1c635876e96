"""notices/<id>/<version>/<lang>.md -> notices, their texts and digests."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vault.domain.types import Notice
from vault.policy.names import Names, repeated, require, require_leaf
from vault.policy.problems import START, Mark, Problems
from vault.policy.schema import NoticeHead, name_fault
from vault.policy.validation import validate
from vault.policy.yamlfile import Document, read_yaml

NOTICE_PATH: Final = re.compile(r"notices/([^/]+)/([1-9][0-9]{0,8})/([a-z]{2,3}(?:-[A-Z]{2})?)\.md")
_FENCE: Final = "---\n"

TextKey = tuple[str, int, str]
"""(notice id, version, language)"""


@dataclass(frozen=True, slots=True)
class Notices:
    """All notices by (id, version) and their texts by (id, version, language)."""

    notices: Mapping[tuple[str, int], Notice]
    texts: Mapping[TextKey, str]


@dataclass(frozen=True, slots=True)
class _Page:
    path: str
    covers: Mapping[str, frozenset[str]]
    text: str
    mark: Mark


def build_notices(texts: Mapping[str, str], names: Names, problems: Problems) -> Notices:
    """`texts`: path -> content of the notice files. Meaningless when a problem was added."""
    pages: dict[tuple[str, int], dict[str, _Page]] = {}
    for path, text in sorted(texts.items()):
        match = NOTICE_PATH.fullmatch(path)
        if match is None:
            continue
        fault = name_fault(match[1])
        if fault:
            problems.add(path, START, f"notice id: {fault}")
        page = _page(path, text, names, problems)
        if page is not None:
            pages.setdefault((match[1], int(match[2])), {})[match[3]] = page
    for languages in pages.values():
        _check_equal(languages, problems)
    return Notices(
        MappingProxyType({key: _notice(key, languages) for key, languages in pages.items()}),
        MappingProxyType(
            {(*key, lang): page.text for key, languages in pages.items() for lang, page in languages.items()}
        ),
    )


def _notice(key: tuple[str, int], languages: Mapping[str, _Page]) -> Notice:
    digests = {lang: hashlib.sha256(page.text.encode()).hexdigest() for lang, page in languages.items()}
    first = next(iter(languages.values()))
    return Notice(key[0], key[1], first.covers, MappingProxyType(digests))


def _page(path: str, text: str, names: Names, problems: Problems) -> _Page | None:
    end = text.find("\n" + _FENCE, len(_FENCE) - 1)
    if not text.startswith(_FENCE) or end < 0:
        message = "must start with front matter: a line '---', title and covers, a line '---'"
        problems.add(path, START, message)
        return None
    body = text[end + 1 + len(_FENCE) :]
    if not body.strip():
        problems.add(path, Mark(text.count("\n") + 1, 1), "the notice has no text")
    document = read_yaml(path, text[len(_FENCE) : end + 1], problems, first_line=2)
    head = validate(NoticeHead, document, document.data, problems) if document else None
    if document is None or head is None:
        return None
    _check_covers(document, head, names, problems)
    covers = {leaf: frozenset(categories) for leaf, categories in head.covers.items()}
    return _Page(path, MappingProxyType(covers), body, document.key("covers"))


def _check_covers(document: Document, head: NoticeHead, names: Names, problems: Problems) -> None:
    for leaf, categories in head.covers.items():
        require_leaf(problems, document.path, document.key("covers", leaf), leaf, names)
        for place, category in enumerate(categories):
            mark = document.value("covers", leaf, place)
            require(problems, document.path, mark, "category", category, names.categories)
        if repeated(categories):
            problems.add(document.path, document.key("covers", leaf), "a category stands twice")


def _check_equal(languages: Mapping[str, _Page], problems: Problems) -> None:
    first, *others = languages.values()
    for page in others:
        if page.covers != first.covers:
            problems.add(page.path, page.mark, f"'covers' differs from {first.path}")
