"""What operators' calls answer. All frozen."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from vault.client.words import Phase


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """One key of the provider. `versions` maps each version to how many wrapped keys it has, 0 standing for
    what is of no version of this provider; `problem` says why the key cannot be used, '' where it can."""

    name: str
    kind: str
    latest_version: int
    min_decryption_version: int
    versions: Mapping[int, int]
    stragglers: int
    problem: str


@dataclass(frozen=True, slots=True)
class KeysStatus:
    """The key provider and its keys. `token_seconds_left` None: the token never ends, or it is not known."""

    provider: str
    healthy: bool
    detail: str
    token_seconds_left: int | None
    keys: tuple[KeyStatus, ...]
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class RotatedKey:
    """A key's name at the provider and the version used from now on. `verifier_key` (C2SP signed-note) is
    that of the log's new key, '' for other keys."""

    name: str
    version: int
    verifier_key: str
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class RewrapProgress:
    """How far a rewrap is. With the phase DONE it is the result: `stragglers` are left, and
    `min_decryption_version` is the oldest version that still opens."""

    phase: Phase
    scanned: int
    rewrapped: int
    failed: int
    total: int
    stragglers: int
    min_decryption_version: int
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class LookupProgress:
    """How far a rotation of the lookup key is. With the phase DONE it is the result."""

    phase: Phase
    indexed: int
    total: int
    failed: int
    version: int
    record_id: str
    position: int


@dataclass(frozen=True, slots=True)
class RekeyReceipt:
    """A customer's values, encrypted anew: how many, and the key classes that have a new DEK.

    `replayed`: this is the answer of an earlier call with the same request id; nothing was done twice.
    """

    values: int
    key_classes: tuple[str, ...]
    rekeyed_at: datetime.datetime | None
    replayed: bool
    request_id: str
    record_id: str
    position: int
