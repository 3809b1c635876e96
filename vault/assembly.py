"""Wires everything: the only module that knows all rooms (architecture.md, "Layers")."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog

from vault.audit.append import Appender
from vault.audit.checkpoint import vkey
from vault.audit.integrator import Integrator
from vault.audit.origins import OpenLog, has_log
from vault.audit.outside import FolderStore
from vault.audit.tables import metadata as audit_metadata
from vault.config import Settings
from vault.consent.ledger import Ledger
from vault.crypto.keyring import Keyring
from vault.crypto.local import LocalKeyProvider
from vault.crypto.names import LOG
from vault.crypto.signer import KeySigner
from vault.crypto.tenant_keys import TenantKeys
from vault.crypto.transit import TransitKeyProvider
from vault.crypto.transit_settings import TransitSettings
from vault.disclosure import DisclosurePipeline
from vault.domain.errors import ConfigurationError, StartRefusedError, StoreUnavailableError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, Randomness
from vault.domain.system import SystemClock, SystemRandomness
from vault.enrolment import Enrolment
from vault.identity.authority import Authority
from vault.identity.jwt import JwtIssuer
from vault.intake import IntakePipeline
from vault.operations import OperationsPipeline
from vault.policy.bundle import Bundle
from vault.policy.live import LivePolicy
from vault.recording import Recorder
from vault.replay import Replays
from vault.rights import RightsPipeline
from vault.server.convert import ResponseWriter
from vault.showing import ConsentViews
from vault.store import schema
from vault.store.consents import SqlConsentRepository
from vault.store.database import Database
from vault.store.quotas import QuotaRepository
from vault.store.reader import SubjectReader
from vault.store.requests import RequestRepository
from vault.store.subjects import SubjectRepository
from vault.store.tables import metadata as store_metadata
from vault.store.tenant_keys import SqlTenantKeyRepository

log = structlog.get_logger("datavault.assembly")

METADATAS: Final = (store_metadata, audit_metadata)
"""Every room's tables, for alembic."""
CA_FOLDER: Final = "ca"
TLS_FOLDER: Final = "tls"
KEY_FILE: Final = "keys.json"


@dataclass(frozen=True, slots=True)
class Rooms:
    """What both the server and the commands that look directly into a home need."""

    settings: Settings
    clock: Clock
    randomness: Randomness
    policy: LivePolicy
    database: Database
    provider: LocalKeyProvider | TransitKeyProvider

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
    views: ConsentViews
    operations: OperationsPipeline
    keyring: Keyring
    tenant_keys: TenantKeys
    recorder: Recorder
    integrator: Integrator


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
    settings: Settings, clock: Clock, randomness: Randomness, *, create: bool = False
) -> LocalKeyProvider | TransitKeyProvider:
    """The key provider that the settings name. `create` makes the local keys where there are none.

    Raises:
        ConfigurationError: a setting is missing, there are no local keys, or they are to serve production.
    """
    if settings.keys == "local":
        return LocalKeyProvider(
            settings.home / KEY_FILE,
            environment=settings.environment,
            randomness=randomness,
            create=create,
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


def jwt_issuers(settings: Settings) -> list[JwtIssuer]:
    """The issuers of tokens that the settings trust.

    Raises:
        ConfigurationError: one of them is wrong.
    """
    return [
        JwtIssuer(issuer.issuer, issuer.audience, issuer.jwks, issuer.algorithms)
        for issuer in settings.jwt_issuers
    ]


@contextlib.contextmanager
def open_rooms(settings: Settings, *, exclusive: bool, new_keys: bool = True) -> Iterator[Rooms]:
    """Policies, database and keys. `exclusive` claims the database for this process and raises its schema;
    then, with `new_keys`, the local keys are made where there is neither a key file nor a log yet.

    Raises:
        ConfigurationError: a setting, policy file or key file is wrong. StartRefusedError: another server
        uses the database, it cannot be used, its schema is not this release's, or its local keys are missing.
        KeysUnavailableError.
    """
    make_home(settings)
    clock, randomness = SystemClock(), SystemRandomness()
    policy = LivePolicy(clock)
    policy.load(settings.policies, settings.policy_engine)
    database = Database(settings.database)
    try:
        if exclusive:
            database.lock_exclusively()
            _raise_schema(database)
        else:
            schema.require_current(database)
        _require_own_keys(settings, database)
        provider = key_provider(settings, clock, randomness, create=exclusive and new_keys)
        ensure_keys(settings, provider, policy.current.bundle.key_classes)
        yield Rooms(settings, clock, randomness, policy, database, provider)
    finally:
        database.close()


def _raise_schema(database: Database) -> None:
    """
    Raises:
        StartRefusedError: locked, full, read-only, damaged, or of a newer release.
    """
    try:
        schema.upgrade(database, METADATAS)
    except StoreUnavailableError as error:
        raise StartRefusedError(
            f"{database.path}: {error.message}: check the file, its rights and its disk"
        ) from None


def _require_own_keys(settings: Settings, database: Database) -> None:
    """
    Raises:
        StartRefusedError: the database was served, with local keys that are not there any more.
    """
    path = settings.home / KEY_FILE
    if settings.keys != "local" or path.exists():
        return
    with database.read() as connection:
        served = has_log(connection)
    if served:
        raise StartRefusedError(
            f"{path} is missing, and {database.path} can be read with its keys only: "
            f"restore {KEY_FILE} from its backup"
        )


def ensure_keys(
    settings: Settings, provider: LocalKeyProvider | TransitKeyProvider, classes: Iterable[str]
) -> None:
    """Make the keys of these key classes that are not there; in production the operator does.

    Raises:
        ConfigurationError, KeysUnavailableError.
    """
    if settings.environment == "development":
        provider.ensure_keys(classes)


def warm_tenants(tenant_keys: TenantKeys, bundle: Bundle) -> None:
    """Make or fetch the keys of every tenant of a bundle, so that no call waits for the key provider.

    Raises:
        KeysUnavailableError, StoreUnavailableError, IntegrityError.
    """
    for tenant in sorted({caller.tenant for caller in bundle.callers.values()}):
        tenant_keys.warm(tenant)


def log_signer(rooms: Rooms) -> KeySigner:
    """Signs checkpoints."""
    return KeySigner(rooms.provider, LOG)


def build_pipelines(rooms: Rooms, opened: OpenLog, signer: KeySigner) -> Pipelines:
    """Wire the pipelines over an open log."""
    clock, randomness, database, policy = rooms.clock, rooms.randomness, rooms.database, rooms.policy
    tenant_keys = TenantKeys(rooms.provider, SqlTenantKeyRepository(database), randomness)
    warm_tenants(tenant_keys, policy.current.bundle)
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
        views=ConsentViews(database, subjects, consents, enrolment, policy, recorder, clock),
        operations=OperationsPipeline(
            database,
            subjects,
            tenant_keys,
            policy,
            recorder,
            vkey(opened.origin, signer.public_key()),
        ),
        keyring=keyring,
        tenant_keys=tenant_keys,
        recorder=recorder,
        integrator=integrator,
    )


def authority(settings: Settings, clock: Clock, randomness: Randomness) -> Authority:
    """The embedded CA of this home."""
    return Authority.open(settings.home / CA_FOLDER, clock, randomness)
