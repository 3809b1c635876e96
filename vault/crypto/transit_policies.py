"""The table of `transit_rules.py`, written out as a policy for a mount, a role and its key classes."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from vault.crypto.names import class_key
from vault.crypto.transit_rules import CLASS_KEY, RULES, Role, Rule
from vault.domain.errors import ConfigurationError

__all__ = ["Grant", "Role", "TransitPolicy", "grants", "policy", "policy_prefix", "require_mount"]

_USUAL_MOUNT: Final = "transit"
_MOUNT: Final = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True, slots=True)
class Grant:
    """One path of a policy. `key` is '' where it concerns no key, `key_class` where it is of no class."""

    rule: Rule
    path: str
    key: str = ""
    key_class: str = ""

    @property
    def capabilities(self) -> tuple[str, ...]:
        return self.rule.capabilities

    @property
    def consequence(self) -> str:
        """What happens to a token without it."""
        return self.rule.lacking.format(what=f"class {self.key_class}" if self.key_class else self.key)


@dataclass(frozen=True, slots=True)
class TransitPolicy:
    """An ACL policy: its name at the KMS and what it grants."""

    name: str
    role: Role
    classes: tuple[str, ...]
    grants: tuple[Grant, ...]


def grants(role: Role, mount: str, classes: Collection[str]) -> tuple[Grant, ...]:
    """Every path that a token of this role needs, for these key classes, in the order of the table.

    Raises:
        ConfigurationError: a class cannot be one, or the mount is no plain path.
    """
    require_mount(mount)
    return tuple(grant for rule in RULES if role in rule.roles for grant in _expand(rule, mount, classes))


def policy(
    role: Role, mount: str, classes: Collection[str], every_class: Collection[str] = ()
) -> TransitPolicy:
    """The policy `<prefix><role>`; where `classes` are fewer than `every_class` they are part of its name.

    Raises: as `grants`.
    """
    chosen = tuple(sorted(set(classes)))
    restricted = role is not Role.SETUP and bool(set(every_class) - set(chosen))
    # no key class holds an underscore, so no two sets of classes share a name
    name = f"{policy_prefix(mount)}{role}" + (f"-{'_'.join(chosen)}" if restricted else "")
    return TransitPolicy(name, role, chosen, grants(role, mount, chosen))


def policy_prefix(mount: str) -> str:
    """How names of policies begin: `datavault-`; for another mount than `transit` its name is part of it, for
    two installations at one KMS must not overwrite each other's."""
    return "datavault-" if mount == _USUAL_MOUNT else f"datavault:{mount.replace('/', ':').lower()}-"


def require_mount(mount: str) -> None:
    """
    Raises:
        ConfigurationError: the mount is no plain path; in a policy it could mean more than itself.
    """
    if not _MOUNT.fullmatch(mount) or ".." in mount.split("/"):
        raise ConfigurationError(
            "DATAVAULT_TRANSIT_MOUNT: must be a plain path such as transit or kms/transit"
        )


def _expand(rule: Rule, mount: str, classes: Collection[str]) -> Iterator[Grant]:
    if not rule.keys:
        yield Grant(rule, rule.path.format(mount=mount, prefix=policy_prefix(mount)))
        return
    for key in rule.keys:
        if key != CLASS_KEY:
            yield Grant(rule, rule.path.format(mount=mount, key=key), key)
            continue
        for key_class in sorted(set(classes)):
            name = class_key(key_class)
            yield Grant(rule, rule.path.format(mount=mount, key=name), name, key_class)
