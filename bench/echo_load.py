"""Whether the load generator is a bottleneck: the cores that it keeps busy against an echo, and those that
the echo does, in the same runs.

The generator is one thread. While it stays well under one core, and under what the echo takes, the echo is
what limits the echo's rate; the service, which does more per call, it limits even less.
"""

import time
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure
from bench.reads import Say, Target, against_echo, service

CLIENTS: Final = 32
GOAL: Final = 0.5


def echo_load(folder: Path, rounds: int, requests: int, say: Say) -> list[Figure]:
    """`load-generator`."""
    with service(folder / "home", "--customers", "8") as server, against_echo(server) as (_, echo):
        echo.load(CLIENTS, requests // 4)
        shares = []
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            shares.append(_cores(echo, requests))
    return [figure("load-generator", "cores", [one[0] for one in shares], [one[1] for one in shares], GOAL)]


def _cores(echo: Target, requests: int) -> tuple[float, float]:
    """What the generator and the echo kept busy during one run."""
    began, before = time.perf_counter(), echo.server.cpu_seconds()
    load = echo.load(CLIENTS, requests)
    wall = time.perf_counter() - began
    return load.cpu_seconds / wall, (echo.server.cpu_seconds() - before) / wall
