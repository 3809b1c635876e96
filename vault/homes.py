"""What commands do directly in a home folder, without the service."""

import getpass
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vault.assembly import build_pipelines, key_provider, log_signer, open_rooms
from vault.audit.checkpoint import Checkpoint, UnknownSignerError, parse_and_verify, parse_vkey, vkey
from vault.audit.origins import base_origin, newest_log
from vault.audit.restore import Adoption, Operator, adopt_restore
from vault.audit.verify import VerifyReport, verify
from vault.config import Settings
from vault.crypto.names import LOG, all_keys, class_key
from vault.crypto.signer import KeySigner
from vault.domain.errors import IntegrityError
from vault.domain.protocols import KeyInfo
from vault.domain.system import SystemClock, SystemRandomness
from vault.domain.types import Caller
from vault.policy.bundle import load_bundle
from vault.restoring import Reapplied, finish_restore
from vault.store import schema
from vault.store.consents import SqlConsentRepository
from vault.store.database import Database
from vault.store.subjects import SubjectRepository


def verifier_key(settings: Settings) -> str:
    """The verifier key of the log's newest origin.

    Raises:
        ConfigurationError, StoreUnavailableError, KeysUnavailableError.
    """
    database = Database(settings.database)
    try:
        with database.read() as connection:
            return vkey(newest_log(connection, settings.origin).origin, _public_log_key(settings))
    finally:
        database.close()


def verify_log(
    settings: Settings, vkeys: Sequence[str], kept: str, progress: Callable[[int, int], None]
) -> VerifyReport:
    """Verify the newest log of a home, or of the database that the settings name.

    `kept` is a checkpoint's note from earlier, '' for none. Without `vkeys` the home's own log key counts.

    Raises: as `open_rooms`; IntegrityError: the kept checkpoint is not signed by a known key, or
        it or every vkey is of another log.
    """
    database = Database(settings.database)
    try:
        schema.require_current(database)
        with database.read() as connection:
            found = newest_log(connection, settings.origin)
            known = tuple(vkeys) or (vkey(found.origin, _public_log_key(settings)),)
            _require_same_log(found.origin, known)
            checkpoint = _kept_checkpoint(kept, found.origin, known) if kept else None
            return verify(connection, found.log, *known, from_checkpoint=checkpoint, progress=progress)
    finally:
        database.close()


def _require_same_log(origin: str, vkeys: Sequence[str]) -> None:
    names = [parse_vkey(text).name for text in vkeys]
    if origin not in names:
        raise _of_another_log("verifier key", names[-1], origin)


def _kept_checkpoint(note: str, origin: str, vkeys: Sequence[str]) -> Checkpoint:
    try:
        checkpoint = parse_and_verify(note, *vkeys)
    except UnknownSignerError as error:
        if error.origin == origin:
            raise
        raise _of_another_log("checkpoint", error.origin, origin) from None
    if checkpoint.origin != origin:
        raise _of_another_log("checkpoint", checkpoint.origin, origin)
    return checkpoint


def _of_another_log(what: str, theirs: str, origin: str) -> IntegrityError:
    adopted = ", opened by an adopted restore" if base_origin(origin) == theirs else ""
    return IntegrityError(f"this {what} is of {theirs}; the log in service is {origin}{adopted}")


def _public_log_key(settings: Settings) -> bytes:
    provider = key_provider(settings, SystemClock(), SystemRandomness())
    return KeySigner(provider, LOG).public_key()


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """Whether the provider answers."""

    provider: str
    healthy: bool
    detail: str


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key, and how many DEKs it wraps (None where it wraps none by its kind)."""

    info: KeyInfo
    data_keys: int | None


def key_status(settings: Settings) -> tuple[ProviderStatus, list[KeyRow]]:
    """Provider, keys, and DEKs per class.

    Raises:
        PolicyError, ConfigurationError, StoreUnavailableError, KeysUnavailableError.
    """
    classes = load_bundle(settings.policies).key_classes
    provider = key_provider(settings, SystemClock(), SystemRandomness())
    health = provider.health()
    database = Database(settings.database)
    try:
        counts: dict[str, int] = {}
        if database.path.exists():
            with database.read() as connection:
                counts = SubjectRepository().count_keys(connection)
    finally:
        database.close()
    wrapped = {class_key(name): counts.get(name, 0) for name in classes}
    return ProviderStatus(provider.name, health.healthy, health.detail), [
        KeyRow(provider.info(name), wrapped.get(name)) for name in all_keys(classes)
    ]


def adopt(settings: Settings) -> tuple[Adoption, Reapplied]:
    """Adopt a restored database (audit/restore.py) and apply again what the outside store knows.

    Raises:
        ConfigurationError: there is nothing to adopt. As `open_rooms`; StartRefusedError: the service runs.
    """
    with open_rooms(settings, exclusive=True, new_keys=False) as rooms:
        signer = log_signer(rooms)
        tenants = sorted({caller.tenant for caller in rooms.policy.current.bundle.callers.values()})
        operator = Caller("operator", tenants[0], f"local:{getpass.getuser()}")
        adoption = adopt_restore(
            rooms.database,
            settings.origin,
            rooms.outside,
            (signer.public_key(),),
            rooms.clock,
            rooms.randomness,
            Operator(operator.tenant, operator.id, operator.identity),
        )
        pipelines = build_pipelines(rooms, adoption.log, signer)
        reapplied = finish_restore(
            adoption, pipelines.recorder, SubjectRepository(), SqlConsentRepository(), operator
        )
        pipelines.integrator.run_once()
        return adoption, reapplied
