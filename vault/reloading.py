"""Other policies take the place of those in force while the service runs (SIGHUP).

    1 prepare   read the folder and check it in every way
    2 keep      in the database: a record never names a bundle that is not there
    3 keys      those of new key classes and new tenants, so that no call has to wait for them
    4 adopt     from here on it decides

A failure in any step is logged and leaves the last good bundle in force.
"""

import asyncio

import orjson
import structlog

from vault.assembly import Rooms, ensure_keys, warm_tenants
from vault.crypto.tenant_keys import TenantKeys
from vault.domain.errors import DatavaultError
from vault.policy.bundle import Bundle, load_bundle
from vault.policy.live import Loaded
from vault.policy.problems import PolicyError
from vault.store.bundles import BundleRepository

log = structlog.get_logger("datavault.policy")


def keep_bundle(rooms: Rooms, bundle: Bundle) -> None:
    """Keep a bundle in the database: every bundle that ever served is there.

    Raises:
        StoreUnavailableError.
    """
    files = orjson.dumps({path: content.decode() for path, content in sorted(bundle.files.items())})
    with rooms.database.write() as connection:
        BundleRepository().keep(connection, bundle.hash, files, rooms.clock.now())


class PolicyReloader:
    """One reload at a time, in the order they were asked for."""

    def __init__(self, rooms: Rooms, tenant_keys: TenantKeys) -> None:
        self._rooms = rooms
        self._tenant_keys = tenant_keys
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> None:
        """Take the steps. Never raises; the log says how it ended."""
        async with self._one_at_a_time:
            try:
                loaded = await asyncio.to_thread(self._replace)
            except PolicyError as error:
                log.error("policy_refused", problems=len(error.errors), first=str(error.errors[0]))
            except DatavaultError as error:
                log.error("policy_not_loaded", reason=error.reason.value, problem=error.message)
            except Exception as error:
                log.error("policy_not_loaded", kind=type(error).__name__)
            else:
                log.info("policy_loaded", bundle=loaded.bundle.hash)

    def _replace(self) -> Loaded:
        settings, policy = self._rooms.settings, self._rooms.policy
        loaded = policy.prepare(load_bundle(settings.policies), settings.policy_engine)  # 1
        keep_bundle(self._rooms, loaded.bundle)  # 2
        new_classes = loaded.bundle.key_classes.keys() - policy.current.bundle.key_classes.keys()
        if new_classes:  # 3
            ensure_keys(settings, self._rooms.provider, new_classes)
        warm_tenants(self._tenant_keys, loaded.bundle)
        policy.adopt(loaded)  # 4
        return loaded
