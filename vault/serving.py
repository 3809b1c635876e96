"""Running the service: from settings to serving ports, and back down in order."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog

from vault.assembly import (
    TLS_FOLDER,
    Pipelines,
    Rooms,
    Use,
    authority,
    build_pipelines,
    jwt_issuers,
    log_signers,
    open_logs,
    open_rooms,
)
from vault.build import BUILD
from vault.bundles import keep_bundle
from vault.config import Settings
from vault.domain.errors import ConfigurationError
from vault.housekeeping import keep_house
from vault.identity.certificates import CertificateAuthenticator
from vault.identity.jwt import JwtAuthenticator
from vault.identity.pairs import require_certificates, require_pair
from vault.policy.problems import PolicyError
from vault.reloading import PolicyReloader
from vault.server.audit import AuditServicer
from vault.server.blocking import BlockingWorker
from vault.server.consent import ConsentServicer
from vault.server.data import DataServicer, add_data_service
from vault.server.edge import Edge
from vault.server.health import HealthMonitor, Probe
from vault.server.interpreter import settle
from vault.server.keys import KeyServicer
from vault.server.lifecycle import GrpcServers, Listen, Registration, Signals, TlsMaterial
from vault.server.metrics import Meter
from vault.server.policy import PolicyServicer
from vault.server.ready import Addresses, write_ready_file
from vault.server.reflection import reflection_of
from vault.server.rights import RightsServicer
from vault.server.scheduling import come_first, take_turns
from vault.server.worker import DisclosureWorker
from vault.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    consent_service_pb2,
    consent_service_pb2_grpc,
    data_service_pb2,
    key_service_pb2,
    key_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
    rights_service_pb2,
    rights_service_pb2_grpc,
)

log = structlog.get_logger("datavault.serving")


class Post(Protocol):
    """Who leads a process that serves: the operator by signals, or a supervisor (workers/duty.py)."""

    shared: bool
    """Whether other processes listen on the same ports."""

    def attend(self, reloader: PolicyReloader, meter: Meter) -> None:
        """From here on signals are answered. In the running loop."""

    async def serving(self, addresses: Addresses, metrics: str, bundle: str, services: Sequence[str]) -> None:
        """It listens there, with the bundle of this hash."""

    def report(self, problem: str) -> None:
        """Its health was looked at: what is wrong, '' while it serves."""

    async def stopped(self) -> None:
        """Return once it is asked to stop."""


def serve(settings: Settings, ready_file: Path | None = None) -> None:
    """Run the service in this process until SIGTERM or SIGINT.

    Raises:
        ConfigurationError, StartRefusedError, StoreUnavailableError, KeysUnavailableError: it did not start.
    """
    _run(settings, Use.SERVE, "", _Alone(ready_file))


def serve_as_worker(settings: Settings, bundle: str, post: Post) -> None:
    """Run the service in this process as one of several workers; `bundle` is the hash in force, '' for the
    first one.

    Raises: as `serve`.
    """
    _run(settings, Use.WORKER if bundle else Use.FIRST_WORKER, bundle, post)


class _Alone:
    """The operator leads: SIGHUP, SIGTERM, and a file that says when it serves."""

    shared = False

    def __init__(self, ready_file: Path | None) -> None:
        self._ready_file = ready_file
        self._signals: Signals

    def attend(self, reloader: PolicyReloader, meter: Meter) -> None:
        self._signals = Signals(reloader.reload)

    async def serving(self, addresses: Addresses, metrics: str, bundle: str, services: Sequence[str]) -> None:
        if self._ready_file is not None:
            write_ready_file(self._ready_file, addresses, metrics)

    def report(self, problem: str) -> None:
        """The health port says it."""

    async def stopped(self) -> None:
        await self._signals.stopped()


def _run(settings: Settings, use: Use, bundle: str, post: Post) -> None:
    # before there are threads: they inherit it
    in_turn = take_turns()
    with open_rooms(settings, use, bundle) as rooms:
        signers = log_signers(rooms)
        pipelines = build_pipelines(rooms, open_logs(rooms, signers), signers)
        keep_bundle(rooms.database, rooms.policy.current.bundle, rooms.clock.now())
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(rooms, pipelines, post, in_turn=in_turn))


async def _serve(rooms: Rooms, pipelines: Pipelines, post: Post, *, in_turn: bool) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(initializer=take_turns))
    meter = Meter()
    worker = DisclosureWorker(pipelines.disclosure, pipelines.keyring, rooms.clock)
    # a withdrawal needs no key: it must not wait behind writes that wait for the KMS
    changes, consents = BlockingWorker("changes"), BlockingWorker("consents")
    # nor behind an erasure, which may rewrite the whole database
    erasures = BlockingWorker("erasures")
    queries = BlockingWorker("queries", threads=2)
    # one thread: jobs that last for hours take their steps in turn, beside the traffic
    keys = BlockingWorker("keys")
    edge = Edge(
        CertificateAuthenticator(lambda: rooms.policy.current.bundle, rooms.clock), _jwt(rooms), meter
    )
    registrations = _registrations(rooms, pipelines, edge, worker, changes, consents, erasures, queries, keys)
    services = [registration.service for registration in registrations]
    monitor = HealthMonitor(
        services,
        worker,
        [changes, consents, erasures],
        [
            Probe("database", rooms.database.problem),
            Probe("audit log", pipelines.recorder.problem),
            Probe("policy", lambda: _policy_problem(rooms)),
        ],
        partial(_gauges, pipelines),
        meter,
        post.report,
    )
    settings = rooms.settings
    if settings.reflection:
        registrations.append(reflection_of(edge, services))
    servers = GrpcServers(
        registrations,
        monitor,
        tls_material(rooms),
        Listen(settings.listen, settings.listen_jwt, settings.listen_health, post.shared),
    )
    post.attend(PolicyReloader(rooms, pipelines), meter)
    settle()
    worker.start(asyncio.get_running_loop())
    pipelines.integrator.start()
    # not on the thread of the changes: it may have to wait for the KMS
    refresh = partial(queries.run, pipelines.tenant_keys.refresh_all)
    sweep = partial(pipelines.sweep.sweep, erasures.run)
    background = [asyncio.ensure_future(keep_house(changes.run, rooms.database, rooms.clock, refresh, sweep))]
    try:
        addresses = await servers.start()
        metrics = _serve_metrics(meter, settings.metrics)
        if in_turn:
            come_first()
        background.append(asyncio.ensure_future(monitor.run()))
        log.info("started", build=BUILD, main=addresses.main, jwt=addresses.jwt, keys=rooms.provider.name)
        await post.serving(addresses, metrics, rooms.policy.current.bundle.hash, services)
        await post.stopped()
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
        await erasures.stop()
        await queries.stop()
        await keys.stop()
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
    erasures: BlockingWorker,
    queries: BlockingWorker,
    keys: BlockingWorker,
) -> list[Registration]:
    operations = pipelines.operations
    return [
        Registration(
            data_service_pb2.DESCRIPTOR.services_by_name["DataService"].full_name,
            DataServicer(edge, worker, pipelines.intake, changes),
            add_data_service,
        ),
        Registration(
            consent_service_pb2.DESCRIPTOR.services_by_name["ConsentService"].full_name,
            ConsentServicer(edge, pipelines.rights, pipelines.views, consents, queries),
            consent_service_pb2_grpc.add_ConsentServiceServicer_to_server,
        ),
        Registration(
            rights_service_pb2.DESCRIPTOR.services_by_name["RightsService"].full_name,
            RightsServicer(
                edge,
                pipelines.rights,
                pipelines.erasure,
                pipelines.retention,
                pipelines.evidence,
                consents,
                erasures,
            ),
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
        Registration(
            key_service_pb2.DESCRIPTOR.services_by_name["KeyService"].full_name,
            KeyServicer(edge, pipelines.keys, keys),
            key_service_pb2_grpc.add_KeyServiceServicer_to_server,
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


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
