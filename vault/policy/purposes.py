"""purposes.yaml -> the purpose tree."""

from collections.abc import Mapping
from types import MappingProxyType

from vault.domain.types import Basis, Notice, Purpose
from vault.policy.hierarchy import closure, in_cycle, too_deep
from vault.policy.model import LINKS
from vault.policy.names import Names, repeated, require
from vault.policy.problems import Problems
from vault.policy.schema import PurposeEntry, PurposesFile, seconds
from vault.policy.validation import validate
from vault.policy.yamlfile import Document

_LEAF_KEYS = (
    "bases",
    "consent_lifetime",
    "objection_overridden",
    "direct_marketing",
    "notice",
    "notice_minimum_version",
)


def build_purposes(document: Document, names: Names, problems: Problems) -> Mapping[str, Purpose] | None:
    """The purposes by id, or None after adding every problem of the file itself."""
    before = len(problems)
    file = validate(PurposesFile, document, document.data, problems)
    if file is None:
        return None
    _check_tree(document, file, names, problems)
    for name, entry in file.purposes.items():
        inner = names.leaves is not None and name not in names.leaves
        (_check_inner if inner else _check_leaf)(document, name, entry, problems)
    if len(problems) > before:
        return None
    parents = _parents(file)
    return MappingProxyType(
        {name: _purpose(name, entry, closure(name, parents), names) for name, entry in file.purposes.items()}
    )


def check_notices_of(
    document: Document,
    purposes: Mapping[str, Purpose],
    notices: Mapping[tuple[str, int], Notice],
    problems: Problems,
) -> None:
    """Each purpose's notice exists in its minimum version, and a version that still counts covers it."""
    for purpose in purposes.values():
        if not purpose.notice:
            continue
        where = ("purposes", purpose.id, "notice")
        versions = {version for name, version in notices if name == purpose.notice}
        if not versions:
            known = {name for name, _ in notices}
            problems.unknown(document.path, document.value(*where), "notice", purpose.notice, known)
            continue
        minimum = purpose.notice_minimum_version
        if minimum not in versions:
            there = ", ".join(map(str, sorted(versions)))
            mark = document.value("purposes", purpose.id, "notice_minimum_version")
            message = f"notice {purpose.notice!r} has no version {minimum} (has {there})"
            problems.add(document.path, mark, message)
            continue
        valid = [notices[purpose.notice, version] for version in versions if version >= minimum]
        if not any(purpose.id in notice.covers for notice in valid):
            message = f"no version of notice {purpose.notice!r} from {minimum} on covers {purpose.id!r}"
            problems.add(document.path, document.value(*where), message)


def _parents(file: PurposesFile) -> dict[str, tuple[str, ...]]:
    return {name: (entry.parent,) if entry.parent else () for name, entry in file.purposes.items()}


def _check_tree(document: Document, file: PurposesFile, names: Names, problems: Problems) -> None:
    for name, entry in file.purposes.items():
        if entry.parent is not None:
            mark = document.value("purposes", name, "parent")
            require(problems, document.path, mark, "purpose", entry.parent, names.purposes)
    parents = _parents(file)
    cyclic = in_cycle(parents)
    for name in cyclic:
        mark = document.value("purposes", name, "parent")
        problems.add(document.path, mark, f"purpose {name!r} is above itself")
    for name in [] if cyclic else too_deep(parents):
        mark = document.value("purposes", name, "parent")
        problems.add(document.path, mark, f"more than {LINKS} purposes above {name!r}: Casbin stops matching")


def _check_inner(document: Document, name: str, entry: PurposeEntry, problems: Problems) -> None:
    for key in _LEAF_KEYS:
        if getattr(entry, key) is not None:
            mark = document.key("purposes", name, key)
            message = f"{name!r} has purposes below it: {key!r} can stand only on a leaf"
            problems.add(document.path, mark, message)


def _check_leaf(document: Document, name: str, entry: PurposeEntry, problems: Problems) -> None:
    def add(key: str, message: str) -> None:
        problems.add(document.path, document.key("purposes", name, key), message)

    for jurisdiction, bases in (entry.bases or {}).items():
        twice = repeated(bases)
        if twice:
            mark = document.value("purposes", name, "bases", jurisdiction)
            problems.add(document.path, mark, f"basis {twice!r} stands twice")
    if entry.notice_minimum_version is not None and entry.notice is None:
        add("notice_minimum_version", "needs 'notice' beside it")
    declared = {basis for bases in (entry.bases or {}).values() for basis in bases}
    if entry.objection_overridden is not None and Basis.LEGITIMATE_INTEREST.value not in declared:
        add(
            "objection_overridden",
            "only 'legitimate-interest' can override an objection: declare it in 'bases'",
        )
    if entry.objection_overridden is not None and entry.direct_marketing:
        add("objection_overridden", "an objection to direct marketing cannot be overridden (GDPR 21(3))")


def _purpose(name: str, entry: PurposeEntry, ancestors: tuple[str, ...], names: Names) -> Purpose:
    bases = {
        jurisdiction: frozenset(map(Basis, declared))
        for jurisdiction, declared in (entry.bases or {}).items()
    }
    return Purpose(
        id=name,
        dpv=entry.dpv,
        parent=entry.parent or "",
        ancestors=ancestors,
        leaf=names.leaves is None or name in names.leaves,
        descriptions=MappingProxyType(dict(entry.descriptions)),
        bases=MappingProxyType(bases),
        consent_lifetime_seconds=seconds(entry.consent_lifetime or ""),
        objection_overridden=entry.objection_overridden or "",
        direct_marketing=bool(entry.direct_marketing),
        notice=entry.notice or "",
        notice_minimum_version=(entry.notice_minimum_version or 1) if entry.notice else 0,
    )
