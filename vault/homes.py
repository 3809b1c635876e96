"""What commands do directly in a home folder, without the service."""

import contextlib
import getpass
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection

from vault.assembly import (
    Use,
    build_pipelines,
    key_provider,
    known_tenants,
    log_opener,
    log_signers,
    open_rooms,
)
from vault.audit.checkpoint import Checkpoint, UnknownSignerError, parse_and_verify, parse_vkey, vkey
from vault.audit.key_chain import follow
from vault.audit.log_keys import read_keys
from vault.audit.opening import stored_book
from vault.audit.origins import OpenLog, base_origin, heads_of, tenant_of
from vault.audit.restore import Adoption, Operator, adopt_restores
from vault.audit.startup import provider_vkeys
from vault.audit.stretch import reading
from vault.audit.verify import VerifyReport, verify
from vault.config import Settings
from vault.crypto.signer import ProviderLogSigners
from vault.database_settings import database_of
from vault.domain.errors import ConfigurationError, IntegrityError
from vault.domain.system import SystemClock, SystemRandomness
from vault.domain.types import Caller
from vault.restoring import Reapplied, finish_restore
from vault.store import schema
from vault.store.consents import SqlConsentRepository
from vault.store.subjects import SubjectRepository
from vault.verifying import reading_processes


def verifier_keys(settings: Settings, tenant: str = "") -> tuple[str, ...]:
    """The verifier keys of the newest log of each family, or of one tenant's; of each log the newest last:
    each is a key of the provider, or one that announcements in the log lead back to.

    Raises:
        IntegrityError: the database names a key that is neither. ConfigurationError: no such log, or a
        setting. StoreUnavailableError, KeysUnavailableError.
    """
    keys: list[str] = []
    with _home(settings) as (connection, provided):
        for found in _logs(connection, settings, tenant):
            stored = [vkey(found.origin, key.public_key) for key in read_keys(connection, found.log)]
            trusted = provided(found)
            known = follow(connection, found.log, found.origin, trusted).known
            if not known.issuperset(stored):
                raise IntegrityError(
                    f"{found.origin}: the database names a log key that is not the log's: run an audit verify"
                )
            keys += stored or trusted[-1:]
    return tuple(keys)


def verify_logs(
    settings: Settings,
    vkeys: Sequence[str],
    kept: str,
    progress: Callable[[int, int], None],
    tenant: str = "",
    processes: int | None = None,
) -> list[VerifyReport]:
    """Verify the newest log of each family of a home, or of the database that the settings name: of the
    families that `tenant`, the vkeys and the kept checkpoint leave.

    `kept` is a checkpoint's note from earlier, '' for none. Without `vkeys` the home's own log key counts.
    What these announced in the log counts too. Long logs are read by `processes`, one per processor if None.

    Raises: as `open_rooms`; ConfigurationError: the tenant has no log. IntegrityError: the kept checkpoint is
        not signed by a known key, or it or every vkey is of another log.
    """
    with _home(settings) as (connection, provided):
        logs = _logs(connection, settings, tenant)
        if vkeys:
            logs = _of_these_keys(logs, vkeys)
        if kept:
            logs = _of_this_checkpoint(logs, kept)
        readers = reading_processes(settings, reading(connection), processes)
        reports = []
        for found in logs:
            known, checkpoint = _of_origin(vkeys, found.origin) or provided(found), None
            if kept:
                chain = follow(connection, found.log, found.origin, known)
                checkpoint = _kept_checkpoint(kept, found, chain.vkeys)
            report = verify(
                connection,
                found.log,
                *known,
                from_checkpoint=checkpoint,
                progress=progress,
                readers=readers,
            )
            reports.append(report)
        return reports


@contextlib.contextmanager
def _home(settings: Settings) -> Iterator[tuple[Connection, Callable[[OpenLog], tuple[str, ...]]]]:
    """One snapshot of a home's database, and what to trust of a log without being told: every version of the
    provider's log key, which is asked for when it is needed."""
    database = database_of(settings)
    try:
        schema.require_current(database)
        with database.read() as connection:
            yield connection, lambda log: _provider_vkeys(settings, log)
    finally:
        database.close()


def _logs(connection: Connection, settings: Settings, tenant: str) -> tuple[OpenLog, ...]:
    logs = heads_of(connection, settings.origin)
    if not tenant:
        return logs
    found = tuple(log for log in logs if tenant_of(log.origin, settings.origin) == tenant)
    if not found:
        raise ConfigurationError(f"--tenant: this database holds no audit log of tenant {tenant!r} alone")
    return found


def _of_these_keys(logs: Sequence[OpenLog], vkeys: Sequence[str]) -> tuple[OpenLog, ...]:
    found = tuple(log for log in logs if _of_origin(vkeys, log.origin))
    if not found:
        raise _of_another_log("verifier key", parse_vkey(vkeys[-1]).name, logs)
    return found


def _of_origin(vkeys: Sequence[str], origin: str) -> tuple[str, ...]:
    return tuple(text for text in vkeys if parse_vkey(text).name == origin)


def _of_this_checkpoint(logs: Sequence[OpenLog], note: str) -> tuple[OpenLog, ...]:
    """The one that its first line names, else that one's successor, else whichever: it will not fit."""
    origin = note.partition("\n")[0]
    named = [log for log in logs if log.origin == origin]
    followed = [log for log in logs if base_origin(log.origin) == origin]
    return (*named, *followed, *logs)[:1]


def _kept_checkpoint(note: str, log: OpenLog, vkeys: Sequence[str]) -> Checkpoint:
    try:
        checkpoint = parse_and_verify(note, *vkeys)
    except UnknownSignerError as error:
        if error.origin == log.origin:
            raise
        raise _of_another_log("checkpoint", error.origin, [log]) from None
    if checkpoint.origin != log.origin:
        raise _of_another_log("checkpoint", checkpoint.origin, [log])
    return checkpoint


def _of_another_log(what: str, theirs: str, logs: Sequence[OpenLog]) -> IntegrityError:
    """Names the log in service that may have been meant: the successor of theirs, else the first."""
    meant = next((log for log in logs if base_origin(log.origin) == theirs), logs[0])
    adopted = ", opened by an adopted restore" if base_origin(meant.origin) == theirs else ""
    return IntegrityError(f"this {what} is of {theirs}; the log in service is {meant.origin}{adopted}")


def _provider_vkeys(settings: Settings, log: OpenLog) -> tuple[str, ...]:
    provider = key_provider(settings, SystemClock(), SystemRandomness())
    try:
        return provider_vkeys(log, ProviderLogSigners(provider))
    finally:
        provider.close()


def adopt(settings: Settings, vkeys: Sequence[str] = ()) -> tuple[tuple[Adoption, ...], Reapplied]:
    """Adopt a restored database (audit/restore.py) and apply again what the outside store knows.

    Every log that lost records is adopted; nothing is served before all that they lost is applied. `vkeys`
    are keys of the lost logs that the provider does not have.

    Raises:
        ConfigurationError: there is nothing to adopt. As `open_rooms`; StartRefusedError: the service runs.
    """
    with open_rooms(settings, Use.ALONE) as rooms:
        signers = log_signers(rooms)
        tenants = known_tenants(rooms)
        operator = Caller("operator", min(tenants), f"local:{getpass.getuser()}")
        families = log_opener(rooms, signers).families(tenants)
        adoptions = adopt_restores(
            rooms.database,
            {
                origin: Operator(tenant or operator.tenant, operator.id, operator.identity)
                for origin, tenant in families.items()
            },
            rooms.outside,
            signers,
            rooms.clock,
            rooms.randomness,
            vkeys,
        )
        with rooms.database.read() as connection:
            logs = stored_book(connection, settings.origin)
        pipelines = build_pipelines(rooms, logs, signers)
        reapplied = finish_restore(
            adoptions,
            pipelines.recorder,
            SubjectRepository(),
            SqlConsentRepository(),
            operator,
            pipelines.keyring,
            rooms.randomness,
        )
        pipelines.integrator.run_once()
        return adoptions, reapplied
