"""policy.csv -> rules and role links, every word checked against the vocabulary."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from vault.domain.types import ADMINISTRATION, ANY_BASIS, NO_DATA, OPERATION_BASIS, Act
from vault.policy.csvfile import Row, read_rows
from vault.policy.hierarchy import in_cycle, too_deep
from vault.policy.model import ACTS, LINKS, READ_ACTS
from vault.policy.names import Known, Names, require
from vault.policy.problems import START, Mark, Problems
from vault.policy.schema import LEGAL_BASES, name_fault

ALLOW: Final = "allow"
DENY: Final = "deny"
POLICY_FILE: Final = "policy.csv"


@dataclass(frozen=True, slots=True)
class Rule:
    """One `p` row of policy.csv; `line` counts from 1."""

    id: str
    subject: str
    purpose: str
    data: str
    act: str
    basis: str
    effect: str
    line: int

    @property
    def allows(self) -> bool:
        return self.effect == ALLOW


@dataclass(frozen=True, slots=True)
class Link:
    """One `g` row: `member` (a caller or role) has `role`."""

    member: str
    role: str
    line: int


def build_rules(
    path: str, text: str, names: Names, problems: Problems
) -> tuple[tuple[Rule, ...], tuple[Link, ...]]:
    """All rules and links, in file order; meaningless when a problem was added."""
    rows = read_rows(path, text, problems)
    rules = [_rule(path, row, names, problems) for row in rows if row.kind == "p"]
    if not any(line and not line.startswith("#") for line in text.split("\n")) or (rows and not rules):
        problems.add(path, START, "the policy is empty: there is no 'p' row")
    links = [_link(path, row, names, problems) for row in rows if row.kind == "g"]
    _check_unique(path, rows, problems)
    _check_links(path, links, problems)
    return tuple(rules), tuple(links)


def _rule(path: str, row: Row, names: Names, problems: Problems) -> Rule:
    identifier, subject, purpose, data, act, basis, effect = row.fields
    _, at_id, at_subject, at_purpose, at_data, at_act, at_basis, at_effect = row.marks
    fault = name_fault(identifier)
    if fault:
        problems.add(path, at_id, fault)
    require(problems, path, at_subject, "role or caller", subject, names.subjects)
    require(problems, path, at_purpose, "purpose", purpose, _with(names.purposes, ADMINISTRATION))
    require(problems, path, at_data, "category or attribute", data, _with(names.data, NO_DATA))
    if require(problems, path, at_act, "act", act, ACTS):
        _check_act(path, act, (purpose, at_purpose), (data, at_data), problems)
    if require(problems, path, at_effect, "effect", effect, frozenset({ALLOW, DENY})):
        _check_basis(path, act, effect, (basis, at_basis), problems)
    return Rule(identifier, subject, purpose, data, act, basis, effect, row.line)


def _check_act(
    path: str, act: str, purpose: tuple[str, Mark], data: tuple[str, Mark], problems: Problems
) -> None:
    """Reads, search and export have a purpose of the tree; write has data; all else has neither."""
    if act in READ_ACTS and purpose[0] == ADMINISTRATION:
        problems.add(path, purpose[1], f"{act!r} needs a purpose of the tree, not {ADMINISTRATION!r}")
    if act not in READ_ACTS and purpose[0] != ADMINISTRATION:
        problems.add(path, purpose[1], f"{act!r} has the purpose {ADMINISTRATION!r}", ADMINISTRATION)
    about_data = act in READ_ACTS or act == Act.WRITE.value
    if about_data and data[0] == NO_DATA:
        problems.add(path, data[1], f"{act!r} needs a category or attribute, not {NO_DATA!r}")
    if not about_data and data[0] != NO_DATA:
        problems.add(path, data[1], f"{act!r} has the data {NO_DATA!r}", NO_DATA)


def _check_basis(path: str, act: str, effect: str, basis: tuple[str, Mark], problems: Problems) -> None:
    """A deny that depended on consent would allow once consent is withdrawn: it has basis any, always."""
    word, mark = basis
    if effect == DENY:
        if word != ANY_BASIS:
            problems.add(path, mark, f"a deny has the basis {ANY_BASIS!r}, not {word!r}", ANY_BASIS)
        return
    if word == ANY_BASIS:
        problems.add(path, mark, f"an allow never has the basis {ANY_BASIS!r}: name the legal basis")
    elif act in READ_ACTS and word == OPERATION_BASIS:
        problems.add(path, mark, f"{act!r} needs a legal basis, not {OPERATION_BASIS!r}")
    elif act in READ_ACTS:
        require(problems, path, mark, "basis", word, LEGAL_BASES)
    elif act in ACTS and word != OPERATION_BASIS:
        problems.add(path, mark, f"{act!r} has the basis {OPERATION_BASIS!r}, not {word!r}", OPERATION_BASIS)


def _link(path: str, row: Row, names: Names, problems: Problems) -> Link:
    member, role = row.fields
    _, at_member, at_role = row.marks
    require(problems, path, at_member, "caller or role", member, names.subjects)
    if names.callers is not None and role in names.callers and role not in (names.roles or ()):
        problems.add(path, at_role, f"{role!r} is a caller: only a role can stand here")
    else:
        require(problems, path, at_role, "role", role, names.roles)
    return Link(member, role, row.line)


def _check_unique(path: str, rows: Iterable[Row], problems: Problems) -> None:
    seen: dict[tuple[str, ...], int] = {}
    for row in rows:
        key = ("p", row.fields[0]) if row.kind == "p" else ("g", *row.fields)
        if key in seen:
            what = f"rule id {key[1]!r}" if row.kind == "p" else "this link"
            problems.add(path, row.marks[1], f"{what} already stands in line {seen[key]}")
        seen.setdefault(key, row.line)


def _check_links(path: str, links: Iterable[Link], problems: Problems) -> None:
    lines = {link.member: link.line for link in links}
    parents: dict[str, tuple[str, ...]] = {}
    for link in links:
        parents[link.member] = (*parents.get(link.member, ()), link.role)
    cyclic = in_cycle(parents)
    for name in cyclic:
        problems.add(path, Mark(lines[name], 4), f"{name!r} is above itself")
    for name in [] if cyclic else too_deep(parents):
        message = f"a chain of more than {LINKS} roles above {name!r}: Casbin stops matching"
        problems.add(path, Mark(lines[name], 4), message)


def _with(known: Known, word: str) -> Known:
    return None if known is None else known | {word}
