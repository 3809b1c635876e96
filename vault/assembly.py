"""Wires everything: the only module that knows all rooms (architecture.md, "Layers")."""

import asyncio
import contextlib
import getpass
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from sqlalchemy import Connection

from vault.audit.append import Appender
from vault.audit.checkpoint import parse_and_verify, vkey
from vault.audit.integrator import Integrator
from vault.audit.origins import OpenLog, newest_log
from vault.audit.outside import FolderStore
from vault.audit.restore import Adoption, Operator, adopt_restore
from vault.audit.startup import check_outside, open_log
from vault.audit.tables import metadata as audit_metadata
from vault.audit.verify import VerifyReport, verify
from vault.config import Settings
from vault.consent.ledger import Ledger
from vault.crypto.keyring import Keyring
from vault.crypto.local import LocalKeyProvider
from vault.crypto.names import LOG, all_keys, class_key
from vault.crypto.signer import KeySigner
from vault.crypto.tenant_keys import TenantKeys
from vault.crypto.transit import TransitKeyProvider
from vault.crypto.transit_settings import TransitSettings
from vault.disclosure import DisclosurePipeline
from vault.domain.errors import ConfigurationError, DatavaultError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, KeyInfo, KeyProvider, Randomness
from vault.domain.system import SystemClock, SystemRandomness
from vault.domain.types import Caller
from vault.enrolment import Enrolment
from vault.identity.authority import Authority
from vault.identity.certificates import CertificateAuthenticator
from vault.identity.jwt import JwtAuthenticator, JwtIssuer
from vault.intake import IntakePipeline
from vault.operations import OperationsPipeline
from vault.policy.bundle import load_bundle
from vault.policy.live import LivePolicy
from vault.policy.problems import PolicyError
from vault.recording import Recorder
from vault.replay import Replays
from vault.restoring import Reapplied, finish_restore
from vault.rights import RightsPipeline
from vault.server.audit import AuditServicer
from vault.server.consent import ConsentServicer, RightsServicer
from vault.server.convert import ResponseWriter
from vault.server.data import DataServicer
from vault.server.edge import Edge
from vault.server.health import HealthMonitor, Probe
from vault.server.lifecycle import (
    Addresses,
    GrpcServers,
    Listen,
    Registration,
    TlsMaterial,
    until_stopped,
)
from vault.server.metrics import Meter
from vault.server.policy import PolicyServicer
from vault.server.worker import ChangeWorker, DisclosureWorker
from vault.store import schema
from vault.store.bundles import BundleRepository
from vault.store.consents import SqlConsentRepository
from vault.store.database import Database
from vault.store.quotas import QuotaRepository
from vault.store.reader import SubjectReader
from vault.store.requests import RequestRepository
from vault.store.subjects import SubjectRepository
from vault.store.tables import metadata as store_metadata
from vault.store.tenant_keys import SqlTenantKeyRepository
from vault.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    consent_service_pb2,
    consent_service_pb2_grpc,
    data_service_pb2,
    data_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
    rights_service_pb2,
    rights_service_pb2_grpc,
)

log = structlog.get_logger("datavault.assembly")

METADATAS: Final = (store_metadata, audit_metadata)
"""Every room's tables, for alembic."""
CA_FOLDER: Final = "ca"
TLS_FOLDER: Final = "tls"
KEY_FILE: Final = "keys.json"
_HOUSEKEEPING_SECONDS: Final = 3_600


@dataclass(frozen=True, slots=True)
class Rooms:
    """What both the server and the commands that look directly into a home need."""

    settings: Settings
    clock: Clock
    randomness: Randomness
    policy: LivePolicy
    database: Database
    provider: KeyProvider

    @property
    def outside(self) -> FolderStore:
        """The outside store (consent.md)."""
        return FolderStore(self.settings.outside)


@dataclass(frozen=True, slots=True)
class Pipelines:
    """The pipelines of one process and what they share."""

    disclosure: DisclosurePipeline[Any]
    intake: IntakePipeline
    rights: RightsPipeline
    operations: OperationsPipeline
    keyring: Keyring
    recorder: Recorder
    integrator: Integrator
    requests: RequestRepository


def make_home(settings: Settings) -> None:
    """Make the data folder, for its owner alone.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"DATAVAULT_HOME: {settings.home} cannot be made: {error.strerror}"
        ) from None


def key_provider(
    settings: Settings, clock: Clock, randomness: Randomness
) -> LocalKeyProvider | TransitKeyProvider:
    """The key provider that the settings name.

    Raises:
        ConfigurationError: a setting is missing, or the local keyring is to serve production.
    """
    if settings.keys == "local":
        return LocalKeyProvider(
            settings.home / KEY_FILE, environment=settings.environment, randomness=randomness
        )
    return TransitKeyProvider(transit_settings(settings), clock)


def transit_settings(settings: Settings) -> TransitSettings:
    """The settings of the Transit provider.

    Raises:
        ConfigurationError: the address or the token is missing.
    """
    if not settings.transit_address:
        raise ConfigurationError("VAULT_ADDR: must be set when DATAVAULT_KEYS is transit")
    return TransitSettings(
        address=settings.transit_address,
        token=settings.transit_token.get_secret_value(),
        token_file=settings.transit_token_file,
        ca_certificate=settings.transit_cacert,
        client_certificate=settings.transit_client_cert,
        client_key=settings.transit_client_key,
        namespace=settings.transit_namespace,
        mount=settings.transit_mount,
    )


@contextlib.contextmanager
def open_rooms(settings: Settings, *, exclusive: bool) -> Iterator[Rooms]:
    """Policies, database and keys. `exclusive` claims the database for this process and raises its schema.

    Raises:
        ConfigurationError: a setting, policy file or key file is wrong. StartRefusedError: another server
        uses the database, or its schema is not this release's. StoreUnavailableError, KeysUnavailableError.
    """
    make_home(settings)
    clock, randomness = SystemClock(), SystemRandomness()
    policy = LivePolicy(clock)
    policy.load(settings.policies, settings.policy_engine)
    database = Database(settings.database)
    try:
        if exclusive:
            database.lock_exclusively()
            schema.upgrade(database, METADATAS)
        else:
            schema.require_current(database)
        provider = key_provider(settings, clock, randomness)
        if settings.environment == "development":
            provider.ensure_keys(policy.current.bundle.key_classes)
        yield Rooms(settings, clock, randomness, policy, database, provider)
    finally:
        database.close()


def log_signer(rooms: Rooms) -> KeySigner:
    """Signs checkpoints."""
    return KeySigner(rooms.provider, LOG)


def build_pipelines(rooms: Rooms, opened: OpenLog, signer: KeySigner) -> Pipelines:
    """Wire the pipelines over an open log."""
    clock, randomness, database, policy = rooms.clock, rooms.randomness, rooms.database, rooms.policy
    tenant_keys = TenantKeys(rooms.provider, SqlTenantKeyRepository(database), randomness)
    for tenant in sorted({caller.tenant for caller in policy.current.bundle.callers.values()}):
        tenant_keys.warm(tenant)
    keyring = Keyring(rooms.provider, clock, randomness, LIMITS.dek_cache_seconds, LIMITS.dek_cache_entries)
    integrator = Integrator(database, opened.log, signer, clock, rooms.outside)
    recorder = Recorder(
        database,
        Appender(opened.log),
        clock,
        randomness,
        lambda: policy.current.bundle.hash,
        integrator.notify,
    )
    subjects, consents, requests = SubjectRepository(), SqlConsentRepository(), RequestRepository()
    replays = Replays(requests, clock)
    enrolment = Enrolment(tenant_keys, subjects, clock, randomness)
    return Pipelines(
        disclosure=DisclosurePipeline(
            database,
            SubjectReader(),
            QuotaRepository(),
            tenant_keys,
            keyring,
            policy,
            recorder,
            ResponseWriter(),
            clock,
        ),
        intake=IntakePipeline(
            database, subjects, replays, enrolment, keyring, policy, recorder, clock, randomness
        ),
        rights=RightsPipeline(
            database,
            subjects,
            consents,
            Ledger(consents, clock, randomness),
            replays,
            enrolment,
            policy,
            recorder,
            opened.origin,
            clock,
        ),
        operations=OperationsPipeline(
            database,
            subjects,
            tenant_keys,
            policy,
            recorder,
            vkey(opened.origin, signer.public_key()),
        ),
        keyring=keyring,
        recorder=recorder,
        integrator=integrator,
        requests=requests,
    )


# --- serving ----------------------------------------------------------------------------------------------


def serve(settings: Settings, ready_file: Path | None = None) -> None:
    """Run the service until SIGTERM or SIGINT.

    Raises:
        ConfigurationError, StartRefusedError, StoreUnavailableError, KeysUnavailableError: it did not start.
    """
    with open_rooms(settings, exclusive=True) as rooms:
        signer = log_signer(rooms)
        opened = open_log(rooms.database, settings.origin)
        with rooms.database.read() as connection:
            check_outside(connection, opened, rooms.outside, vkey(opened.origin, signer.public_key()))
        pipelines = build_pipelines(rooms, opened, signer)
        keep_bundle(rooms)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(rooms, pipelines, ready_file))


def keep_bundle(rooms: Rooms) -> None:
    """Keep the live bundle in the database: every bundle that served is."""
    bundle = rooms.policy.current.bundle
    files = orjson.dumps({path: content.decode() for path, content in sorted(bundle.files.items())})
    with rooms.database.write() as connection:
        BundleRepository().keep(connection, bundle.hash, files, rooms.clock.now())


async def _serve(rooms: Rooms, pipelines: Pipelines, ready_file: Path | None) -> None:
    meter = Meter()
    worker = DisclosureWorker(pipelines.disclosure, pipelines.keyring, rooms.clock)
    changes = ChangeWorker("changes")
    queries = ChangeWorker("queries", threads=2)
    registrations = _registrations(rooms, pipelines, worker, changes, queries, meter)
    monitor = HealthMonitor(
        [registration.service for registration in registrations],
        worker,
        changes,
        [Probe("audit log", pipelines.recorder.problem), Probe("policy", lambda: _policy_problem(rooms))],
        partial(_gauges, pipelines),
        meter,
    )
    settings = rooms.settings
    servers = GrpcServers(
        registrations,
        monitor,
        tls_material(rooms),
        Listen(settings.listen, settings.listen_jwt, settings.listen_health),
        with_reflection=settings.reflection,
    )
    worker.start(asyncio.get_running_loop())
    pipelines.integrator.start()
    background = [asyncio.ensure_future(_housekeeping(rooms, pipelines, changes))]
    try:
        addresses = await servers.start()
        metrics = _serve_metrics(meter, settings.metrics)
        background.append(asyncio.ensure_future(monitor.run()))
        log.info("started", main=addresses.main, jwt=addresses.jwt, keys=rooms.provider.name)
        if ready_file is not None:
            write_ready_file(ready_file, addresses, metrics)
        await until_stopped(partial(_reload, rooms))
        log.info("stopping")
    finally:
        for task in background:
            task.cancel()
        await monitor.stop()
        await servers.stop()
        await worker.stop()
        await changes.stop()
        await queries.stop()
        await asyncio.to_thread(pipelines.integrator.stop)
        await servers.stop_health()
        log.info("stopped")


def _registrations(
    rooms: Rooms,
    pipelines: Pipelines,
    worker: DisclosureWorker,
    changes: ChangeWorker,
    queries: ChangeWorker,
    meter: Meter,
) -> list[Registration]:
    edge = Edge(
        CertificateAuthenticator(lambda: rooms.policy.current.bundle, rooms.clock), _jwt(rooms), meter
    )
    operations = pipelines.operations
    return [
        Registration(
            data_service_pb2.DESCRIPTOR.services_by_name["DataService"].full_name,
            DataServicer(edge, worker, pipelines.intake, changes),
            data_service_pb2_grpc.add_DataServiceServicer_to_server,
        ),
        Registration(
            consent_service_pb2.DESCRIPTOR.services_by_name["ConsentService"].full_name,
            ConsentServicer(edge, pipelines.rights, changes, queries),
            consent_service_pb2_grpc.add_ConsentServiceServicer_to_server,
        ),
        Registration(
            rights_service_pb2.DESCRIPTOR.services_by_name["RightsService"].full_name,
            RightsServicer(edge, pipelines.rights, changes),
            rights_service_pb2_grpc.add_RightsServiceServicer_to_server,
        ),
        Registration(
            policy_service_pb2.DESCRIPTOR.services_by_name["PolicyService"].full_name,
            PolicyServicer(edge, operations, queries, rooms.settings.policy_engine),
            policy_service_pb2_grpc.add_PolicyServiceServicer_to_server,
        ),
        Registration(
            audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name,
            AuditServicer(edge, operations, queries),
            audit_service_pb2_grpc.add_AuditServiceServicer_to_server,
        ),
    ]


def _jwt(rooms: Rooms) -> JwtAuthenticator:
    issuers = [
        JwtIssuer(issuer.issuer, issuer.audience, issuer.jwks, issuer.algorithms)
        for issuer in rooms.settings.jwt_issuers
    ]
    authenticator = JwtAuthenticator(issuers, lambda: rooms.policy.current.bundle, rooms.clock)
    for issuer in authenticator.load():
        log.warning("jwt_issuer_without_keys", issuer=issuer)
    return authenticator


def authority(settings: Settings, clock: Clock, randomness: Randomness) -> Authority:
    """The embedded CA of this home."""
    return Authority.open(settings.home / CA_FOLDER, clock, randomness)


def tls_material(rooms: Rooms) -> TlsMaterial:
    """Server certificate and client CA: those of the settings, else the embedded CA's.

    Raises:
        ConfigurationError: a file is missing or unreadable, or only one of certificate and key is set.
    """
    settings = rooms.settings
    if (settings.server_certificate is None) != (settings.server_key is None):
        raise ConfigurationError("DATAVAULT_SERVER_CERTIFICATE and DATAVAULT_SERVER_KEY go together")
    certificate, key, client_ca = settings.server_certificate, settings.server_key, settings.client_ca
    if certificate is None or key is None or client_ca is None:
        embedded = authority(settings, rooms.clock, rooms.randomness)
        client_ca = client_ca or embedded.certificate_path
        if certificate is None or key is None:
            names = [name.strip() for name in settings.server_names.split(",") if name.strip()]
            certificate, key = embedded.server_credentials_files(settings.home / TLS_FOLDER, names)
    return TlsMaterial(_pem(certificate), _pem(key), _pem(client_ca))


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


async def _reload(rooms: Rooms) -> None:
    """SIGHUP: load the policies anew; a bundle that fails any check leaves the last good one serving."""
    settings = rooms.settings
    try:
        loaded = await asyncio.to_thread(rooms.policy.load, settings.policies, settings.policy_engine)
        await asyncio.to_thread(keep_bundle, rooms)
    except PolicyError as error:
        log.error("policy_refused", problems=len(error.errors), first=str(error.errors[0]))
    except DatavaultError as error:
        log.error("policy_not_kept", reason=error.reason.value)
    else:
        log.info("policy_loaded", bundle=loaded.bundle.hash)


async def _housekeeping(rooms: Rooms, pipelines: Pipelines, changes: ChangeWorker) -> None:
    """Forget old request ids and quota hours, once an hour."""

    def purge() -> None:
        now = rooms.clock.now()
        with rooms.database.write() as connection:
            _purge(connection, pipelines.requests, now)

    while True:
        try:
            await changes.run(purge)
        except DatavaultError as error:
            log.warning("housekeeping_failed", reason=error.reason.value)
        await asyncio.sleep(_HOUSEKEEPING_SECONDS)


def _purge(connection: Connection, requests: RequestRepository, now: int) -> None:
    requests.purge(connection, now)
    QuotaRepository().purge(connection, now // 1_000_000 // _HOUSEKEEPING_SECONDS - 24)


def _policy_problem(rooms: Rooms) -> str:
    try:
        return "" if rooms.policy.current else "no policy is loaded"
    except PolicyError:
        return "no policy is loaded"


def _gauges(pipelines: Pipelines) -> dict[str, float]:
    keyring = pipelines.keyring
    return {
        "log_lag_seconds": pipelines.integrator.lag_seconds(),
        "dek_cache_entries": keyring.entries,
        "dek_cache_hits": keyring.hits,
        "dek_cache_misses": keyring.misses,
    }


def _serve_metrics(meter: Meter, address: str) -> str:
    if not address:
        return ""
    host, _, port = address.rpartition(":")
    return f"{host}:{meter.serve(host, int(port))}"


# --- commands that look directly into a home --------------------------------------------------------------


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

    Raises: as `open_rooms`; IntegrityError: the kept checkpoint is not signed by a known key.
    """
    database = Database(settings.database)
    try:
        schema.require_current(database)
        with database.read() as connection:
            found = newest_log(connection, settings.origin)
            known = tuple(vkeys) or (vkey(found.origin, _public_log_key(settings)),)
            checkpoint = parse_and_verify(kept, *known) if kept else None
            return verify(connection, found.log, *known, from_checkpoint=checkpoint, progress=progress)
    finally:
        database.close()


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
    with open_rooms(settings, exclusive=True) as rooms:
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


def write_ready_file(path: Path, addresses: Addresses, metrics: str) -> None:
    """Write the addresses as JSON, whole or not at all."""
    document = {
        "main": addresses.main,
        "jwt": addresses.jwt,
        "health": addresses.health,
        "metrics": metrics,
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(document, file)
    Path(temporary).replace(path)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
