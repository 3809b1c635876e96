"""tests/*.yaml -> policy tests (policy-files.md, "tests/*.yaml")."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vault.domain.types import NO_DATA, Act, Form
from vault.policy.model import READ_ACTS
from vault.policy.names import Names, require, require_leaf
from vault.policy.problems import Mark, Problems, suggest
from vault.policy.rules import ALLOW, DENY
from vault.policy.schema import ExpectedForms, TestEntry, TestsFile
from vault.policy.validation import validate
from vault.policy.yamlfile import Document, Where


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One case. A read has `expect`: attribute -> form or reason. An act has `act` and `allowed`."""

    name: str
    caller: str
    purpose: str
    bases: frozenset[str]
    max_form: Form | None
    expect: Mapping[str, str]
    act: str
    data: str
    allowed: bool
    path: str
    line: int


_READ_KEYS: Final = ("purpose", "bases")


def build_tests(document: Document, names: Names, problems: Problems) -> tuple[PolicyTest, ...]:
    """The tests of one file; meaningless when a problem was added."""
    file = validate(TestsFile, document, document.data, problems)
    if file is None:
        return ()
    return tuple(
        _test(document, ("tests", place), entry, names, problems) for place, entry in enumerate(file.tests)
    )


def check_names(tests: tuple[PolicyTest, ...], problems: Problems) -> None:
    """Names tell tests apart in reports, over all files."""
    seen: dict[str, PolicyTest] = {}
    for test in tests:
        other = seen.setdefault(test.name, test)
        if other is not test:
            message = f"a test of this name stands in {other.path}:{other.line}"
            problems.add(test.path, Mark(test.line, 1), message)


def _test(document: Document, where: Where, entry: TestEntry, names: Names, problems: Problems) -> PolicyTest:
    require(problems, document.path, document.value(*where, "caller"), "caller", entry.caller, names.callers)
    if entry.purpose is not None:
        require_leaf(problems, document.path, document.value(*where, "purpose"), entry.purpose, names)
    expect: Mapping[str, str] = {}
    if entry.act is None:
        expect = _expected_forms(document, where, entry, names, problems)
    else:
        _check_act(document, where, entry, names, problems)
    return PolicyTest(
        name=entry.name,
        caller=entry.caller,
        purpose=entry.purpose or "",
        bases=frozenset(entry.bases or ()),
        max_form=Form(entry.max_form) if entry.max_form else None,
        expect=MappingProxyType(dict(expect)),
        act=entry.act or "",
        data=entry.data or NO_DATA,
        allowed=entry.expect == ALLOW,
        path=document.path,
        line=document.value(*where).line,
    )


def _expected_forms(
    document: Document, where: Where, entry: TestEntry, names: Names, problems: Problems
) -> Mapping[str, str]:
    _demand(document, where, entry, _READ_KEYS, ("data",), problems)
    inner = (*where, "expect")
    if not isinstance(entry.expect, dict) or not entry.expect:
        message = "a test of a read expects {attribute: form or reason}; other tests need 'act'"
        problems.add(document.path, document.value(*inner), message)
        return {}
    checked = validate(ExpectedForms, document, entry.expect, problems, inner)
    for attribute in entry.expect:
        mark = document.key(*inner, attribute)
        require(problems, document.path, mark, "attribute", attribute, names.attributes)
    return checked.root if checked else {}


def _check_act(document: Document, where: Where, entry: TestEntry, names: Names, problems: Problems) -> None:
    if entry.expect not in (ALLOW, DENY):
        mark = document.value(*where, "expect")
        near = suggest(entry.expect, (ALLOW, DENY)) if isinstance(entry.expect, str) else ""
        problems.add(document.path, mark, f"a test of an act expects {ALLOW!r} or {DENY!r}", near)
    if entry.act in READ_ACTS:
        _demand(document, where, entry, (*_READ_KEYS, "data"), ("max_form",), problems)
    elif entry.act == Act.WRITE.value:
        _demand(document, where, entry, ("data",), (*_READ_KEYS, "max_form"), problems)
    else:
        _demand(document, where, entry, (), (*_READ_KEYS, "max_form", "data"), problems)
    if entry.data is not None:
        mark = document.value(*where, "data")
        require(problems, document.path, mark, "attribute", entry.data, names.attributes)


def _demand(
    document: Document,
    where: Where,
    entry: TestEntry,
    needed: tuple[str, ...],
    refused: tuple[str, ...],
    problems: Problems,
) -> None:
    """Which of the optional keys this kind of test has."""
    for key in needed:
        if getattr(entry, key) is None:
            problems.add(document.path, document.value(*where), f"key {key!r} is missing")
    for key in refused:
        if getattr(entry, key) is not None:
            problems.add(document.path, document.key(*where, key), f"{key!r} has no meaning in this test")
