"""Rotation of the log key: the old key announces the new one in the log itself (audit.md, "Merkle log").

    1 authorise   the act keys.rotate
    2 prepare     the provider's new version, and both keys' signatures over the announcement
    3 change      one transaction: the record `log.key`, and the row from which the integrator signs

The first checkpoint that covers the record carries both keys' signatures, later ones the new key's. Whoever
dies after step 2 leaves a version at the provider that signs nothing; the next rotation takes that one.

Where each tenant has a log, step 3 is taken for one log after the other, the former one of all tenants too.
Whoever dies between two leaves logs behind the newest version; the next rotation brings them there.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from vault.audit.announcement import ACTION, announcement_detail, verified_announcement
from vault.audit.append import EncodedRecord
from vault.audit.checkpoint import vkey
from vault.audit.log_keys import LogKey, add_key, key_in_force, read_keys, signer_of
from vault.audit.logbook import LogPlace
from vault.audit.record import Record
from vault.crypto.names import LOG
from vault.domain.errors import (
    IntegrityError,
    KeysUnavailableError,
    NotPermittedError,
    OverloadedError,
)
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, KeyProvider, LogSigners, Transactions
from vault.domain.types import Act, Caller
from vault.permission import authorise
from vault.policy.live import LivePolicy
from vault.recording import RecordedAt, Recorder


@dataclass(frozen=True, slots=True)
class RotatedLogKey:
    """The provider's version that signs from now on, its verifier key, and the record that announces it."""

    version: int
    verifier_key: str
    recorded: RecordedAt


class _OvertakenError(Exception):
    """Another rotation was first: the key that was to announce is no longer the newest."""


class LogKeyAnnouncer:
    """Gives a log its next key, whichever provider that is at."""

    def __init__(
        self,
        transactions: Transactions,
        recorder: Recorder,
        signers: LogSigners,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._recorder = recorder
        self._signers = signers
        self._clock = clock

    def current(self, place: LogPlace) -> LogKey:
        """A log's newest key, covered by a checkpoint or not.

        Raises:
            IntegrityError: the log has none. AuditUnavailableError, StoreUnavailableError.
        """
        with self._transactions.read() as connection:
            keys = read_keys(connection, place.log)
        return keys[-1] if keys else key_in_force(keys, 0)

    def announce(
        self,
        caller: Caller,
        place: LogPlace,
        current: LogKey,
        provider: str,
        version: int,
        policy: str = "",
    ) -> RotatedLogKey:
        """Let the key `current` of a log announce a version at a provider, which signs from then on.

        Raises:
            OverloadedError: another rotation was first; ask again.
            IntegrityError: a key of the provider is not the one that the log has pinned, or the version is a
                key that the log already had.
            KeysUnavailableError, AuditUnavailableError, StoreUnavailableError.
        """
        following = self._signers.signer(provider, version)
        public_key = following.public_key()
        detail = announcement_detail(place.origin, signer_of(current, self._signers), following)
        verified_announcement(detail)
        # on record for those whose log it is
        teller = replace(caller, tenant=place.tenant or caller.tenant)
        record = self._recorder.draft(teller, ACTION, policy=policy, detail=detail)

        def work(connection: Connection) -> tuple[None, list[EncodedRecord]]:
            # locks the head row, so that the place is the record's and no other rotation is under way
            position = self._recorder.next_position(connection, place)
            keys = read_keys(connection, place.log)
            if keys[-1] != current:
                raise _OvertakenError
            if any(key.public_key == public_key for key in keys):
                raise IntegrityError("the log had this key before: no key is announced twice")
            row = LogKey(current.number + 1, provider, version, public_key, position)
            add_key(connection, place.log, row, self._clock.now())
            return None, [EncodedRecord.of(record)]

        try:
            positions = self._recorder.commit(work, place=place).positions
        except _OvertakenError:
            raise OverloadedError(
                "the log key was rotated at the same moment", retry_after_seconds=LIMITS.retry_after_seconds
            ) from None
        return RotatedLogKey(version, vkey(place.origin, public_key), RecordedAt(record.id, positions[0]))


class LogKeyRotation:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self, provider: KeyProvider, announcer: LogKeyAnnouncer, policy: LivePolicy, recorder: Recorder
    ) -> None:
        self._provider = provider
        self._announcer = announcer
        self._policy = policy
        self._recorder = recorder

    def rotate(self, caller: Caller) -> RotatedLogKey:
        """Give every log a new key. Answers for the caller's log; where that one had it already, for the last
        of those that were behind.

        Raises:
            NotPermittedError, KeysUnavailableError, OverloadedError, IntegrityError, AuditUnavailableError,
            StoreUnavailableError.
        """
        loaded = self._policy.current
        try:
            authorise(loaded, caller, Act.KEYS_ROTATE)  # 1
            places = self._recorder.logs.every
            keys = {place: self._announcer.current(place) for place in places}
            version = self._version(keys.values())  # 2
            own, rotated = self._recorder.logs.of(caller.tenant), {}
            for place in [place for place in places if keys[place].version < version]:
                rotated[place] = self._announcer.announce(
                    caller, place, keys[place], self._provider.name, version, loaded.bundle.hash
                )  # 3
            return rotated.get(own) or rotated.popitem()[1]
        except (NotPermittedError, KeysUnavailableError, OverloadedError, IntegrityError) as error:
            self._recorder.refuse(self._refused(caller, loaded.bundle.hash), error)

    def _version(self, current: Collection[LogKey]) -> int:
        """The provider's version that follows: a new one, or one that was made and not announced in every
        log."""
        newest = self._provider.public_key(LOG).version
        behind = any(newest > key.version for key in current)
        return newest if behind else self._provider.rotate(LOG)

    def _refused(self, caller: Caller, policy: str) -> Record:
        # under another action than the announcement's: what is `log.key` in the log announces a key
        return self._recorder.draft(caller, Act.KEYS_ROTATE.value, policy=policy)
