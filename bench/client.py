"""The load generator where h2load is not installed: its own CPU is counted against both sides alike.

    python -m bench.client ADDRESS CLIENTS REQUESTS METHOD [FOLDER]  < request

FOLDER holds ca.pem, client.pem and client.key, for mTLS.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import grpc
import uvloop

from bench.load import BATCH_METHOD


async def main(
    address: str, clients: int, requests: int, method: str, credentials: grpc.ChannelCredentials | None
) -> tuple[float, list[int]]:
    body = sys.stdin.buffer.read()
    latencies: list[int] = []
    left = iter(range(requests))

    async def one() -> None:
        async with _channel(address, credentials) as channel:
            for _ in left:
                began = time.perf_counter_ns()
                if method == BATCH_METHOD:
                    async for _ in channel.stream_stream(method)(iter([body])):
                        pass
                else:
                    await channel.unary_unary(method)(body)
                latencies.append((time.perf_counter_ns() - began) // 1_000)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return time.perf_counter() - began, latencies


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    # a connection of its own for each client
    options = [("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(
        address, credentials, options=[*options, ("grpc.ssl_target_name_override", "localhost")]
    )


def _credentials(folder: Path) -> grpc.ChannelCredentials:
    ca, key, chain = ((folder / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem"))
    return grpc.ssl_channel_credentials(ca, key, chain)


if __name__ == "__main__":
    address, clients, requests, method, *folder = sys.argv[1:]
    found = main(
        address, int(clients), int(requests), method, _credentials(Path(folder[0])) if folder else None
    )
    print(json.dumps(uvloop.run(found)))
