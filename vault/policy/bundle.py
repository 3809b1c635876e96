"""The bundle: the immutable, validated content of policies/, named by its SHA-256."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from vault.domain.protocols import CallerEntry
from vault.domain.types import Attribute, KeyClass, Notice, Purpose
from vault.policy.attributes import Data, build_attributes
from vault.policy.callers import Callers, Identity, build_callers
from vault.policy.cases import PolicyTest, build_tests, check_names
from vault.policy.files import JUSTIFICATIONS, TEST_PATH, bundle_hash, check_files, read_folder
from vault.policy.hierarchy import closure
from vault.policy.model import check_model
from vault.policy.names import Names, declared_names, require
from vault.policy.notices import NOTICE_PATH, Notices, TextKey, build_notices
from vault.policy.problems import PolicyError, Problems
from vault.policy.purposes import build_purposes, check_notices_of
from vault.policy.rules import POLICY_FILE, Link, Rule, build_rules
from vault.policy.schema import JustificationsFile
from vault.policy.textfile import decode
from vault.policy.validation import validate
from vault.policy.yamlfile import Document, read_yaml


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Bundle:
    """All that the policy files say. Implements the domain's CallerDirectory.

    `hash` is hex. `categories` maps each category to itself and its ancestors, nearest first. A caller's
    `roles` are all it has, directly or through other roles. `notice_texts` are the texts after the front
    matter. `rules`, `links` and `tests` are in file order. `files` are the bytes it was made of.
    """

    hash: str
    purposes: Mapping[str, Purpose]
    attributes: Mapping[str, Attribute]
    categories: Mapping[str, tuple[str, ...]]
    key_classes: Mapping[str, KeyClass]
    callers: Mapping[str, CallerEntry]
    roles: Mapping[str, str]
    notices: Mapping[tuple[str, int], Notice]
    notice_texts: Mapping[TextKey, str]
    rules: tuple[Rule, ...]
    links: tuple[Link, ...]
    tests: tuple[PolicyTest, ...]
    justifications: Mapping[str, str]
    identities: Mapping[Identity, str]
    files: Mapping[str, bytes]

    def by_spiffe(self, uri: str) -> CallerEntry | None:
        """The caller that this SPIFFE id proves; compared byte by byte."""
        return self._proven(("spiffe", uri))

    def by_dns(self, name: str) -> CallerEntry | None:
        """The caller that this DNS name proves; ASCII case does not count (RFC 4343)."""
        return self._proven(("dns", name.lower())) if name.isascii() else None

    def by_jwt(self, issuer: str, subject: str) -> CallerEntry | None:
        """The caller that this subject of this issuer proves; compared exactly."""
        return self._proven(("jwt", issuer, subject))

    def _proven(self, identity: Identity) -> CallerEntry | None:
        caller = self.identities.get(identity)
        return None if caller is None else self.callers[caller]

    def __repr__(self) -> str:
        return f"Bundle({self.hash})"


@dataclass(frozen=True, slots=True)
class _Documents:
    purposes: Document | None
    attributes: Document | None
    callers: Document | None


def load_bundle(folder: Path) -> Bundle:
    """Read and check a policies folder.

    Raises:
        PolicyError: anything is wrong; it holds every problem found.
    """
    return bundle_from_files(read_folder(folder))


def bundle_from_files(files: Mapping[str, bytes]) -> Bundle:
    """The bundle of these files (path with `/` -> bytes). Pure.

    Raises:
        PolicyError: anything is wrong; it holds every problem found.
    """
    problems = Problems()
    check_files(files, problems)
    problems.raise_any()
    decoded = {path: decode(path, content, problems) for path, content in files.items()}
    texts = {path: text for path, text in decoded.items() if text is not None}
    bundle = _build(files, texts, problems)
    problems.raise_any()
    if bundle is None:
        raise PolicyError([])  # not reached: a part is missing only after a problem was added
    return bundle


def _build(files: Mapping[str, bytes], texts: Mapping[str, str], problems: Problems) -> Bundle | None:
    documents = _Documents(
        _yaml("purposes.yaml", texts, problems),
        _yaml("attributes.yaml", texts, problems),
        _yaml("callers.yaml", texts, problems),
    )
    names = declared_names(documents.purposes, documents.attributes, documents.callers)
    if "model.conf" in texts:
        check_model("model.conf", texts["model.conf"], problems)
    rules, links = (
        build_rules(POLICY_FILE, texts[POLICY_FILE], names, problems) if POLICY_FILE in texts else ((), ())
    )
    notices = build_notices(
        {path: text for path, text in texts.items() if NOTICE_PATH.fullmatch(path)}, names, problems
    )
    purposes = build_purposes(documents.purposes, names, problems) if documents.purposes else None
    data = build_attributes(documents.attributes, names, problems) if documents.attributes else None
    callers = build_callers(documents.callers, names, problems) if documents.callers else None
    if documents.purposes and purposes:
        check_notices_of(documents.purposes, purposes, notices.notices, problems)
    tests = _tests(texts, names, problems)
    justifications = _justifications(texts, rules, problems)
    if purposes is None or data is None or callers is None:
        return None
    return _assemble(files, purposes, data, callers, notices, (rules, links), tests, justifications)


def _assemble(
    files: Mapping[str, bytes],
    purposes: Mapping[str, Purpose],
    data: Data,
    callers: Callers,
    notices: Notices,
    policy: tuple[tuple[Rule, ...], tuple[Link, ...]],
    tests: tuple[PolicyTest, ...],
    justifications: Mapping[str, str],
) -> Bundle:
    rules, links = policy
    parents: dict[str, tuple[str, ...]] = {}
    for link in links:
        parents[link.member] = (*parents.get(link.member, ()), link.role)
    entries = {name: replace(entry, roles=closure(name, parents)) for name, entry in callers.entries.items()}
    return Bundle(
        hash=bundle_hash(files),
        purposes=purposes,
        attributes=data.attributes,
        categories=data.categories,
        key_classes=data.key_classes,
        callers=MappingProxyType(entries),
        roles=callers.roles,
        notices=notices.notices,
        notice_texts=notices.texts,
        rules=rules,
        links=links,
        tests=tests,
        justifications=justifications,
        identities=callers.identities,
        files=MappingProxyType(dict(files)),
    )


def _yaml(path: str, texts: Mapping[str, str], problems: Problems) -> Document | None:
    return read_yaml(path, texts[path], problems) if path in texts else None


def _tests(texts: Mapping[str, str], names: Names, problems: Problems) -> tuple[PolicyTest, ...]:
    found: list[PolicyTest] = []
    for path in sorted(texts):
        document = _yaml(path, texts, problems) if TEST_PATH.fullmatch(path) else None
        if document is not None:
            found.extend(build_tests(document, names, problems))
    tests = tuple(found)
    check_names(tests, problems)
    return tests


def _justifications(
    texts: Mapping[str, str], rules: tuple[Rule, ...], problems: Problems
) -> Mapping[str, str]:
    document = _yaml(JUSTIFICATIONS, texts, problems)
    file = validate(JustificationsFile, document, document.data, problems) if document else None
    if document is None or file is None:
        return MappingProxyType({})
    known = frozenset(rule.id for rule in rules)
    for rule in file.root:
        require(problems, document.path, document.key(rule), "rule", rule, known or None)
    return MappingProxyType(dict(file.root))
