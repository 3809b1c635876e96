"""What `datavault doctor` checks: each finding says what is wrong and what to do about that.

The checks only look: nothing is made, changed or locked. A check that fails does not stop the others, and
what one has said the next ones do not say again.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection

from vault.assembly import KEY_FILE, key_provider
from vault.audit.checkpoint import vkey
from vault.audit.origins import OpenLog, newest_log
from vault.audit.outside import FolderStore, checkpoints_folder
from vault.audit.startup import ADOPT_COMMAND, check_outside
from vault.audit.tables import ACTIVE, ADOPTING
from vault.config import Settings
from vault.crypto.names import LOG, all_keys
from vault.diagnosis_edge import certificates, tokens
from vault.domain.errors import AuditUnavailableError, DatavaultError, StoreUnavailableError
from vault.domain.protocols import KeyProvider
from vault.domain.system import SystemClock, SystemRandomness
from vault.findings import Finding, Health
from vault.policy.bundle import Bundle
from vault.policy.check import check
from vault.store import schema
from vault.store.database import Database

__all__ = ["Finding", "Health", "diagnose"]

_CLOCK_DRIFT_SECONDS: Final = 2.0
_EARLIEST_MICROSECONDS: Final = 1_767_225_600_000_000
"""2026-01-01: a clock before it is wrong."""
_CHECK: Final = "datavault policy check"
_KMS: Final = "check VAULT_ADDR, VAULT_CACERT and the token, and that the server is unsealed"
_KMS_RIGHTS: Final = (
    "check DATAVAULT_TRANSIT_MOUNT, the token's policy, and that the keys are made (docs/operations/guide.md)"
)
_FILE: Final = "look at file rights, free disk space and other programs that hold it"


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Run all checks, one after another."""
    yield from _Examination(settings).run()


class _Examination:
    """One run; `bundle` and `provider` are what earlier checks found good, for later ones."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bundle: Bundle | None = None
        self.provider: KeyProvider | None = None

    def run(self) -> Iterator[Finding]:
        for name, look in (
            ("configuration", self._configuration),
            ("policies", self._policies),
            ("keys", self._keys),
            ("database", self._database),
            ("clock", _clock),
            ("certificates", lambda: certificates(self.settings)),
            ("tokens", lambda: tokens(self.settings)),
        ):
            try:
                yield from look()
            except DatavaultError as error:
                yield _failed(name, error)

    def _configuration(self) -> Iterator[Finding]:
        settings, name = self.settings, "configuration"
        yield Finding(name, Health.GOOD, f"{settings.environment}, home {settings.home}")
        if not settings.home.is_dir():
            yield Finding(
                name, Health.WARNING, f"{settings.home} does not exist", "`datavault serve` makes it"
            )
        elif settings.home.stat().st_mode & 0o077:
            yield Finding(
                name, Health.WARNING, f"others can look into {settings.home}", f"chmod 700 {settings.home}"
            )

    def _policies(self) -> Iterator[Finding]:
        folder = self.settings.policies
        report = check(folder)
        self.bundle = report.bundle
        if report.problems:
            more = f" (and {len(report.problems) - 1} more)" if len(report.problems) > 1 else ""
            yield Finding("policies", Health.BAD, f"{report.problems[0]}{more}", f"{_CHECK} {folder}")
        elif not report.good:
            yield Finding("policies", Health.BAD, "the policies do not pass", f"{_CHECK} {folder}")
        else:
            yield Finding("policies", Health.GOOD, f"{folder} compiles, its tests pass, Casbin agrees")

    # --- keys -----------------------------------------------------------------------------------------------

    def _keys(self) -> Iterator[Finding]:
        settings = self.settings
        if settings.keys == "local" and settings.environment == "development":
            path = settings.home / KEY_FILE
            if not path.exists():
                yield _no_local_keys(path.name, served=_database_exists(settings))
                return
        provider = key_provider(settings, SystemClock(), SystemRandomness())
        health = provider.health()
        if not health.healthy:
            yield Finding("keys", Health.BAD, health.detail, _KMS)
            return
        self.provider = provider
        yield Finding("keys", Health.GOOD, f"{provider.name}: {health.detail}")
        yield from self._each_key(provider)

    def _each_key(self, provider: KeyProvider) -> Iterator[Finding]:
        """One finding per cause: a wrong mount is one mistake, however many keys it hides."""
        if self.bundle is None:
            return
        wanted, failed = all_keys(self.bundle.key_classes), defaultdict(list)
        for name, kind in wanted.items():
            try:
                found = provider.info(name).kind
            except DatavaultError as error:
                failed[error.message].append(name)
                continue
            if found != kind:
                failed[f"of kind {found}, not {kind}"].append(name)
        local = self.settings.keys == "local"
        for message, names in failed.items():
            which = "all keys" if len(names) == len(wanted) else ", ".join(names)
            remedy = "restart the service: it makes them" if local else _KMS_RIGHTS
            yield Finding("keys", Health.BAD, f"{which}: {message}", remedy)

    # --- database -------------------------------------------------------------------------------------------

    def _database(self) -> Iterator[Finding]:
        database = Database(self.settings.database)
        try:
            if not database.path.exists():
                yield Finding("database", Health.WARNING, "no database yet", "`datavault serve` makes it")
                return
            schema.require_current(database)
            yield Finding("database", Health.GOOD, f"schema {schema.status(database).current}")
            if not database.writable():
                yield Finding("database", Health.BAD, "it cannot be written", _FILE)
            with database.read() as connection:
                yield from self._log(connection)
        finally:
            database.close()

    def _log(self, connection: Connection) -> Iterator[Finding]:
        opened = newest_log(connection, self.settings.origin)
        seen = f"{opened.origin}: {opened.size} records, {opened.state}"
        if opened.state == ACTIVE:
            yield Finding("audit log", Health.GOOD, seen)
        else:
            remedy = f"run `{ADOPT_COMMAND}` again" if opened.state == ADOPTING else "restore the database"
            yield Finding("audit log", Health.BAD, seen, remedy)
        try:
            yield self._outside(connection, opened)
        except DatavaultError as error:
            yield _failed("outside store", error)

    def _outside(self, connection: Connection, opened: OpenLog) -> Finding:
        name, store = "outside store", FolderStore(self.settings.outside)
        if self.provider is None:
            return Finding(name, Health.WARNING, "nothing was compared: there is no log key", "see keys")
        try:
            key = self.provider.public_key(LOG).raw
        except DatavaultError:
            return Finding(
                name, Health.WARNING, "nothing was compared: the log key does not answer", "see keys"
            )
        check_outside(connection, opened, store, vkey(opened.origin, key))
        if opened.size and store.last(checkpoints_folder(opened.origin)) is None:
            return Finding(
                name,
                Health.WARNING,
                f"{self.settings.outside} holds no checkpoint of this log: nothing was compared",
                "check DATAVAULT_OUTSIDE_STORE and its mount; restore it where it was lost",
            )
        return Finding(name, Health.GOOD, "the log extends its last checkpoint there")


def _failed(name: str, error: DatavaultError) -> Finding:
    """Errors of configuration say what to do themselves."""
    storage = isinstance(error, StoreUnavailableError | AuditUnavailableError)
    return Finding(name, Health.BAD, error.message, _FILE if storage else "")


def _no_local_keys(file: str, *, served: bool) -> Finding:
    if served:
        return Finding(
            "keys",
            Health.BAD,
            f"{file} is missing, and there is a database that only its keys open",
            f"restore {file} from its backup, or set DATAVAULT_KEYS as it was",
        )
    return Finding("keys", Health.WARNING, "no local keys yet", "`datavault serve` makes them")


def _database_exists(settings: Settings) -> bool:
    database = Database(settings.database)
    try:
        return database.path.exists()
    finally:
        database.close()


def _clock() -> Iterator[Finding]:
    if SystemClock().now() < _EARLIEST_MICROSECONDS:
        yield Finding("clock", Health.BAD, "the clock is in the past", "set the clock; run an NTP client")
        return
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.05)
    drift = abs((time.time() - wall) - (time.monotonic() - steady))
    if drift > _CLOCK_DRIFT_SECONDS:
        yield Finding("clock", Health.BAD, "the clock is being set", "run an NTP client that slews")
        return
    yield Finding("clock", Health.GOOD, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
