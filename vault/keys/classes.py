"""Which keys are there for this replica: looked at before a bundle serves, so that no call finds out."""

from collections.abc import Collection, Iterable
from typing import Final

import structlog

from vault.crypto.names import LOG, LOOKUP, PSEUDONYM, all_keys, class_key
from vault.domain.errors import ConfigurationError, KeyForbiddenError, KeyMissingError
from vault.domain.protocols import KeyProvider

log = structlog.get_logger("datavault.keys")

INIT_COMMAND: Final = "datavault keys init"
_EVERY_REPLICA: Final = (LOG, LOOKUP, PSEUDONYM)
"""Without these nothing is signed and no customer is found."""


def require_keys(provider: KeyProvider, classes: Collection[str]) -> frozenset[str]:
    """See that each key of the product and of these key classes is there and of its kind.

    Returns:
        The classes whose keys the replica may not look at, which is logged: they are another replica's.

    Raises:
        ConfigurationError: keys are missing, one is of another kind, or one that every replica needs may not
            be used.
        KeysUnavailableError: the provider does not answer.
    """
    missing, forbidden = [], []
    for name, kind in all_keys(classes).items():
        try:
            found = provider.info(name).kind
        except KeyMissingError:
            missing.append(name)
        except KeyForbiddenError:
            forbidden.append(name)
        else:
            if found != kind:
                raise ConfigurationError(f"the key {name} is of kind {found}, not {kind}")
    if missing:
        raise ConfigurationError(f"the KMS has no {_listed(missing)}: run `{INIT_COMMAND} --apply`")
    needed = [name for name in forbidden if name in _EVERY_REPLICA]
    if needed:
        raise ConfigurationError(
            f"the token may not use {_listed(needed)}, which every replica needs: "
            f"`{INIT_COMMAND}` prints the policy, `datavault doctor` says what is missing"
        )
    if forbidden:
        log.warning("keys_forbidden", keys=", ".join(forbidden))
    return frozenset(name for name in classes if class_key(name) in forbidden)


def refuse_forgotten(unserved: Collection[str], new: Collection[str]) -> None:
    """Tell a class that was added and not set up from one that was left out on purpose: a replica that may
    use the keys of all other classes was not restricted.

    Raises:
        ConfigurationError: it was forgotten.
    """
    forgotten = sorted(set(unserved) & set(new))
    if forgotten and not set(unserved) - set(new):
        raise ConfigurationError(
            f"the token may not use {_listed(map(class_key, forgotten))}: run `{INIT_COMMAND} --apply`, "
            "which makes what is missing and writes the policy"
        )


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return f"{'key' if len(found) == 1 else 'keys'} {', '.join(found)}"
