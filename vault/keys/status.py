"""The state of the keys, for operators: what the provider says, and how many keys each version wraps.

1 authorise   the act keys.read
2 count       the wrapped keys of every version: one scan, no key is opened
3 ask         the provider's health, then each key: one that this replica may not use has a problem
4 record      then answer
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from vault.domain.errors import ConfigurationError, KeysUnavailableError, NotPermittedError
from vault.domain.protocols import KeyHealth, KeyInfo, KeyProvider, Transactions
from vault.domain.types import Act, Caller
from vault.keys.census import UNREADABLE, Census, census
from vault.keys.targets import KeyTarget, targets
from vault.permission import authorise
from vault.policy.live import LivePolicy
from vault.recording import RecordedAt, Recorder
from vault.store.key_rows import KeyRowRepository, KeyTable, MarkCount


@dataclass(frozen=True, slots=True)
class KeyState:
    """One key. `latest_version` 0: not readable, `problem` says why. `versions` counts what it wraps."""

    name: str
    kind: str
    latest_version: int
    min_decryption_version: int
    versions: Mapping[int, int]
    stragglers: int
    problem: str


@dataclass(frozen=True, slots=True)
class KeyStates:
    """The provider's name and health, and its keys."""

    provider: str
    health: KeyHealth
    keys: tuple[KeyState, ...]


class KeyStatusPipeline:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self,
        transactions: Transactions,
        rows: KeyRowRepository,
        provider: KeyProvider,
        policy: LivePolicy,
        recorder: Recorder,
    ) -> None:
        self._transactions = transactions
        self._rows = rows
        self._provider = provider
        self._policy = policy
        self._recorder = recorder

    def status(self, caller: Caller) -> tuple[KeyStates, RecordedAt]:
        """The state of every key of the product and of the policies' key classes.

        Raises:
            NotPermittedError, StoreUnavailableError, AuditUnavailableError.
        """
        loaded = self._policy.current
        record = self._recorder.draft(caller, Act.KEYS_READ.value, policy=loaded.bundle.hash)
        try:
            authorise(loaded, caller, Act.KEYS_READ)  # 1
        except NotPermittedError as error:
            self._recorder.refuse(record, error)
        with self._transactions.read() as connection:  # 2
            counts = self._rows.count(connection)
        states = self._ask(counts, loaded.bundle.key_classes)  # 3
        return states, self._recorder.record(record)  # 4

    def _ask(self, counts: list[MarkCount], classes: Mapping[str, object]) -> KeyStates:
        health = self._provider.health()
        keys = []
        for target in _all_targets(classes, counts):
            counted = census(counts, target.sources, self._provider)
            keys.append(self._state(target, counted, "" if health.healthy else health.detail))
        return KeyStates(self._provider.name, health, tuple(keys))

    def _state(self, target: KeyTarget, counted: Census, unhealthy: str) -> KeyState:
        versions = counted.versions()
        if unhealthy:
            # to ask for each of a dozen keys would only make the operator wait
            return _unreadable(target, versions, unhealthy)
        try:
            info = self._provider.info(target.name)
        except KeysUnavailableError as error:
            return _unreadable(target, versions, error.message)
        state = KeyState(
            name=target.name,
            kind=info.kind,
            latest_version=info.latest_version,
            min_decryption_version=info.min_decryption_version,
            versions=versions,
            stragglers=counted.stragglers(info.latest_version),
            problem="",
        )
        return replace(state, problem="; ".join(_problems(info, versions)))


def _all_targets(classes: Mapping[str, object], counts: list[MarkCount]) -> list[KeyTarget]:
    """Those of the policies, and those of key classes that the policies no longer have but rows do."""
    known = targets(classes)
    for use in {each.source.use for each in counts if each.source.table is KeyTable.SUBJECT} - known.keys():
        try:
            known |= {use: targets([use])[use]}
        except ConfigurationError:
            continue
    return sorted(known.values(), key=lambda target: target.name)


def _unreadable(target: KeyTarget, versions: Mapping[int, int], problem: str) -> KeyState:
    return KeyState(target.name, "", 0, 0, versions, 0, problem)


def _problems(info: KeyInfo, versions: Mapping[int, int]) -> Iterator[str]:
    """What is wrong with the wrapped keys, by their versions alone."""
    foreign = versions.get(UNREADABLE, 0)
    closed = sum(rows for version, rows in versions.items() if 0 < version < info.min_decryption_version)
    unknown = sum(rows for version, rows in versions.items() if version > info.latest_version)
    if foreign:
        yield f"wrapped keys that are not of this provider: {foreign}"
    if closed:
        yield f"wrapped keys of versions that no longer open: {closed}; lower min_decryption_version"
    if unknown:
        yield f"wrapped keys of versions that the key does not have: {unknown}; was it restored?"
