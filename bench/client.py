"""The load generator where h2load is not installed: its own CPU is counted against both sides alike."""

import asyncio
import json
import sys
import time

import grpc
import uvloop

from bench.load import METHOD


async def main(port: int, clients: int, requests: int, body: bytes) -> tuple[float, list[int]]:
    latencies: list[int] = []
    left = iter(range(requests))

    async def one() -> None:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = channel.unary_unary(METHOD)
            for _ in left:
                began = time.perf_counter_ns()
                await call(body)
                latencies.append((time.perf_counter_ns() - began) // 1_000)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return time.perf_counter() - began, latencies


if __name__ == "__main__":
    port, clients, requests = map(int, sys.argv[1:4])
    print(json.dumps(uvloop.run(main(port, clients, requests, sys.stdin.buffer.read()))))
