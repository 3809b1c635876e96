"""What `datavault doctor` checks at the KMS: the token's rights against the table of roles, and the keys.

What is missing is named path by path, with the line to add to the policy. A class of which nothing is granted
was left out on purpose as long as another one works: that is a restricted replica.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from vault.config import Settings
from vault.crypto.names import WRAPPING_KIND, all_keys
from vault.crypto.transit_formats import one_line
from vault.crypto.transit_policies import Grant, Role, grants, policy_prefix
from vault.crypto.transit_setup import KeySettings, TokenFacts, TransitSetup
from vault.domain.errors import DatavaultError, KeyForbiddenError
from vault.findings import Finding, Health
from vault.keys.classes import INIT_COMMAND

KEYS: Final = "keys"
TOKEN: Final = "kms token"
_ROOT: Final = "root"
_OTHER_CLASS: Final = "datavault-no-such-class"
_WRITING: Final = frozenset({"create", "update", "patch", "delete", "sudo"})
_READING: Final = frozenset({"read", "sudo"})
_EXCESSES: Final = (
    ("{mount}/export/encryption-key/{key}", _READING, "it could take exportable keys out of the KMS"),
    ("{mount}/backup/{key}", _READING, "it could take keys out of the KMS as a backup"),
    ("{mount}/keys/{key}", _WRITING, "it could make or delete keys"),
    ("sys/policies/acl/{prefix}replica", _WRITING, "it could give itself any right"),
    ("auth/token/create", _WRITING, "it could make tokens that outlive it"),
    (
        f"{{mount}}/decrypt/{_OTHER_CLASS}",
        _WRITING,
        "a pattern opens the keys of classes that are added later",
    ),
)
"""What a service's token should not be able to do: path, what it should not hold there, what that means."""

Held = Mapping[str, frozenset[str]]


def version(settings: Settings, setup: TransitSetup) -> Finding:
    """Which server answers, and where in it the keys are."""
    place = f"mount {settings.transit_mount}"
    if settings.transit_namespace:
        place += f", namespace {settings.transit_namespace}"
    return Finding(KEYS, Health.GOOD, f"{settings.transit_address}: version {setup.version()}, {place}")


def unseen(mount: str, setup: TransitSetup) -> Finding | None:
    """The KMS does not tell who the token is: what it lacks for that, None where that is not why."""
    needed = _grant("auth/token/lookup-self", mount)
    try:
        held = setup.capabilities([needed.path])
    except DatavaultError:
        return None
    return _lack(needed, held, Health.BAD) if _lacks(needed, held) else None


def not_compared(mount: str, error: KeyForbiddenError) -> Finding:
    """The token may not ask what it may do."""
    needed = _grant("sys/capabilities-self", mount)
    detail = f"{error.message}: its rights were not compared"
    return Finding(TOKEN, Health.WARNING, detail, f"add to the policy: {one_line(needed)}")


def lifetime(facts: TokenFacts, *, logs_in: bool) -> Finding:
    """How long the token lives. `logs_in`: the service gets another one by itself when this one ends."""
    if facts.seconds_left is None:
        return Finding(TOKEN, Health.WARNING, "the token never ends", "use one with a time to live")
    detail = f"the token ends in {_duration(facts.seconds_left)}"
    if facts.renewable:
        return Finding(TOKEN, Health.GOOD, f"{detail}, and can be renewed")
    if logs_in:
        return Finding(TOKEN, Health.GOOD, f"{detail}; then the service logs in again")
    return Finding(
        TOKEN, Health.WARNING, f"{detail} and cannot be renewed", "use a renewable one, or a way to log in"
    )


def wanted_paths(mount: str, classes: Collection[str]) -> list[str]:
    """Every path to ask the KMS about."""
    asked = [grant.path for grant in grants(Role.OPERATOR, mount, classes)]
    asked += [path for path, *_ in _excess_paths(mount, classes)]
    return list(dict.fromkeys(asked))


def rights(mount: str, classes: Collection[str], facts: TokenFacts, held: Held) -> Iterator[Finding]:
    """What the token lacks, and what it has beyond its role.

    `held` gives its capabilities at each of `wanted_paths`.
    """
    if _ROOT in facts.policies or any(_ROOT in names for names in held.values()):
        yield Finding(
            TOKEN,
            Health.WARNING,
            "a root token: it may do everything at the KMS",
            f"use one with the policy {policy_prefix(mount)}replica, as `{INIT_COMMAND} --apply` writes it",
        )
        return
    unserved = {name for name in classes if not _any_of_class(name, mount, held)}
    needed = [one for one in grants(Role.REPLICA, mount, classes) if one.key_class not in unserved]
    if len(unserved) == len(classes):
        yield _nothing_served(mount)
    elif unserved:
        yield _left_out(unserved)
    lacking = [one for one in needed if _lacks(one, held)]
    yield from (_lack(one, held, Health.BAD if one.key else Health.WARNING) for one in lacking)
    yield from _operating(mount, set(classes) - unserved, held)
    yield from _excess(mount, classes, held)
    if not lacking and not unserved:
        yield Finding(TOKEN, Health.GOOD, "it may use the keys of every class")


def key_settings(found: Mapping[str, KeySettings | None]) -> Iterator[Finding]:
    """Type and settings of each key that could be looked at; None is one that is not there."""
    kinds = {name: all_keys([]).get(name, WRAPPING_KIND) for name in found}
    missing = [name for name, key in found.items() if key is None]
    if missing:
        yield Finding(KEYS, Health.BAD, f"{', '.join(missing)}: not there", f"run `{INIT_COMMAND} --apply`")
    faults: dict[tuple[Health, str, str], list[str]] = defaultdict(list)
    for name, key in found.items():
        for fault in _faults(key, kinds[name]) if key is not None else ():
            faults[fault].append(name)
    for (health, detail, remedy), names in faults.items():
        yield Finding(KEYS, health, f"{', '.join(names)}: {detail}", remedy)


# --- what is missing --------------------------------------------------------------------------------------


def _lacks(grant: Grant, held: Held) -> tuple[str, ...]:
    return tuple(name for name in grant.capabilities if name not in held.get(grant.path, frozenset()))


def _lack(grant: Grant, held: Held, health: Health) -> Finding:
    names = ", ".join(f"`{name}`" for name in _lacks(grant, held))
    return Finding(
        TOKEN,
        health,
        f"the token lacks {names} on {grant.path}: {grant.consequence}",
        f"add to the policy: {one_line(grant)}",
    )


def _grant(path: str, mount: str) -> Grant:
    return next(one for one in grants(Role.REPLICA, mount, []) if one.path == path)


def _any_of_class(key_class: str, mount: str, held: Held) -> bool:
    return any(
        not _lacks(grant, held)
        for grant in grants(Role.REPLICA, mount, [key_class])
        if grant.key_class == key_class
    )


def _nothing_served(mount: str) -> Finding:
    return Finding(
        TOKEN,
        Health.BAD,
        f"the token may use the key of no class in the mount {mount}",
        f"check DATAVAULT_TRANSIT_MOUNT, and the policy: `{INIT_COMMAND} --role replica` prints it",
    )


def _left_out(unserved: Iterable[str]) -> Finding:
    names = ", ".join(sorted(unserved))
    return Finding(
        TOKEN,
        Health.WARNING,
        f"not served by this replica: {names}; their attributes answer key-unavailable",
        f"nothing, if another replica serves them; else `{INIT_COMMAND} --role replica` prints the policy",
    )


def _operating(mount: str, classes: Collection[str], held: Held) -> Iterator[Finding]:
    """A token that may do some of what an operator's may, and not all of it, is a mistake."""
    serving = {grant.path for grant in grants(Role.REPLICA, mount, classes)}
    more = [one for one in grants(Role.OPERATOR, mount, classes) if one.path not in serving]
    lacking = [one for one in more if _lacks(one, held)]
    if len(lacking) < len(more):
        yield from (_lack(one, held, Health.WARNING) for one in lacking)
        if not lacking:
            yield Finding(TOKEN, Health.GOOD, "it may rotate keys and rewrap data keys: role operator")


# --- what is too much -------------------------------------------------------------------------------------


def _excess(mount: str, classes: Collection[str], held: Held) -> Iterator[Finding]:
    creating = [
        one.path
        for one in grants(Role.REPLICA, mount, classes)
        if "/encrypt/" in one.path and "create" in held.get(one.path, ())
    ]
    if creating:
        yield Finding(
            TOKEN,
            Health.WARNING,
            f"the token may `create` on {_first(creating)}: a misspelt key would be made",
            "give `update` alone on encrypt paths",
        )
    found: dict[str, list[str]] = defaultdict(list)
    for path, too_much, meaning in _excess_paths(mount, classes):
        names = sorted(too_much & held.get(path, frozenset()))
        if names:
            found[f"{', '.join(f'`{name}`' for name in names)} on |{meaning}"].append(path)
    for what, paths in found.items():
        names_of, _, meaning = what.partition("|")
        yield Finding(
            TOKEN,
            Health.WARNING,
            f"the token has {names_of}{_first(paths)}: {meaning}",
            f"take it out of the policy: `{INIT_COMMAND}` prints what is needed",
        )


def _excess_paths(mount: str, classes: Collection[str]) -> Iterator[tuple[str, frozenset[str], str]]:
    for pattern, too_much, meaning in _EXCESSES:
        keys = all_keys(classes) if "{key}" in pattern else ("",)
        for key in keys:
            path = pattern.format(mount=mount, prefix=policy_prefix(mount), key=key)
            yield path, too_much, meaning


def _faults(key: KeySettings, kind: str) -> Iterator[tuple[Health, str, str]]:
    derived = kind == WRAPPING_KIND
    if (key.kind, key.derived) != (kind, derived):
        yield (
            Health.BAD,
            f"of type {key.kind}, derived={key.derived}, not {kind}, derived={derived}",
            f"use another mount, and run `{INIT_COMMAND} --apply`",
        )
    if key.exportable:
        yield Health.WARNING, "exportable, which cannot be undone", "make keys in another mount, and migrate"
    if key.plaintext_backup:
        yield (
            Health.WARNING,
            "allows plaintext backup, which cannot be undone",
            "make keys in another mount, and migrate",
        )
    if key.deletion_allowed:
        yield Health.WARNING, "may be deleted, and every value with it", "set deletion_allowed=false on it"


def _first(paths: Collection[str]) -> str:
    first, *others = paths
    return f"{first} (and {len(others)} more)" if others else first


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h"
