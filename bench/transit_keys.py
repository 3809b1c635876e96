"""The key part of a cold batch read: 10,000 data keys fetched by the keyring, against Transit batch calls of
the same wrapped keys through hvac, 200 a call, one call after the other. One run, A B A B, medians.

`transit-keys-at-most` is the same against requests that were made before, over three connections, whose
answers are thrown away: they leave the processors to the KMS, which a client never can.

OpenBao from the wheel, dev mode with TLS, on this machine: it shares the processors with what is measured.
"""

import base64
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import hvac
import requests

from bench.figures import Figure, figure
from vault.crypto.dev_server import DevTransit, start_dev_transit
from vault.crypto.envelope import DataKey, key_context
from vault.crypto.keyring import Keyring
from vault.crypto.names import class_key
from vault.crypto.transit import TransitKeyProvider
from vault.crypto.transit_settings import TransitSettings
from vault.domain.system import SystemClock, SystemRandomness
from vault.domain.types import KeyScope, WrappedKey

KEYS: Final = 10_000
GOAL: Final = 0.50
BATCH: Final = 200
ROUNDS: Final = 9
CONNECTIONS: Final = 3
KEY_CLASS: Final = "behaviour"

Rows = Sequence[tuple[KeyScope, WrappedKey]]


def transit_keys(folder: Path) -> list[Figure]:
    """`transit-keys` and `transit-keys-at-most`."""
    server = start_dev_transit(folder)
    try:
        settings = TransitSettings(
            address=server.address, token_file=server.token_file, ca_certificate=server.ca_certificate
        )
        provider = TransitKeyProvider(settings, SystemClock())
        try:
            provider.ensure_keys([KEY_CLASS])
            return _measure(server, provider)
        finally:
            provider.close()
    finally:
        server.stop()


def _measure(server: DevTransit, provider: TransitKeyProvider) -> list[Figure]:
    clock, randomness = SystemClock(), SystemRandomness()
    scopes = [KeyScope("retail", randomness.token(16), KEY_CLASS) for _ in range(KEYS)]
    made = Keyring(provider, clock, randomness).create(scopes)
    rows = [(scope, wrapped) for scope, (wrapped, _) in zip(scopes, made, strict=True)]
    seconds: list[tuple[float, float, float]] = []
    url = f"{server.address}/v1/transit/decrypt/{class_key(KEY_CLASS)}"
    items = items_of(rows)
    starts = range(0, len(items), BATCH)
    bodies = [json.dumps({"batch_input": items[start : start + BATCH]}).encode() for start in starts]
    client = hvac.Client(server.address, _token(server), verify=str(server.ca_certificate))
    with ThreadPoolExecutor(CONNECTIONS) as pool, contextlib.ExitStack() as opened:
        sessions = [opened.enter_context(_session(server)) for _ in range(CONNECTIONS)]
        bare(pool, sessions, url, bodies[: 2 * CONNECTIONS])
        for _ in range(ROUNDS):
            cold = Keyring(provider, clock, randomness)
            seconds.append(
                (
                    _seconds(lambda: fetched(cold, rows)),  # noqa: B023
                    _seconds(lambda: calls(client, items)),
                    _seconds(lambda: bare(pool, sessions, url, bodies)),
                )
            )
    keyring, one_by_one, at_most = ([KEYS / one for one in each] for each in zip(*seconds, strict=True))
    return [
        figure("transit-keys", "keys/s", keyring, one_by_one, GOAL),
        figure("transit-keys-at-most", "keys/s", keyring, at_most),
    ]


def fetched(keyring: Keyring, rows: Rows) -> None:
    """All keys of the rows, as a cold batch asks for them: a thousand subjects a chunk."""
    for start in range(0, len(rows), 1_000):
        if not all(isinstance(key, DataKey) for key in keyring.unwrap(rows[start : start + 1_000])):
            raise SystemExit("a data key could not be fetched")


def items_of(rows: Rows) -> list[dict[str, str]]:
    """The rows as Transit takes them."""
    return [
        {"ciphertext": row.wrapped.decode(), "context": base64.b64encode(key_context(scope)).decode()}
        for scope, row in rows
    ]


def calls(client: hvac.Client, items: list[dict[str, str]]) -> None:
    """Have them decrypted by hvac, call after call."""
    for start in range(0, len(items), BATCH):
        batch = items[start : start + BATCH]
        answer = client.secrets.transit.decrypt_data(class_key(KEY_CLASS), batch_input=batch, ciphertext="")
        if len(answer["data"]["batch_results"]) != len(batch):
            raise SystemExit("a batch call was not answered in full")


def bare(
    pool: ThreadPoolExecutor, sessions: Sequence[requests.Session], url: str, bodies: list[bytes]
) -> None:
    """Send all of them, each connection its share, and see that each was answered."""

    def send(number: int) -> None:
        for body in bodies[number :: len(sessions)]:
            if not sessions[number].post(url, data=body, timeout=20).ok:
                raise SystemExit("the bare loop was not answered in full")

    list(pool.map(send, range(len(sessions))))


def _session(server: DevTransit) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.verify = str(server.ca_certificate)
    session.headers["X-Vault-Token"] = _token(server)
    return session


def _token(server: DevTransit) -> str:
    return server.token_file.read_text("ascii").strip()


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
