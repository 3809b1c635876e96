"""`make chaos`: CHAOS_SECONDS of faults (600), from CHAOS_SEED (drawn where none is given)."""

import logging
import os
import secrets
import sys

import structlog

from tests.chaos.run import on_a_terminal, run


def main() -> int:
    """Run, tell, and give the exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    seconds = float(os.environ.get("CHAOS_SECONDS") or 600)
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
    print(f"chaos for {seconds:g} s, seed {seed}", flush=True)  # noqa: T201
    done = run(seconds, seed, on_a_terminal)
    on_a_terminal("")
    print(done.table())  # noqa: T201
    print(done.verdict)  # noqa: T201
    if done.folder is not None:
        print(f"histories and logs: {done.folder}\nagain: {done.again()}")  # noqa: T201
    return 0 if done.good else 1


if __name__ == "__main__":
    sys.exit(main())
