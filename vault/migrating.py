"""Moving a home's keys from the embedded key file to Transit, with the service stopped (keys.md).

    1 check      every wrapped key opens, and Transit wraps with every key that is needed; nothing is changed
    2 announce   the log's new key, in the log, and sign a checkpoint with both; in every log
    3 move       the DEKs, a transaction per slice (key_move.py)
    4 count      again: as long as one is left behind the move is not finished
    5 finish     the tenants' keys and the record of it all, in one transaction

It can be killed anywhere and run again. From step 2 on until the end of step 5 the service starts with
neither provider (`assembly`): the log's key is at one, the tenants' keys are at the other. The key file is
never deleted, and no ciphertext is touched.
"""

import base64
import contextlib
import getpass
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from vault.assembly import KEY_FILE, METADATAS, ensure_keys, key_provider, tenants_of
from vault.audit.append import EncodedRecord
from vault.audit.integration import Integration
from vault.audit.log_keys import next_signers
from vault.audit.logbook import LogBook
from vault.audit.opening import stored_book
from vault.audit.origins import OpenLog, base_origin, has_log, heads_of
from vault.audit.outside import OutsideStore
from vault.audit.startup import check_outside, open_log, provider_vkeys
from vault.config import Settings
from vault.crypto.local import LocalKeyProvider
from vault.crypto.names import LOG, RECEIPT
from vault.crypto.opaque import KEY_BYTES
from vault.crypto.signer import ProviderLogSigners
from vault.crypto.transit import TransitKeyProvider
from vault.database_settings import database_of
from vault.domain.errors import ConfigurationError, IntegrityError, StartRefusedError, StoreUnavailableError
from vault.domain.protocols import KeyProvider
from vault.domain.system import SystemClock, SystemRandomness
from vault.domain.types import Act, Caller
from vault.keys.classes import require_keys
from vault.keys.log_rotation import LogKeyAnnouncer
from vault.keys.move import MOVING, Change, Counts, KeyMove, Progress, Stragglers
from vault.outside import open_outside
from vault.policy.bundle import Bundle, load_bundle
from vault.recording import Recorder
from vault.store import schema
from vault.store.database import Database
from vault.store.key_rows import KeyRowRepository, KeySource, KeyTable

LOCAL: Final = LocalKeyProvider.name
TRANSIT: Final = TransitKeyProvider.name


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move did, or with `dry_run` would do. Counts are of wrapped keys.

    `stragglers` are those that open at neither provider, by class or use: while there are any, nothing is
    finished. `begun` says that the service does not start until it is. `verifier_keys` are the logs' new
    ones, `receipt_keys` are the public keys (base64) that signed receipts before and that sign them from now
    on.
    """

    total: int
    left: int
    stragglers: dict[str, int] = field(default_factory=dict)
    begun: bool = False
    finished: bool = False
    already: bool = False
    verifier_keys: tuple[str, ...] = ()
    receipt_keys: tuple[str, str] = ("", "")


def migrate_keys(settings: Settings, *, dry_run: bool, progress: Progress) -> Moved:
    """Move every key of the home from the key file to Transit.

    Raises:
        StartRefusedError: the service runs, or the database cannot be used as it is.
        ConfigurationError: a setting, the key file or a key at Transit is missing.
        KeysUnavailableError, StoreUnavailableError, AuditUnavailableError: run it again to go on.
        IntegrityError: the log, or a tenant's key, is damaged.
    """
    bundle = load_bundle(settings.policies)
    with _own_database(settings) as database:
        if _is_moved(database, settings.origin):
            return Moved(_count_all(database), 0, finished=True, already=True)
        with _providers(settings, bundle, make_keys=not dry_run) as (source, target):
            return _Migration(settings, database, source, target, bundle).run(dry_run, progress)


class _Migration:
    """One run."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        source: KeyProvider,
        target: KeyProvider,
        bundle: Bundle,
    ) -> None:
        self._settings = settings
        self._database = database
        self._source = source
        self._target = target
        self._bundle = bundle
        self._clock, self._randomness = SystemClock(), SystemRandomness()
        self._rows = KeyRowRepository()
        self._move = KeyMove(database, self._rows, source, target)
        self._signers = ProviderLogSigners(source, target)

    def run(self, dry_run: bool, progress: Progress) -> Moved:
        opened = self._open_logs()
        with self._database.read() as connection:
            logs = stored_book(connection, self._settings.origin)
        counts = self._move.count()
        stragglers = self._check(counts, progress)  # 1
        announcer, operator = self._announcer(logs), self._operator(logs)
        begun = any(announcer.current(place).provider == TRANSIT for place in logs.every)
        if stragglers.total or dry_run:
            return Moved(counts.total, counts.at(LOCAL), stragglers.rows, begun)
        self._announce(logs, announcer, operator)  # 2
        verifier_keys = tuple(provider_vkeys(log, ProviderLogSigners(self._target))[-1] for log in opened)
        self._move.move_data_keys(counts, progress)  # 3
        counts = self._move.count()  # 4
        behind = _left_behind(counts)
        if behind.total:
            return Moved(counts.total, counts.at(LOCAL), behind.rows, begun=True)
        receipt_keys = self._finish(logs, counts, operator)  # 5
        progress(MOVING, counts.total, counts.total)
        return Moved(counts.total, 0, finished=True, verifier_keys=verifier_keys, receipt_keys=receipt_keys)

    def _open_logs(self) -> list[OpenLog]:
        """The newest log of each family that there is."""
        with self._database.read() as connection:
            found = [base_origin(log.origin) for log in heads_of(connection, self._settings.origin)]
        return [
            self._open_log(origin, former=len(found) > 1 and origin == self._settings.origin)
            for origin in found
        ]

    def _open_log(self, origin: str, *, former: bool) -> OpenLog:
        opened = open_log(self._database, origin, self._signers, self._clock, former=former)
        known = {*provider_vkeys(opened, self._signers)}
        known |= {*provider_vkeys(opened, ProviderLogSigners(self._target))}
        with self._database.read() as connection:
            check_outside(connection, opened, self._outside, *sorted(known))
        return opened

    def _check(self, counts: Counts, progress: Progress) -> Stragglers:
        self._move.require_usable(counts.sources(), self._randomness.token(KEY_BYTES))
        return self._move.check(counts, progress)

    def _announcer(self, logs: LogBook) -> LogKeyAnnouncer:
        return LogKeyAnnouncer(self._database, self._recorder(logs), self._signers, self._clock)

    def _operator(self, logs: LogBook) -> Caller:
        """Who does it, on record in the first log that takes records: of its tenant, or of all."""
        places = [place for place in logs.every if place != logs.former]
        tenant = places[0].tenant or min(tenants_of(self._bundle))
        return Caller("operator", tenant, f"local:{getpass.getuser()}")

    def _announce(self, logs: LogBook, announcer: LogKeyAnnouncer, operator: Caller) -> None:
        """Every log has its key at Transit afterwards, and a checkpoint that carries its signature."""
        version = self._target.public_key(LOG).version
        for place in logs.every:
            current = announcer.current(place)
            if current.provider != TRANSIT:
                announcer.announce(operator, place, current, TRANSIT, version)
        self._integration().run_once()

    def _finish(self, logs: LogBook, counts: Counts, operator: Caller) -> tuple[str, str]:
        changes = self._move.tenant_changes(counts)
        keys = [_public(provider, RECEIPT) for provider in (self._source, self._target)]
        recorder = self._recorder(logs)
        record = recorder.draft(
            operator,
            Act.KEYS_REWRAP.value,
            detail={
                "stage": "migrated",
                "from": LOCAL,
                "to": TRANSIT,
                "data_keys": counts.at(TRANSIT, [KeyTable.SUBJECT]),
                "evidence_keys": counts.at(TRANSIT, [KeyTable.EVIDENCE]),
                "tenant_keys": sum(map(len, changes.values())) + counts.at(TRANSIT, [KeyTable.TENANT]),
                "receipt_key_before": keys[0],
                "receipt_key": keys[1],
            },
        )

        def work(connection: Connection) -> tuple[None, list[EncodedRecord]]:
            _replace_all(self._rows, connection, changes)
            return None, [EncodedRecord.of(record)]

        recorder.commit(work)
        self._integration().run_once()
        return keys[0], keys[1]

    def _recorder(self, logs: LogBook) -> Recorder:
        return Recorder(
            self._database,
            logs,
            self._clock,
            self._randomness,
            lambda: self._bundle.hash,
            lambda: None,
        )

    def _integration(self) -> Integration:
        return Integration(self._database, self._signers, self._clock, self._outside)

    @property
    def _outside(self) -> OutsideStore:
        return open_outside(self._settings)


# --- opening ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _own_database(settings: Settings) -> Iterator[Database]:
    database = database_of(settings)
    try:
        if not database.exists():
            raise ConfigurationError(_nothing_to_move(database))
        database.lock_exclusively()
        try:
            schema.upgrade(database, METADATAS)
        except StoreUnavailableError as error:
            raise StartRefusedError(
                f"{database.name}: {error.message}: check the file, its rights and its disk"
            ) from None
        with database.read() as connection:
            if not has_log(connection):
                raise ConfigurationError(_nothing_to_move(database))
        yield database
    finally:
        database.close()


@contextlib.contextmanager
def _providers(
    settings: Settings, bundle: Bundle, *, make_keys: bool
) -> Iterator[tuple[KeyProvider, KeyProvider]]:
    """Source and target, whatever DATAVAULT_KEYS says now."""
    clock, randomness = SystemClock(), SystemRandomness()
    # leaving the key file is what production demands, so its refusal of local keys is not for this command
    source = LocalKeyProvider(settings.home / KEY_FILE, environment="development", randomness=randomness)
    transit = settings.model_copy(update={"keys": TRANSIT})
    target = key_provider(transit, clock, randomness)
    try:
        if make_keys:
            ensure_keys(transit, target, bundle.key_classes)
        else:
            require_keys(target, bundle.key_classes)
        yield source, target
    finally:
        target.close()


def _nothing_to_move(database: Database) -> str:
    return (
        f"{database.name} was never served, so there are no keys to move: set DATAVAULT_KEYS=transit "
        "and start the service"
    )


# --- what is where ----------------------------------------------------------------------------------------


def _is_moved(database: Database, origin: str) -> bool:
    with database.read() as connection:
        logs = heads_of(connection, origin)
        places = {key.provider for log in logs for key in next_signers(connection, log.log, log.size)}
        counts = Counts(tuple(KeyRowRepository().count(connection)))
    return places == {TRANSIT} and counts.at(TRANSIT) == counts.total


def _count_all(database: Database) -> int:
    with database.read() as connection:
        return Counts(tuple(KeyRowRepository().count(connection))).total


def _left_behind(counts: Counts) -> Stragglers:
    """Data keys that are not at Transit."""
    found = Stragglers()
    for source in counts.sources((KeyTable.SUBJECT, KeyTable.EVIDENCE)):
        for provider in (LOCAL, ""):
            marks = counts.marks_at(source, provider)
            rows = (each.rows for each in counts.marks if each.source == source and each.mark in marks)
            found.add(source, sum(rows))
    return found


def _replace_all(
    rows: KeyRowRepository, connection: Connection, changes: dict[KeySource, list[Change]]
) -> None:
    for source, wanted in changes.items():
        if rows.replace(connection, source, wanted) != len(wanted):
            raise IntegrityError("a tenant's key was changed meanwhile: run it again")


def _public(provider: KeyProvider, key: str) -> str:
    return base64.b64encode(provider.public_key(key).raw).decode("ascii")
