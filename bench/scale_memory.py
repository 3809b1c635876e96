"""Memory of what a process holds per data key and per connection.

A cached data key: as many as the cache takes, in a process of its own (`python -m bench.scale_memory`). A
connection: idle ones over mTLS to a service, each after its handshake.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.load_client import connect
from bench.measuring import MEBIBYTE, rss_bytes
from bench.service import bench_service, drive, target_of
from vault import logs
from vault.crypto.keyring import Keyring
from vault.crypto.local import LocalKeyProvider
from vault.domain.limits import LIMITS
from vault.domain.system import SystemClock, SystemRandomness
from vault.domain.types import KeyScope

CONNECTIONS: Final = 500
_KEY_CLASS: Final = "contact"
_SETTLED_SECONDS: Final = 2.0


def scale_memory(folder: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Bytes of each."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.scale_memory", str(folder / "keys.json")],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout) | _connections(folder / "connections")
    say(f"memory: {found}")
    return found


def _connections(folder: Path) -> dict[str, float]:
    with bench_service(folder, 10) as service:
        target = target_of(service)
        drive(target, seconds=2.0, clients=32)
        pid, plan = service.process.pid, {
            "port": target.port, "certificates": target.certificates, "requests": [],
        }  # fmt: skip
        before = rss_bytes(pid)

        async def hold() -> int:
            opened = await connect(plan, CONNECTIONS)
            await asyncio.sleep(_SETTLED_SECONDS)
            held = rss_bytes(pid)
            for each in opened:
                each.close()
            return held

        held = asyncio.run(hold())
    return {
        "bytes_per_connection": round((held - before) / CONNECTIONS),
        "service_mebibytes": round(before / MEBIBYTE, 1),
    }


def _keys(file: Path) -> dict[str, float]:
    randomness = SystemRandomness()
    provider = LocalKeyProvider(file, environment="development", randomness=randomness, create=True)
    provider.ensure_keys([_KEY_CLASS])
    keyring = Keyring(provider, SystemClock(), randomness, 3_600.0)
    scopes = [KeyScope("retail", randomness.token(16), _KEY_CLASS) for _ in range(LIMITS.dek_cache_entries)]
    made = keyring.create(scopes[:100])
    before = rss_bytes()
    made = keyring.create(scopes[100:])
    cached = keyring.entries
    del made
    return {
        "bytes_per_cached_key": round((rss_bytes() - before) / (len(scopes) - 100)),
        "cached_keys": cached,
    }


if __name__ == "__main__":
    logs.configure(level="ERROR")
    print(json.dumps(_keys(Path(sys.argv[1]))))
