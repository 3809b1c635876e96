"""What each role may do at the KMS: one table, from which policies, docs and the doctor's check come.

Nothing stands in it that the product does not call. Encrypt paths get `update` and never `create`, which
there means *make the key if it is missing*. Every key is written out: a pattern such as `datavault-*` would
also open the key of a class that is added later.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vault.crypto.names import INDEX, LOG, LOOKUP, PSEUDONYM, RECEIPT

CLASS_KEY: Final = "datavault-<class>"
"""Stands in the table for the key of each key class."""


class Role(StrEnum):
    """Who holds a token. `replica` serves; `operator` is a replica that also serves KeyService; `setup` makes
    keys and policies, once, by `datavault keys init --apply`."""

    REPLICA = "replica"
    OPERATOR = "operator"
    SETUP = "setup"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table.

    `path` is a pattern with `{mount}`, `{prefix}` (of policies' names) and `{key}`; `keys` are what `{key}`
    stands for, with CLASS_KEY for the key of each class. `parameters`, where there are any, are the only ones
    a request may carry. `lacking` says what happens to a token without it, with `{what}` for class or key.
    """

    roles: tuple[Role, ...]
    path: str
    keys: tuple[str, ...]
    capabilities: tuple[str, ...]
    why: str
    lacking: str
    parameters: tuple[str, ...] = ()


_SERVING: Final = (Role.REPLICA, Role.OPERATOR)
_OPERATING: Final = (Role.OPERATOR,)
_SETUP: Final = (Role.SETUP,)
_EVERYONE: Final = tuple(Role)
_CLASSES: Final = (CLASS_KEY,)
_TENANTS: Final = (LOOKUP, PSEUDONYM, INDEX)
_WRAPPING: Final = (CLASS_KEY, *_TENANTS)
_SIGNING: Final = (LOG, RECEIPT)
_ALL_KEYS: Final = (*_WRAPPING, *_SIGNING)
_ONCE: Final = "`datavault keys init --apply` cannot finish"

RULES: Final = (
    Rule(
        _SERVING,
        "{mount}/encrypt/{key}",
        _CLASSES,
        ("update",),
        "wraps new data keys",
        "writes of {what} that need a new data key answer KEYS_UNAVAILABLE",
    ),
    Rule(
        _SERVING,
        "{mount}/decrypt/{key}",
        _CLASSES,
        ("update",),
        "unwraps data keys",
        "reads of {what} answer key-unavailable",
    ),
    Rule(
        _SERVING,
        "{mount}/encrypt/{key}",
        _TENANTS,
        ("update",),
        "wraps the keys of a new tenant",
        "a new tenant gets no keys under {what}",
    ),
    Rule(
        _SERVING,
        "{mount}/decrypt/{key}",
        _TENANTS,
        ("update",),
        "unwraps the keys of tenants: lookup of customers, pseudonyms, blind indexes",
        "the keys of tenants under {what} do not open",
    ),
    Rule(
        _SERVING,
        "{mount}/sign/{key}",
        (LOG,),
        ("update",),
        "signs checkpoints of the audit log",
        "the audit log gets no checkpoints",
    ),
    Rule(
        _SERVING,
        "{mount}/sign/{key}",
        (RECEIPT,),
        ("update",),
        "signs receipts of erasure",
        "erasures cannot be confirmed by a receipt",
    ),
    Rule(
        _SERVING,
        "{mount}/keys/{key}",
        _ALL_KEYS,
        ("read",),
        "versions, and the public half of signing keys",
        "start and `keys status` cannot look at the key of {what}",
    ),
    Rule(
        _OPERATING,
        "{mount}/keys/{key}/rotate",
        _ALL_KEYS,
        ("update",),
        "`keys rotate`",
        "`keys rotate` of {what} fails here",
    ),
    Rule(
        _OPERATING,
        "{mount}/rewrap/{key}",
        _WRAPPING,
        ("update",),
        "`keys rewrap`: to the newest version, without showing the data key",
        "`keys rewrap` of {what} fails here",
    ),
    Rule(
        _OPERATING,
        "{mount}/keys/{key}/config",
        _WRAPPING,
        ("update",),
        "`keys rewrap`: retires old versions; it can set nothing else of the key",
        "`keys rewrap` of {what} cannot retire old versions here",
        parameters=("min_decryption_version",),
    ),
    Rule(
        _SETUP,
        "sys/mounts/{mount}",
        (),
        ("create", "read", "update"),
        "makes the mount where it is missing",
        _ONCE,
    ),
    Rule(
        _SETUP,
        "{mount}/config/keys",
        (),
        ("create", "read", "update"),
        "turns upserts off: a misspelt key is an error",
        _ONCE,
    ),
    Rule(
        _SETUP,
        "{mount}/keys/{key}",
        _ALL_KEYS,
        ("create", "read", "update"),
        "makes keys that are missing",
        _ONCE,
    ),
    *(
        Rule(
            _SETUP,
            f"sys/policies/acl/{{prefix}}{role}{end}",
            (),
            ("create", "read", "update"),
            "writes the policies of replicas, and no others",
            _ONCE,
        )
        for role in _SERVING
        for end in ("", "-*")
    ),
    Rule(
        _EVERYONE,
        "auth/token/lookup-self",
        (),
        ("read",),
        "health, how long the token lives, and whether a refusal is of the token or of a key",
        "a refused key passes for a refused token, and nobody sees when the token ends",
    ),
    Rule(
        _SERVING,
        "auth/token/renew-self",
        (),
        ("update",),
        "renewal at two thirds of the lease",
        "the token ends at its first lease",
    ),
    Rule(
        _EVERYONE,
        "auth/token/revoke-self",
        (),
        ("update",),
        "gives the token back: one that was got by logging in, at the end of the process",
        "a token that was got by logging in outlives the process",
    ),
    Rule(
        _EVERYONE,
        "sys/capabilities-self",
        (),
        ("update",),
        "`datavault doctor` compares the token with this table",
        "`datavault doctor` cannot say what else the token lacks",
    ),
)
