"""What `datavault doctor` checks: each finding says what is wrong and what to do about that.

The checks only look: nothing is made, changed or locked. A check that fails does not stop the others, and
what one has said the next ones do not say again.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from sqlalchemy import Connection

from vault.assembly import KEY_FILE, key_provider, transit_settings
from vault.audit.logbook import ALL_TENANTS
from vault.audit.opening import NO_WAY_BACK
from vault.audit.origins import OpenLog, heads_of, tenant_of
from vault.audit.outside import checkpoints_folder
from vault.audit.startup import ADOPT_COMMAND, check_outside, provider_vkeys
from vault.audit.tables import ACTIVE, ADOPTING, CLOSED
from vault.config import Settings
from vault.crypto.names import all_keys
from vault.crypto.signer import ProviderLogSigners
from vault.crypto.transit import TransitKeyProvider
from vault.crypto.transit_settings import AGENT, TOKEN
from vault.crypto.transit_setup import TransitSetup
from vault.database_settings import database_of
from vault.diagnosis_database import of_database
from vault.diagnosis_edge import certificates, tokens
from vault.diagnosis_keys import key_settings, lifetime, not_compared, rights, unseen, version, wanted_paths
from vault.diagnosis_workers import workers
from vault.domain.errors import (
    AuditUnavailableError,
    DatavaultError,
    KeyForbiddenError,
    StoreUnavailableError,
)
from vault.domain.protocols import KeyProvider
from vault.domain.system import SystemClock, SystemRandomness
from vault.findings import Finding, Health
from vault.outside import open_outside
from vault.policy.bundle import Bundle
from vault.policy.check import check

__all__ = ["Finding", "Health", "diagnose"]

_CLOCK_DRIFT_SECONDS: Final = 2.0
_EARLIEST_MICROSECONDS: Final = 1_767_225_600_000_000
"""2026-01-01: a clock before it is wrong."""
_CHECK: Final = "datavault policy check"
_KMS: Final = "check VAULT_ADDR, VAULT_CACERT and the token, and that the server is unsealed"
_KMS_RIGHTS: Final = (
    "check DATAVAULT_TRANSIT_MOUNT; `datavault keys init` makes the keys, and prints the token's policy"
)
_OUTSIDE: Final = "check DATAVAULT_OUTSIDE_STORE and its mount or bucket; restore it where it was lost"
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
            ("workers", lambda: workers(self.settings, self.bundle)),
            ("clock", _clock),
            ("certificates", lambda: certificates(self.settings)),
            ("tokens", lambda: tokens(self.settings)),
        ):
            try:
                yield from look()
            except DatavaultError as error:
                yield _failed(name, error)
        if self.provider is not None:
            self.provider.close()

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
            yield self._unhealthy(provider, health.detail)
            return
        self.provider = provider
        yield Finding("keys", Health.GOOD, f"{provider.name}: {health.detail}")
        if isinstance(provider, TransitKeyProvider):
            yield from self._transit(provider)
        else:
            yield from self._each_key(provider)

    def _unhealthy(self, provider: KeyProvider, detail: str) -> Finding:
        found = None
        if isinstance(provider, TransitKeyProvider):
            mount = self.settings.transit_mount
            found = unseen(mount, TransitSetup(provider.session, mount))
        return found or Finding("keys", Health.BAD, detail, _KMS)

    def _transit(self, provider: TransitKeyProvider) -> Iterator[Finding]:
        settings, classes = self.settings, sorted(self.bundle.key_classes if self.bundle else ())
        setup = TransitSetup(provider.session, settings.transit_mount)
        yield version(settings, setup)
        facts = setup.token()
        yield lifetime(facts, logs_in=transit_settings(settings).auth not in (TOKEN, AGENT))
        if not classes:
            return
        try:
            held = setup.capabilities(wanted_paths(settings.transit_mount, classes))
        except KeyForbiddenError as error:
            yield not_compared(settings.transit_mount, error)
            yield from self._each_key(provider)
            return
        yield from rights(settings.transit_mount, classes, facts, held)
        yield from key_settings(
            {name: setup.key(name) for name in all_keys(classes) if _readable(name, settings, held)}
        )

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
        database = database_of(self.settings)
        try:
            if not database.exists():
                yield Finding("database", Health.WARNING, "no database yet", "`datavault serve` makes it")
                return
            yield from of_database(database, self.settings)
            if not database.writable():
                yield Finding("database", Health.BAD, "it cannot be written", _FILE)
            with database.read() as connection:
                yield from self._logs(connection)
        finally:
            database.close()

    def _logs(self, connection: Connection) -> Iterator[Finding]:
        origin, per_tenant = self.settings.origin, self.settings.logs == "tenant"
        opened = heads_of(connection, origin)
        if not per_tenant and any(tenant_of(log.origin, origin) != ALL_TENANTS for log in opened):
            yield Finding("audit log", Health.BAD, NO_WAY_BACK)
        for log in opened:
            former = per_tenant and tenant_of(log.origin, origin) == ALL_TENANTS
            yield from self._log(connection, log, former=former)

    def _log(self, connection: Connection, opened: OpenLog, *, former: bool) -> Iterator[Finding]:
        seen = f"{opened.origin}: {opened.size} records, {opened.state}"
        if opened.state == ACTIVE:
            yield Finding("audit log", Health.GOOD, seen)
        elif opened.state == CLOSED and former:
            yield Finding("audit log", Health.GOOD, f"{seen}: each tenant has its own")
        else:
            remedy = f"run `{ADOPT_COMMAND}` again" if opened.state == ADOPTING else "restore the database"
            yield Finding("audit log", Health.BAD, seen, remedy)
        try:
            yield self._outside(connection, opened)
        except DatavaultError as error:
            yield _failed("outside store", error, _OUTSIDE, opened.origin)

    def _outside(self, connection: Connection, opened: OpenLog) -> Finding:
        name, store = "outside store", open_outside(self.settings)
        if self.provider is None:
            return Finding(name, Health.WARNING, "nothing was compared: there is no log key", "see keys")
        try:
            vkeys = provider_vkeys(opened, ProviderLogSigners(self.provider))
        except DatavaultError:
            return Finding(
                name, Health.WARNING, "nothing was compared: the log key does not answer", "see keys"
            )
        check_outside(connection, opened, store, *vkeys)
        if opened.size and store.last(checkpoints_folder(opened.origin)) is None:
            return Finding(
                name,
                Health.WARNING,
                f"{opened.origin}: {self.settings.outside} holds no checkpoint of this log: "
                "nothing was compared",
                _OUTSIDE,
            )
        return Finding(name, Health.GOOD, f"{opened.origin}: the log extends its last checkpoint there")


def _readable(name: str, settings: Settings, held: Mapping[str, frozenset[str]]) -> bool:
    return bool(held[f"{settings.transit_mount}/keys/{name}"] & {"read", "root"})


def _failed(name: str, error: DatavaultError, storage_remedy: str = _FILE, log: str = "") -> Finding:
    """Errors of configuration say what to do themselves."""
    storage = isinstance(error, StoreUnavailableError | AuditUnavailableError)
    detail = f"{log}: {error.message}" if log else error.message
    return Finding(name, Health.BAD, detail, storage_remedy if storage else "")


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
    database = database_of(settings)
    try:
        return database.exists()
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
