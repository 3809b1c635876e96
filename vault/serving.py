"""Running the service: from settings to serving ports, and back down in order."""

import asyncio
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from vault.assembly import (
    TLS_FOLDER,
    Pipelines,
    Rooms,
    authority,
    build_pipelines,
    jwt_issuers,
    log_signer,
    open_rooms,
)
from vault.audit.checkpoint import vkey
from vault.audit.startup import check_outside, open_log
from vault.config import Settings
from vault.domain.errors import ConfigurationError
from vault.housekeeping import keep_house
from vault.identity.certificates import CertificateAuthenticator
from vault.identity.jwt import JwtAuthenticator
from vault.identity.pairs import require_certificates, require_pair
from vault.policy.problems import PolicyError
from vault.reloading import PolicyReloader, keep_bundle
from vault.server.audit import AuditServicer
from vault.server.blocking import BlockingWorker
from vault.server.consent import ConsentServicer, RightsServicer
from vault.server.data import DataServicer
from vault.server.edge import Edge
from vault.server.health import HealthMonitor, Probe
from vault.server.lifecycle import (
    Addresses,
    GrpcServers,
    Listen,
    Registration,
    Signals,
    TlsMaterial,
)
from vault.server.metrics import Meter
from vault.server.policy import PolicyServicer
from vault.server.reflection import reflection_of
from vault.server.worker import DisclosureWorker
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

log = structlog.get_logger("datavault.serving")


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
        keep_bundle(rooms, rooms.policy.current.bundle)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(rooms, pipelines, ready_file))


async def _serve(rooms: Rooms, pipelines: Pipelines, ready_file: Path | None) -> None:
    meter = Meter()
    worker = DisclosureWorker(pipelines.disclosure, pipelines.keyring, rooms.clock)
    # a withdrawal needs no key: it must not wait behind writes that wait for the KMS
    changes, consents = BlockingWorker("changes"), BlockingWorker("consents")
    queries = BlockingWorker("queries", threads=2)
    edge = Edge(
        CertificateAuthenticator(lambda: rooms.policy.current.bundle, rooms.clock), _jwt(rooms), meter
    )
    registrations = _registrations(rooms, pipelines, edge, worker, changes, consents, queries)
    monitor = HealthMonitor(
        [registration.service for registration in registrations],
        worker,
        [changes, consents],
        [Probe("audit log", pipelines.recorder.problem), Probe("policy", lambda: _policy_problem(rooms))],
        partial(_gauges, pipelines),
        meter,
    )
    settings = rooms.settings
    if settings.reflection:
        registrations.append(reflection_of(edge, [registration.service for registration in registrations]))
    servers = GrpcServers(
        registrations,
        monitor,
        tls_material(rooms),
        Listen(settings.listen, settings.listen_jwt, settings.listen_health),
    )
    signals = Signals(PolicyReloader(rooms, pipelines.tenant_keys).reload)
    worker.start(asyncio.get_running_loop())
    pipelines.integrator.start()
    background = [asyncio.ensure_future(keep_house(changes.run, rooms.database, rooms.clock))]
    try:
        addresses = await servers.start()
        metrics = _serve_metrics(meter, settings.metrics)
        background.append(asyncio.ensure_future(monitor.run()))
        log.info("started", main=addresses.main, jwt=addresses.jwt, keys=rooms.provider.name)
        if ready_file is not None:
            write_ready_file(ready_file, addresses, metrics)
        await signals.stopped()
        log.info("stopping")
    finally:
        for task in background:
            task.cancel()
        await monitor.stop()
        edge.end_streams()
        await servers.stop()
        await worker.stop()
        await changes.stop()
        await consents.stop()
        await queries.stop()
        await asyncio.to_thread(pipelines.integrator.stop)
        await servers.stop_health()
        log.info("stopped")


def _registrations(
    rooms: Rooms,
    pipelines: Pipelines,
    edge: Edge,
    worker: DisclosureWorker,
    changes: BlockingWorker,
    consents: BlockingWorker,
    queries: BlockingWorker,
) -> list[Registration]:
    operations = pipelines.operations
    return [
        Registration(
            data_service_pb2.DESCRIPTOR.services_by_name["DataService"].full_name,
            DataServicer(edge, worker, pipelines.intake, changes),
            data_service_pb2_grpc.add_DataServiceServicer_to_server,
        ),
        Registration(
            consent_service_pb2.DESCRIPTOR.services_by_name["ConsentService"].full_name,
            ConsentServicer(edge, pipelines.rights, pipelines.views, consents, queries),
            consent_service_pb2_grpc.add_ConsentServiceServicer_to_server,
        ),
        Registration(
            rights_service_pb2.DESCRIPTOR.services_by_name["RightsService"].full_name,
            RightsServicer(edge, pipelines.rights, consents),
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
    issuers = jwt_issuers(rooms.settings)
    authenticator = JwtAuthenticator(issuers, lambda: rooms.policy.current.bundle, rooms.clock)
    for issuer in authenticator.load():
        log.warning("jwt_issuer_without_keys", issuer=issuer)
    return authenticator


def tls_material(rooms: Rooms) -> TlsMaterial:
    """Server certificate and client CA: those of the settings, else the embedded CA's.

    Raises:
        ConfigurationError: a file is missing or unreadable, certificate and key do not belong together, or
            only one of them is set.
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
    require_pair(certificate, key)
    require_certificates(client_ca)
    return TlsMaterial(_pem(certificate), _pem(key), _pem(client_ca))


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


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
