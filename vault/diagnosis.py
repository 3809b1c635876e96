"""What `datavault doctor` checks: each finding says what is wrong and what to do.

The checks only look: nothing is made, changed or locked. A check that fails does not stop the others.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vault.assembly import KEY_FILE, TLS_FOLDER, key_provider
from vault.audit.checkpoint import vkey
from vault.audit.origins import newest_log
from vault.audit.outside import FolderStore
from vault.audit.startup import check_outside
from vault.config import Settings
from vault.crypto.local import LocalKeyProvider
from vault.crypto.names import LOG, all_keys
from vault.crypto.transit import TransitKeyProvider
from vault.domain.errors import ConfigurationError, DatavaultError
from vault.domain.system import SystemClock, SystemRandomness
from vault.policy.check import check
from vault.policy.problems import PolicyError
from vault.store import schema
from vault.store.database import Database

_CLOCK_DRIFT_SECONDS: Final = 2.0
_EARLIEST_MICROSECONDS: Final = 1_767_225_600_000_000
"""2026-01-01: a clock before it is wrong."""


class Health(StrEnum):
    """How a check came out."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how it came out, and what to do ('' when nothing)."""

    check: str
    health: Health
    detail: str
    remedy: str = ""


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Run all checks, one after another."""
    for name, look in _CHECKS.items():
        try:
            yield from look(settings)
        except DatavaultError as error:
            yield Finding(name, Health.BAD, error.message, _REMEDIES.get(name, ""))


def _configuration(settings: Settings) -> Iterator[Finding]:
    yield Finding("configuration", Health.GOOD, f"{settings.environment}, home {settings.home}")
    if settings.environment == "production" and settings.keys == "local":
        yield Finding(
            "configuration",
            Health.BAD,
            "the local keyring cannot serve production",
            "set DATAVAULT_KEYS=transit and VAULT_ADDR",
        )
    if not settings.home.is_dir():
        yield Finding(
            "configuration", Health.WARNING, f"{settings.home} does not exist", "`datavault serve` makes it"
        )
    elif settings.home.stat().st_mode & 0o077:
        yield Finding(
            "configuration",
            Health.WARNING,
            f"others can look into {settings.home}",
            f"chmod 700 {settings.home}",
        )


def _policies(settings: Settings) -> Iterator[Finding]:
    try:
        report = check(settings.policies)
    except PolicyError as error:
        yield Finding("policies", Health.BAD, str(error.errors[0]), "datavault policy check")
        return
    if not report.good:
        yield Finding("policies", Health.BAD, "the policies do not pass", "datavault policy check")
        return
    yield Finding("policies", Health.GOOD, f"{settings.policies} compiles, its tests pass, Casbin agrees")


def _keys(settings: Settings) -> Iterator[Finding]:
    if settings.keys == "local" and not (settings.home / KEY_FILE).is_file():
        yield Finding("keys", Health.WARNING, "no local keys yet", "`datavault serve` makes them")
        return
    provider = key_provider(settings, SystemClock(), SystemRandomness())
    health = provider.health()
    if not health.healthy:
        yield Finding("keys", Health.BAD, health.detail, _REMEDIES["keys"])
        return
    yield Finding("keys", Health.GOOD, f"{provider.name}: {health.detail}")
    yield from _each_key(settings, provider)


def _each_key(settings: Settings, provider: LocalKeyProvider | TransitKeyProvider) -> Iterator[Finding]:
    from vault.policy.bundle import load_bundle

    for name in all_keys(load_bundle(settings.policies).key_classes):
        try:
            provider.info(name)
        except DatavaultError as error:
            yield Finding("keys", Health.BAD, f"{name}: {error.message}", f"make the Transit key {name}")


def _database(settings: Settings) -> Iterator[Finding]:
    database = Database(settings.database)
    try:
        if not database.path.exists():
            yield Finding("database", Health.WARNING, "no database yet", "`datavault serve` makes it")
            return
        schema.require_current(database)
        yield Finding("database", Health.GOOD, f"schema {schema.status(database).current}")
        if not database.writable():
            yield Finding(
                "database",
                Health.BAD,
                "it cannot be written",
                "look at file rights, free disk space and other programs that hold it",
            )
        with database.read() as connection:
            opened = newest_log(connection, settings.origin)
            yield Finding("audit log", Health.GOOD, f"{opened.origin}: {opened.size} records, {opened.state}")
            signer = key_provider(settings, SystemClock(), SystemRandomness()).public_key(LOG)
            check_outside(connection, opened, FolderStore(settings.outside), vkey(opened.origin, signer.raw))
            yield Finding("outside store", Health.GOOD, "the log extends its last checkpoint there")
    finally:
        database.close()


def _clock(_: Settings) -> Iterator[Finding]:
    clock = SystemClock()
    if clock.now() < _EARLIEST_MICROSECONDS:
        yield Finding("clock", Health.BAD, "the clock is in the past", "set the clock; run an NTP client")
        return
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.05)
    drift = abs((time.time() - wall) - (time.monotonic() - steady))
    if drift > _CLOCK_DRIFT_SECONDS:
        yield Finding("clock", Health.BAD, "the clock is being set", "run an NTP client that slews")
        return
    yield Finding("clock", Health.GOOD, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _certificates(settings: Settings) -> Iterator[Finding]:
    from cryptography import x509

    path = settings.server_certificate or settings.home / TLS_FOLDER / "server.pem"
    if not path.is_file():
        yield Finding(
            "certificates", Health.WARNING, "no server certificate yet", "`datavault serve` makes it"
        )
        return
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigurationError(f"{path} is not a readable certificate") from None
    days = (certificate.not_valid_after_utc.timestamp() - time.time()) / 86_400
    health = Health.GOOD if days > 14 else Health.WARNING if days > 0 else Health.BAD
    remedy = "" if days > 14 else "restart the service: the embedded CA renews it, or replace your own"
    yield Finding("certificates", health, f"the server certificate is valid for {days:.0f} days", remedy)


_CHECKS: Final[dict[str, Callable[[Settings], Iterator[Finding]]]] = {
    "configuration": _configuration,
    "policies": _policies,
    "keys": _keys,
    "database": _database,
    "clock": _clock,
    "certificates": _certificates,
}
_REMEDIES: Final = {
    "keys": "look at VAULT_ADDR, VAULT_CACERT and the token; is the server unsealed?",
    "database": "look at the file and its folder; `datavault serve` upgrades an older schema",
}
