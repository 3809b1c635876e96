"""A new version of one key (keys.md, "Rotation"). What older versions wrapped goes on opening.

    1 authorise   the act keys.rotate
    2 record      that it begins: what the provider does next cannot be taken back
    3 rotate      at the provider
    4 record      the version, or what went wrong; then answer

The log key has a way of its own: its successor is announced in the log (log_rotation.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vault.audit.record import Record
from vault.domain.errors import DatavaultError, InvalidArgumentError, NotPermittedError
from vault.domain.protocols import KeyProvider
from vault.domain.types import Act, Caller, Outcome
from vault.keys.log_rotation import LogKeyRotation
from vault.keys.targets import LOG_WORD, find_target
from vault.permission import authorise
from vault.policy.live import LivePolicy
from vault.recording import RecordedAt, Recorder


@dataclass(frozen=True, slots=True)
class Rotated:
    """A key's name at the provider and its newest version; for the log key, its verifier key."""

    name: str
    version: int
    recorded: RecordedAt
    verifier_key: str = ""


class RotationPipeline:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self, provider: KeyProvider, policy: LivePolicy, recorder: Recorder, log_key: LogKeyRotation
    ) -> None:
        self._provider = provider
        self._policy = policy
        self._recorder = recorder
        self._log_key = log_key

    def rotate(self, caller: Caller, word: str) -> Rotated:
        """Make a new version of the key that `word` names: a key class, `lookup`, `index`, `pseudonym`,
        `log` or `receipt`.

        Raises:
            NotPermittedError, InvalidArgumentError, KeysUnavailableError, AuditUnavailableError; for `log`
            StoreUnavailableError too.
        """
        loaded = self._policy.current
        record = self._recorder.draft(caller, Act.KEYS_ROTATE.value, policy=loaded.bundle.hash)
        try:
            authorise(loaded, caller, Act.KEYS_ROTATE)  # 1
            target = find_target(loaded.bundle.key_classes, word)
        except (NotPermittedError, InvalidArgumentError) as error:
            self._recorder.refuse(record, error)
        if word == LOG_WORD:
            announced = self._log_key.rotate(caller)
            return Rotated(target.name, announced.version, announced.recorded, announced.verifier_key)
        self._recorder.record(replace(record, detail={"key": word, "stage": "begun"}))  # 2
        try:
            version = self._provider.rotate(target.name)  # 3
        except DatavaultError as error:
            self._recorder.record(self._failed(caller, record, word, error))
            raise
        done = self._again(caller, record, detail={"key": word, "stage": "done", "version": version})
        return Rotated(target.name, version, self._recorder.record(done))  # 4

    def _failed(self, caller: Caller, record: Record, word: str, error: DatavaultError) -> Record:
        detail = {"key": word, "stage": "failed", "error": error.reason.value}
        return replace(self._again(caller, record, detail), outcome=Outcome.ERROR.value)

    def _again(self, caller: Caller, record: Record, detail: Mapping[str, str | int]) -> Record:
        """A second record of the same call."""
        return self._recorder.draft(caller, record.action, policy=record.policy, detail=detail)
