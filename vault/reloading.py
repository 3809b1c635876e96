"""Other policies take the place of those in force while the service runs (SIGHUP).

    1 prepare   read the folder and check it in every way
    2 keep      in the database: a record never names a bundle that is not there
    3 open      keys of new key classes and new tenants, so that no call has to wait for them; the logs of new
                tenants, where each has its own
    4 adopt     from here on it decides

A failure in any step is logged and leaves the last good bundle in force. Where several workers serve, one
takes steps 1 to 3 from the folder, the others take 1 and 3 from what it kept, and step 4 comes for all
together (workers/reload.py).
"""

import asyncio
from dataclasses import dataclass

import structlog

from vault.assembly import Pipelines, Rooms, ensure_keys, log_opener, log_signers, tenants_of, warm_tenants
from vault.bundles import keep_bundle, kept_bundle
from vault.domain.errors import DatavaultError
from vault.keys.classes import refuse_forgotten
from vault.policy.bundle import Bundle, load_bundle
from vault.policy.live import Loaded
from vault.policy.problems import PolicyError

log = structlog.get_logger("datavault.policy")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a bundle was not taken: the event of the log line and its fields."""

    event: str
    fields: dict[str, str | int]


def refusal_of(error: Exception) -> Refusal:
    """What the log says of an error in steps 1 to 3."""
    if isinstance(error, PolicyError):
        return Refusal("policy_refused", {"problems": len(error.errors), "first": str(error.errors[0])})
    if isinstance(error, DatavaultError):
        return Refusal("policy_not_loaded", {"reason": error.reason.value, "problem": error.message})
    return Refusal("policy_not_loaded", {"kind": type(error).__name__})


class PolicyReloader:
    """One reload at a time, in the order they were asked for."""

    def __init__(self, rooms: Rooms, pipelines: Pipelines) -> None:
        self._rooms = rooms
        self._tenant_keys = pipelines.tenant_keys
        self._logs = pipelines.recorder.logs
        self._opener = log_opener(rooms, log_signers(rooms))
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> None:
        """Take the steps. Never raises; the log says how it ended."""
        async with self._one_at_a_time:
            try:
                loaded = await asyncio.to_thread(self.prepare)
                self.adopt(loaded)
            except Exception as error:
                refusal = refusal_of(error)
                log.error(refusal.event, **refusal.fields)
            else:
                log.info("policy_loaded", bundle=loaded.bundle.hash)

    def prepare(self, bundle_hash: str = "") -> Loaded:
        """Steps 1 to 3, for the folder or for a bundle that another worker of this server has kept. Blocks.

        Raises:
            PolicyError: the folder is not good. ConfigurationError, StoreUnavailableError,
            KeysUnavailableError, IntegrityError. StartRefusedError: the outside store knows more of a new
            tenant's log than this database.
        """
        rooms = self._rooms
        settings, policy = rooms.settings, rooms.policy
        bundle = kept_bundle(rooms.database, bundle_hash) if bundle_hash else load_bundle(settings.policies)
        loaded = policy.prepare(bundle, settings.policy_engine, compared=bool(bundle_hash))  # 1
        if not bundle_hash:
            keep_bundle(rooms.database, bundle, rooms.clock.now())  # 2
        self._have_keys(bundle)  # 3
        self._opener.open_more(self._logs, tenants_of(bundle))
        return loaded

    def adopt(self, loaded: Loaded) -> None:
        """Step 4, for what `prepare` gave."""
        self._rooms.policy.adopt(loaded)

    def _have_keys(self, bundle: Bundle) -> None:
        new_classes = bundle.key_classes.keys() - self._rooms.policy.current.bundle.key_classes.keys()
        if new_classes:
            unserved = ensure_keys(self._rooms.settings, self._rooms.provider, bundle.key_classes)
            refuse_forgotten(unserved, new_classes)
        warm_tenants(self._tenant_keys, bundle)
