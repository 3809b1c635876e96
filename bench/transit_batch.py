"""Batch reads with the keys in Transit, against having Transit decrypt the same values itself.

The product's side is the disclosure pipeline on SQLite, five attributes of each customer, durably recorded:
`batch-transit` with the data keys cached, `batch-transit-cold` with every one fetched from Transit. The other
side is what an application does that keeps its values under Transit: batch calls through hvac, 200 a call,
one after the other, without database, policy, consent or record. Counted are attributes per CPU-second, that
of this process and of OpenBao together.
"""

import base64
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import hvac

from bench.batch import disclose_all, integrating
from bench.customers import ATTRIBUTES, customer_number, values_of
from bench.figures import Figure, figure
from bench.growth import House, house
from bench.processes import cpu_seconds
from vault.assembly import Pipelines, build_pipelines, log_signers, open_logs
from vault.crypto.dev_server import DevTransit, start_dev_transit

GOAL: Final = 3.0
BATCH: Final = 200
_KEY: Final = "bench-values"

Say = Callable[[str], None]


def batch_transit(folder: Path, customers: int, rounds: int, say: Say) -> list[Figure]:
    """`batch-transit` and `batch-transit-cold`."""
    server = start_dev_transit(folder / "kms")
    try:
        settings: dict[str, Any] = {
            "keys": "transit",
            "transit_address": server.address,
            "transit_token_file": server.token_file,
            "transit_cacert": server.ca_certificate,
        }
        with house(folder / "home", customers, say=say, **settings) as made, integrating(made.pipelines):
            return _measure(server, made, rounds, say)
    finally:
        server.stop()


def _measure(server: DevTransit, made: House, rounds: int, say: Say) -> list[Figure]:
    numbers = [customer_number(index) for index in range(made.customers)]
    calls = _Calls(server, made.customers)
    cached: list[float] = []
    cold: list[float] = []
    direct: list[float] = []

    def rate(work: Callable[[], int]) -> tuple[float, int]:
        """Attributes per CPU-second, and what the work gives: how many keys it fetched."""
        before = time.process_time() + cpu_seconds(server.process.pid)
        fetched = work()
        used = time.process_time() + cpu_seconds(server.process.pid) - before
        return made.customers * len(ATTRIBUTES) / used, fetched

    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        direct.append(rate(calls.decrypt_all)[0])
        # a keyring of its own, with nothing in it
        signers = log_signers(made.rooms)
        pipelines = build_pipelines(made.rooms, open_logs(made.rooms, signers), signers)
        fetch = partial(_fetched, pipelines, numbers)
        cold.append(rate(fetch)[0])
        warm = rate(fetch)
        while warm[1]:
            # a key had left the cache meanwhile
            warm = rate(fetch)
        cached.append(warm[0])
    unit = "attributes/CPU-s"
    return [
        figure("batch-transit", unit, cached, direct, GOAL),
        figure("batch-transit-cold", unit, cold, direct),
    ]


class _Calls:
    """The same values, each encrypted by Transit, and the calls that decrypt them."""

    def __init__(self, server: DevTransit, customers: int) -> None:
        token = server.token_file.read_text("ascii").strip()
        client = hvac.Client(server.address, token, verify=str(server.ca_certificate))
        self._transit = client.secrets.transit
        self._transit.create_key(_KEY)
        values = [str(value.value) for index in range(customers) for value in values_of(index).values()]
        items = [{"plaintext": base64.b64encode(value.encode()).decode()} for value in values]
        self._batches: list[list[dict[str, str]]] = []
        for start in range(0, len(items), BATCH):
            answer = self._transit.encrypt_data(_KEY, plaintext="", batch_input=items[start : start + BATCH])
            results = answer["data"]["batch_results"]
            self._batches.append([{"ciphertext": one["ciphertext"]} for one in results])

    def decrypt_all(self) -> int:
        """Have all of them decrypted, and decode them; no data key is fetched for it."""
        for batch in self._batches:
            answer = self._transit.decrypt_data(_KEY, ciphertext="", batch_input=batch)
            values = [base64.b64decode(one["plaintext"]) for one in answer["data"]["batch_results"]]
            if len(values) != len(batch):
                raise SystemExit("a batch call was not answered in full")
        return 0


def _fetched(pipelines: Pipelines, numbers: list[str]) -> int:
    return disclose_all(pipelines, numbers)[1]
