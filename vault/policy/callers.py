"""callers.yaml -> callers, roles, and which identity proves which caller."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vault.domain.protocols import CallerEntry
from vault.policy.names import Names, require_leaf
from vault.policy.problems import Mark, Problems
from vault.policy.schema import ALL_OTHERS, CallerFileEntry, CallersFile, IdentityEntry
from vault.policy.validation import validate
from vault.policy.yamlfile import Document

# SPIFFE-ID specification, sections 2.1 and 2.2
_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+")
_SPIFFE_BYTES: Final = 2_048
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_KINDS: Final = ("spiffe", "dns", "jwt")

Identity = tuple[str, ...]
"""("spiffe", uri), ("dns", name) or ("jwt", issuer, subject)."""


@dataclass(frozen=True, slots=True)
class Callers:
    """What callers.yaml declares; `entries` are still without roles (policy.csv gives them)."""

    entries: Mapping[str, CallerEntry]
    roles: Mapping[str, str]
    identities: Mapping[Identity, str]


def build_callers(document: Document, names: Names, problems: Problems) -> Callers | None:
    """The callers, or None after adding every problem of the file."""
    before = len(problems)
    file = validate(CallersFile, document, document.data, problems)
    if file is None:
        return None
    identities: dict[Identity, str] = {}
    for name, entry in file.callers.items():
        if name in file.roles:
            problems.add(document.path, document.key("callers", name), f"{name!r} is also the name of a role")
        _check_quotas(document, name, entry, names, problems)
        for mark, identity in _identities(document, name, entry, problems):
            if identity in identities:
                other = identities[identity]
                problems.add(document.path, mark, f"this identity already proves caller {other!r}")
            identities.setdefault(identity, name)
    if len(problems) > before:
        return None
    entries = {name: _entry(name, entry) for name, entry in file.callers.items()}
    return Callers(
        MappingProxyType(entries), MappingProxyType(dict(file.roles)), MappingProxyType(identities)
    )


def _identity(entry: IdentityEntry) -> Identity | None:
    if entry.jwt is not None:
        return "jwt", entry.jwt.issuer, entry.jwt.subject
    if entry.spiffe is not None:
        return "spiffe", entry.spiffe
    return ("dns", entry.dns) if entry.dns is not None else None


def _identities(
    document: Document, name: str, entry: CallerFileEntry, problems: Problems
) -> Iterator[tuple[Mark, Identity]]:
    for place, item in enumerate(entry.identities):
        where = ("callers", name, "identities", place)
        given = [kind for kind in _KINDS if getattr(item, kind) is not None]
        identity = _identity(item)
        if len(given) != 1 or identity is None:
            problems.add(document.path, document.value(*where), "needs exactly one of spiffe, dns, jwt")
            continue
        fault = _fault(item)
        if fault:
            problems.add(document.path, document.value(*where, given[0]), fault)
        yield document.value(*where), identity


def _fault(item: IdentityEntry) -> str:
    if item.spiffe is not None and not (_SPIFFE.fullmatch(item.spiffe) and len(item.spiffe) <= _SPIFFE_BYTES):
        return "must be a SPIFFE id such as spiffe://bank.example/name"
    if item.dns is not None and not _DNS.fullmatch(item.dns):
        return "must be a lower-case DNS name without wildcard"
    return ""


def _check_quotas(
    document: Document, name: str, entry: CallerFileEntry, names: Names, problems: Problems
) -> None:
    for purpose in entry.quotas.subjects_per_hour if entry.quotas else ():
        if purpose != ALL_OTHERS:
            mark = document.key("callers", name, "quotas", "subjects_per_hour", purpose)
            require_leaf(problems, document.path, mark, purpose, names)


def _entry(name: str, entry: CallerFileEntry) -> CallerEntry:
    found = [identity for identity in map(_identity, entry.identities) if identity]
    return CallerEntry(
        id=name,
        tenant=entry.tenant,
        description=entry.description,
        spiffe=tuple(identity[1] for identity in found if identity[0] == "spiffe"),
        dns=tuple(identity[1] for identity in found if identity[0] == "dns"),
        jwt=tuple((identity[1], identity[2]) for identity in found if identity[0] == "jwt"),
        subjects_per_hour=MappingProxyType(dict(entry.quotas.subjects_per_hour)) if entry.quotas else None,
    )
