"""Wires everything: the only module that knows all rooms (architecture.md, "Layers")."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import Connection

from vault.audit.integration import Integration
from vault.audit.log_keys import next_signers
from vault.audit.logbook import LogBook
from vault.audit.opening import LogOpener
from vault.audit.origins import has_log, heads_of
from vault.audit.outside import OutsideStore
from vault.audit.startup import MIGRATE_COMMAND, durability_problem
from vault.audit.tables import metadata as audit_metadata
from vault.bundles import kept_bundle
from vault.config import Settings, make_home
from vault.consent.ledger import Ledger
from vault.crypto.keyring import Keyring
from vault.crypto.local import LocalKeyProvider
from vault.crypto.receipts import ReceiptSigner
from vault.crypto.signer import ProviderLogSigners
from vault.crypto.tenant_keys import TenantKeys
from vault.crypto.transit_settings import TransitSettings
from vault.crypto.wrapped import wrapping_provider
from vault.database_settings import database_of
from vault.disclosure import DisclosurePipeline
from vault.domain.errors import ConfigurationError, StartRefusedError, StoreUnavailableError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, Randomness
from vault.domain.system import SystemClock, SystemRandomness
from vault.enrolment import Enrolment
from vault.erasing.erasure import ErasurePipeline
from vault.erasing.evidence import EvidencePipeline
from vault.erasing.retaining import RetentionPipeline
from vault.erasing.shredding import Shredder
from vault.erasing.sweeping import RetentionSweep
from vault.identity.authority import Authority
from vault.identity.jwt import JwtIssuer
from vault.intake import IntakePipeline
from vault.keys.classes import require_keys
from vault.keys.log_rotation import LogKeyAnnouncer, LogKeyRotation
from vault.keys.lookup_indexing import LookupIndexing
from vault.keys.lookup_rotation import LookupRotation
from vault.keys.pipelines import KeyPipelines
from vault.operations import OperationsPipeline
from vault.outside import open_outside
from vault.policy.bundle import Bundle
from vault.policy.live import LivePolicy
from vault.recording import Recorder
from vault.replay import Replays
from vault.rights import RightsPipeline
from vault.server.wire import ResponseWriter
from vault.showing import ConsentViews
from vault.store import schema
from vault.store.consents import SqlConsentRepository
from vault.store.database import Database
from vault.store.erasure import ErasureRepository
from vault.store.key_rows import KeyRowRepository, KeyTable
from vault.store.lookups import LookupIndex
from vault.store.quotas import QuotaRepository
from vault.store.reader import SubjectReader
from vault.store.requests import RequestRepository
from vault.store.subjects import SubjectRepository
from vault.store.tables import metadata as store_metadata
from vault.store.tenant_keys import SqlTenantKeyRepository, tenants_with_keys

if TYPE_CHECKING:
    from vault.crypto.transit import TransitKeyProvider

log = structlog.get_logger("datavault.assembly")

METADATAS: Final = (store_metadata, audit_metadata)
"""Every room's tables, for alembic."""
CA_FOLDER: Final = "ca"
TLS_FOLDER: Final = "tls"
KEY_FILE: Final = "keys.json"
_MOVE: Final = f", or move them with `{MIGRATE_COMMAND}`"


@dataclass(frozen=True, slots=True)
class Rooms:
    """What both the server and the commands that look directly into a home need."""

    settings: Settings
    clock: Clock
    randomness: Randomness
    policy: LivePolicy
    database: Database
    provider: "LocalKeyProvider | TransitKeyProvider"

    @property
    def outside(self) -> OutsideStore:
        """The outside store (consent.md)."""
        return open_outside(self.settings)


@dataclass(frozen=True, slots=True)
class Pipelines:
    """The pipelines of one process and what they share."""

    disclosure: DisclosurePipeline
    intake: IntakePipeline
    rights: RightsPipeline
    erasure: ErasurePipeline
    retention: RetentionPipeline
    evidence: EvidencePipeline
    sweep: RetentionSweep
    views: ConsentViews
    operations: OperationsPipeline
    keyring: Keyring
    tenant_keys: TenantKeys
    recorder: Recorder
    integrator: Integration
    log_rotation: LogKeyRotation
    keys: KeyPipelines


def key_provider(
    settings: Settings, clock: Clock, randomness: Randomness, *, create: bool = False
) -> "LocalKeyProvider | TransitKeyProvider":
    """The key provider that the settings name. `create` makes the local keys where there are none.

    Raises:
        ConfigurationError: a setting is missing, there are no local keys or they are to serve production, or
            the KMS refuses the login.
        KeysUnavailableError: the KMS does not answer the login.
    """
    if settings.keys == "local":
        return LocalKeyProvider(
            settings.home / KEY_FILE,
            environment=settings.environment,
            randomness=randomness,
            create=create,
        )
    # hvac and requests are a tenth of the imports of a start that has local keys
    from vault.crypto.transit import TransitKeyProvider

    provider = TransitKeyProvider(transit_settings(settings), clock)
    provider.session.log_in()
    return provider


def transit_settings(settings: Settings) -> TransitSettings:
    """The settings of the Transit provider.

    Raises:
        ConfigurationError: one is missing, wrong, or not used by the chosen way to log in.
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
        auth=settings.transit_auth,
        auth_mount=settings.transit_auth_mount,
        role=settings.transit_role,
        role_id=settings.transit_role_id.get_secret_value(),
        secret_id_file=settings.transit_secret_id_file,
        jwt_file=settings.transit_jwt_file,
        timeout_seconds=settings.transit_timeout_seconds,
        batch_items=settings.transit_batch_items,
    )


def jwt_issuers(settings: Settings) -> list[JwtIssuer]:
    """The issuers of tokens that the settings trust.

    Raises:
        ConfigurationError: one of them is wrong.
    """
    return [
        JwtIssuer(issuer.issuer, issuer.audience, issuer.jwks, issuer.algorithms)
        for issuer in settings.jwt_issuers
    ]


class Use(Enum):
    """What for a process opens the rooms."""

    SERVE = "serve"
    """A server, beside others where the database allows it; makes what a first start lacks."""
    FIRST_WORKER = "first worker"
    """The first process of a server whose supervisor has claimed a database that serves alone; makes what a
    first start lacks."""
    WORKER = "worker"
    """Another process of such a server."""
    ALONE = "alone"
    """A command that no server may run beside."""
    LOOK = "look"
    """A command that changes nothing."""


_MAKES: Final = frozenset({Use.SERVE, Use.FIRST_WORKER})
_WORKERS: Final = frozenset({Use.FIRST_WORKER, Use.WORKER})


@contextlib.contextmanager
def open_rooms(settings: Settings, use: Use, bundle_hash: str = "") -> Iterator[Rooms]:
    """Policies, database and keys. The policies are those of the folder, or, with `bundle_hash`, the bundle
    that another worker of this server has kept.

    A server makes the local keys where there is neither a key file nor a log yet, and raises the schema of a
    database that is its own (SQLite).

    Raises:
        ConfigurationError: a setting, policy file or key file is wrong. StartRefusedError: another server
        uses the database, it cannot be used, its schema is not this release's, or its local keys are missing.
        KeysUnavailableError.
    """
    make_home(settings)
    clock, randomness = SystemClock(), SystemRandomness()
    policy = LivePolicy(clock)
    if not bundle_hash:
        policy.load(settings.policies, settings.policy_engine)
    database = database_of(settings, durability_problem)
    try:
        claim(database, use)
        if bundle_hash:
            kept = kept_bundle(database, bundle_hash)
            policy.adopt(policy.prepare(kept, settings.policy_engine, compared=True))
        _require_own_keys(settings, database)
        provider = key_provider(settings, clock, randomness, create=use in _MAKES)
        try:
            ensure_keys(settings, provider, policy.current.bundle.key_classes)
            yield Rooms(settings, clock, randomness, policy, database, provider)
        finally:
            provider.close()
    finally:
        database.close()


def claim(database: Database, use: Use) -> None:
    """Take a database into use: its lock, and a schema that this release knows.

    Raises:
        StartRefusedError: somebody else uses it in a way that excludes this one; its schema is not this
            release's; it cannot be read or written. StoreUnavailableError: a database that many may use
            does not answer now, or one command has it for itself.
    """
    try:
        if use is Use.ALONE:
            database.lock_exclusively()
        elif use is Use.SERVE or (use in _WORKERS and not database.serves_alone):
            database.join()
        elif use in _WORKERS:
            database.share()
    except StoreUnavailableError as error:
        told = f"{database.name}: {error.message}"
        if use is Use.ALONE or database.serves_alone:
            raise StartRefusedError(told) from None
        # a server that does not answer now may in a minute: whoever starts us again should (exit code 1)
        raise StoreUnavailableError(told) from None
    if database.serves_alone and (use in _MAKES or use is Use.ALONE):
        _raise_schema(database)
    else:
        schema.require_current(database)


def _raise_schema(database: Database) -> None:
    """
    Raises:
        StartRefusedError: locked, full, read-only, damaged, or of a newer release.
    """
    try:
        schema.upgrade(database, METADATAS)
    except StoreUnavailableError as error:
        raise StartRefusedError(
            f"{database.name}: {error.message}: check the file, its rights and its disk"
        ) from None


def _require_own_keys(settings: Settings, database: Database) -> None:
    """
    Raises:
        StartRefusedError: the database was served with the other provider's keys, or with local keys that are
            not there any more; or its keys were moved only in part.
    """
    with database.read() as connection:
        served = has_log(connection)
        places = _key_places(connection, settings.origin) if served else frozenset()
    if len(places) > 1:
        raise StartRefusedError(
            f"the keys of this database were moved to transit only in part: run `{MIGRATE_COMMAND}` again"
        )
    for place in places - {settings.keys}:
        raise StartRefusedError(
            f"the keys of this database are at {place}, and DATAVAULT_KEYS is {settings.keys}: "
            f"set DATAVAULT_KEYS={place}{_MOVE if place == LocalKeyProvider.name else ''}"
        )
    path = settings.home / KEY_FILE
    if settings.keys == LocalKeyProvider.name and served and not path.exists():
        raise StartRefusedError(
            f"{path} is missing, and {database.name} can be read with its keys only: "
            f"restore {KEY_FILE} from its backup"
        )


def _key_places(connection: Connection, origin: str) -> frozenset[str]:
    """The providers of the logs' keys and of the tenants' keys: what a move takes first, and last."""
    marks = KeyRowRepository().count(connection, [KeyTable.TENANT])
    places = {wrapping_provider(each.mark) for each in marks}
    for log in heads_of(connection, origin):
        places |= {key.provider for key in next_signers(connection, log.log, log.size)}
    return frozenset(places - {""})


def ensure_keys(
    settings: Settings, provider: "LocalKeyProvider | TransitKeyProvider", classes: Collection[str]
) -> frozenset[str]:
    """See that the keys of these key classes are there; in development those that are not are made.

    Returns:
        The classes that this replica does not serve, because its token may not use their keys.

    Raises:
        ConfigurationError: as `require_keys`. KeysUnavailableError.
    """
    if settings.environment == "development":
        provider.ensure_keys(classes)
    return require_keys(provider, classes)


def warm_tenants(tenant_keys: TenantKeys, bundle: Bundle) -> None:
    """Make or fetch the keys of every tenant of a bundle, so that no call waits for the key provider.

    Raises:
        KeysUnavailableError, StoreUnavailableError, IntegrityError.
    """
    for tenant in sorted(tenants_of(bundle)):
        tenant_keys.warm(tenant)


def log_signers(rooms: Rooms) -> ProviderLogSigners:
    """Sign checkpoints."""
    return ProviderLogSigners(rooms.provider)


def log_opener(rooms: Rooms, signers: ProviderLogSigners) -> LogOpener:
    """Opens the logs of this database."""
    settings = rooms.settings
    return LogOpener(
        rooms.database,
        settings.origin,
        settings.logs == "tenant",
        rooms.outside,
        signers,
        rooms.clock,
        rooms.randomness,
    )


def tenants_of(bundle: Bundle) -> frozenset[str]:
    """The tenants of a bundle's callers."""
    return frozenset(caller.tenant for caller in bundle.callers.values())


def known_tenants(rooms: Rooms) -> frozenset[str]:
    """The tenants of the live bundle, and those that the database had data of before.

    Raises:
        StoreUnavailableError.
    """
    with rooms.database.read() as connection:
        return tenants_of(rooms.policy.current.bundle) | tenants_with_keys(connection)


def open_logs(rooms: Rooms, signers: ProviderLogSigners) -> LogBook:
    """Every log that these rooms need, checked against the outside store.

    Raises: as `LogOpener.open`.
    """
    return log_opener(rooms, signers).open(known_tenants(rooms))


def build_pipelines(rooms: Rooms, logs: LogBook, signers: ProviderLogSigners) -> Pipelines:
    """Wire the pipelines over open logs."""
    clock, randomness, database, policy = rooms.clock, rooms.randomness, rooms.database, rooms.policy
    tenant_keys = TenantKeys(rooms.provider, SqlTenantKeyRepository(database), randomness)
    warm_tenants(tenant_keys, policy.current.bundle)
    keyring = Keyring(
        rooms.provider, clock, randomness, rooms.settings.dek_cache_seconds, LIMITS.dek_cache_entries
    )
    integrator = Integration(database, signers, clock, rooms.outside)
    recorder = Recorder(
        database,
        logs,
        clock,
        randomness,
        lambda: policy.current.bundle.hash,
        integrator.notify,
    )
    subjects, consents, requests = SubjectRepository(), SqlConsentRepository(), RequestRepository()
    erasures = ErasureRepository()
    replays = Replays(requests, clock)
    enrolment = Enrolment(tenant_keys, subjects, clock, randomness)
    log_rotation = LogKeyRotation(
        rooms.provider,
        LogKeyAnnouncer(database, recorder, signers, clock),
        policy,
        recorder,
    )
    return Pipelines(
        disclosure=DisclosurePipeline(
            database,
            SubjectReader(sharded=rooms.settings.database_sharded),
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
            subjects,
            consents,
            Ledger(consents, clock, randomness),
            replays,
            enrolment,
            policy,
            recorder,
            clock,
        ),
        erasure=ErasurePipeline(
            database,
            consents,
            Shredder(consents, erasures, randomness),
            replays,
            enrolment,
            keyring,
            ReceiptSigner(rooms.provider),
            policy,
            recorder,
            clock,
            database.scrub,
        ),
        retention=RetentionPipeline(subjects, erasures, replays, enrolment, policy, recorder, clock),
        evidence=EvidencePipeline(database, erasures, keyring, policy, recorder, clock),
        sweep=RetentionSweep(database, subjects, consents, erasures, keyring, policy, recorder, clock),
        views=ConsentViews(database, consents, enrolment, policy, recorder, clock),
        operations=OperationsPipeline(
            database,
            subjects,
            tenant_keys,
            policy,
            recorder,
            signers,
        ),
        keyring=keyring,
        tenant_keys=tenant_keys,
        recorder=recorder,
        integrator=integrator,
        log_rotation=log_rotation,
        keys=KeyPipelines.wire(
            database,
            rooms.provider,
            subjects,
            replays,
            enrolment,
            keyring,
            log_rotation,
            LookupRotation(
                database,
                LookupIndex(),
                LookupIndexing(database, LookupIndex(), subjects, clock, randomness),
                tenant_keys,
                policy,
                recorder,
                clock,
            ),
            policy,
            recorder,
            clock,
            randomness,
        ),
    )


def authority(settings: Settings, clock: Clock, randomness: Randomness) -> Authority:
    """The embedded CA of this home."""
    return Authority.open(settings.home / CA_FOLDER, clock, randomness)
