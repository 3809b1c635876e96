"""The load of bench/service.py, in a process of its own. JSON on stdin, JSON to the file that is named.

`clients` callers that call one call after the other, of whom those that were refused wait as long as they
are told, or half as long again; or `rate` calls a second whatever becomes of them. They come little by little
in `warm_seconds`, and count from then on for `seconds`. With certificates a real client calls beside them and
reads what refusals say.
"""

import asyncio
import contextlib
import json
import math
import random
import ssl
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import uvloop

from bench.http2 import ANSWERED, METHOD, OUTCOMES, Http2Calls
from tests.support.wire import failure_of

_FLOOD_PATIENCE_SECONDS: Final = 1.0
"""The deadline of a flood's calls, for as long as they wait for room on their connection."""
_DRAIN_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.1

Plan = dict[str, Any]


@dataclass
class Seen:
    """Milliseconds of each call that was sent since `since`, by what became of it."""

    since: float
    ended: dict[str, list[float]] = field(default_factory=lambda: {each: [] for each in OUTCOMES})
    warming: int = 0
    """Answers of before."""
    retry_seconds: float = 0.5
    over: bool = False
    looked: int = 0
    """Answers that the real client had."""

    def take(self, outcome: str, nanoseconds: int) -> None:
        if time.monotonic() - nanoseconds / 1e9 >= self.since:
            self.ended[outcome].append(round(nanoseconds / 1e6, 3))
        elif outcome == ANSWERED:
            self.warming += 1


async def connect(plan: Plan, count: int) -> list[Http2Calls]:
    """Connections, over mTLS where the plan has certificates."""
    loop, requests, tls = asyncio.get_running_loop(), [bytes.fromhex(one) for one in plan["requests"]], None
    if plan["certificates"]:
        ca, key, chain = plan["certificates"]
        tls = ssl.create_default_context(cafile=ca)
        tls.load_cert_chain(chain, key)
        tls.set_alpn_protocols(["h2"])
    name = "localhost" if tls else None
    patience = _FLOOD_PATIENCE_SECONDS if plan.get("rate") else math.inf
    made = [
        await loop.create_connection(
            lambda: Http2Calls(requests, patience_seconds=patience),
            "127.0.0.1",
            plan["port"],
            ssl=tls,
            server_hostname=name,
        )
        for _ in range(count)
    ]
    return [protocol for _, protocol in made]


async def closed(connections: list[Http2Calls], plan: Plan, seen: Seen, until: float) -> None:
    """`clients` callers. Who is refused waits as told, or half as long again."""
    loop = asyncio.get_running_loop()

    def caller(connection: Http2Calls) -> None:
        def ended(outcome: str, nanoseconds: int) -> None:
            seen.take(outcome, nanoseconds)
            if time.monotonic() >= until:
                return
            if outcome == ANSWERED:
                connection.call(ended)
            else:
                jitter = random.uniform(1.0, 1.5)  # noqa: S311  no secret
                loop.call_later(seen.retry_seconds * jitter, again, ended)

        def again(ended: Any) -> None:
            if time.monotonic() < until:
                connection.call(ended)

        connection.call(ended)

    each = plan["warm_seconds"] / plan["clients"]
    for number in range(plan["clients"]):
        loop.call_later(number * each, caller, connections[number % len(connections)])
    await asyncio.sleep(until - time.monotonic())


async def opened(connections: list[Http2Calls], plan: Plan, seen: Seen, until: float) -> None:
    """`rate` calls a second; those for which a connection has no room in time expire."""
    rate, warm, sent = plan["rate"], plan["warm_seconds"], 0
    began = until - plan["seconds"] - warm
    while (now := time.monotonic()) < until:
        # the rate grows evenly until it is warm
        passed = now - began
        while sent < rate * (passed - warm / 2 if passed > warm else passed**2 / 2 / (warm or 1.0)):
            connections[sent % len(connections)].call(seen.take)
            sent += 1
        await asyncio.sleep(0.002)


async def look(plan: Plan, files: list[bytes], seen: Seen) -> None:
    """Learn from a real client's refusals when callers are to come again.

    Raises:
        AssertionError: a refusal is not what it has to be.
    """
    target = f"localhost:{plan['port']}"
    async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(*files)) as channel:
        call = channel.unary_unary(METHOD)
        while not seen.over:
            try:
                await call(bytes.fromhex(plan["requests"][0]), timeout=10)
                seen.looked += 1
            except grpc.aio.AioRpcError as error:
                failure = failure_of(error)
                # cancelled: gRPC itself let go of it
                if failure.code is not grpc.StatusCode.CANCELLED:
                    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED, failure
                    assert failure.reason == "OVERLOADED", failure
                    assert failure.retry_seconds, failure
                    seen.retry_seconds = failure.retry_seconds
            await asyncio.sleep(_LOOK_SECONDS)


async def _over(connections: list[Http2Calls]) -> None:
    while sum(each.open_calls for each in connections):  # noqa: ASYNC110  no event for each call of a load
        await asyncio.sleep(0.01)


async def main(plan: Plan, files: list[bytes]) -> dict[str, Any]:
    connections = await connect(plan, plan["connections"])
    began, cpu = time.monotonic(), time.process_time()
    seen = Seen(began + plan["warm_seconds"])
    looking = asyncio.ensure_future(look(plan, files, seen)) if files else None
    drive = opened if plan["rate"] else closed
    await drive(connections, plan, seen, seen.since + plan["seconds"])
    seconds, cpu = time.monotonic() - seen.since, time.process_time() - cpu
    in_time = {outcome: len(calls) / seconds for outcome, calls in seen.ended.items()}
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_over(connections), _DRAIN_SECONDS)
    seen.over = True
    if looking is not None:
        await looking
    broken = sorted({each.broken for each in connections if each.broken})
    left = sum(each.open_calls for each in connections)
    for each in connections:
        each.close()
    return {
        "client_cores": cpu / (time.monotonic() - began), "per_second": in_time,
        "uncounted": seen.looked + seen.warming,
        "milliseconds": {outcome: sorted(calls) for outcome, calls in seen.ended.items()},
        "retry_seconds": seen.retry_seconds, "lost": left, "broken": broken,
    }  # fmt: skip


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    given = json.load(sys.stdin)
    found = uvloop.run(main(given, [_read(path) for path in given["certificates"]]))
    with open(sys.argv[1], "w", encoding="ascii") as file:
        json.dump(found, file)
