"""One run: load and faults on a cluster, then a verdict. What a failed run leaves behind is kept."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.chaos import aftermath
from tests.chaos.checker import Evidence, Verdict, check
from tests.chaos.cluster import Cluster, cluster_in
from tests.chaos.faults import Fault, Faults
from tests.chaos.history import Answer, History, Kind, Op, save
from tests.chaos.load import Load

_LOOK_SECONDS: Final = 1.0
Report = Callable[[str], None]


@dataclass
class Run:
    """What a run gave. `folder` is where its traces are, None once they are deleted."""

    seed: int
    seconds: float
    verdict: Verdict
    calls: Counter[tuple[Kind, Answer]]
    faults: Counter[Fault]
    starts: int
    refused_starts: int
    records: int
    peak_megabytes: int
    folder: Path | None

    @property
    def good(self) -> bool:
        return not self.verdict.broken

    def again(self) -> str:
        """The command that runs the same faults and questions."""
        return f"make chaos CHAOS_SEED={self.seed} CHAOS_SECONDS={self.seconds:g}"

    def table(self) -> str:
        """Calls by kind and answer, faults by kind."""
        lines = [f"{'':<10}" + "".join(f"{answer:>10}" for answer in Answer)]
        lines += [
            f"{kind:<10}" + "".join(f"{self.calls[kind, answer]:>10}" for answer in Answer) for kind in Kind
        ]
        lines.append(", ".join(f"{count} {fault}" for fault, count in sorted(self.faults.items())))
        lines.append(
            f"{self.starts} starts ({self.refused_starts} refused), {self.records} records,"
            f" largest server {self.peak_megabytes} MB"
        )
        return "\n".join(lines)


def run(seconds: float, seed: int, report: Report = lambda _: None) -> Run:
    """Run the cluster under load and faults for so long, then judge. `report` gets a line of progress now and
    then. The folder of a run that kept every promise is deleted.

    Raises:
        AssertionError: the cluster did not come up, or not again. The message names the folder that is kept.
    """
    folder = Path(tempfile.mkdtemp(prefix="datavault-chaos-"))
    # PostgreSQL runs as another user where root runs this
    os.chmod(folder, 0o755)  # noqa: S103  secrets are in folders of their own
    try:
        done = _run(folder, seconds, seed, report)
    except BaseException as error:
        error.add_note(f"seed {seed}; what is left of it stands in {folder}")
        raise
    if done.good:
        shutil.rmtree(folder)
        done.folder = None
    return done


def _run(folder: Path, seconds: float, seed: int, report: Report) -> Run:
    history = History()
    with cluster_in(folder) as cluster:
        load, faults = Load(cluster, history, seed), Faults(cluster, seed)
        with _kept(folder, history, faults):
            until = time.monotonic() + seconds
            with load.running(), _watching(cluster, load, faults, until, report):
                faults.run(until, threading.Event())
            report("healed; reading every customer on every server")
            aftermath.settle(cluster)
            load.read_all()
            aftermath.settle(cluster)
            load.close()
            problems = [f"a caller broke: {error!r}" for error in load.broken]
            problems += aftermath.connection_problems(cluster)
            for node in cluster.nodes:
                node.close()
            problems += aftermath.left_connections(cluster)
            problems += aftermath.server_problems(cluster.nodes)
            report("checking")
            evidence = _evidence(cluster, history, problems)
            verdict = check(evidence)
            (folder / "verdict.txt").write_text(str(verdict) + "\n", "utf-8")
    return Run(
        seed,
        seconds,
        verdict,
        load.count(),
        faults.count(),
        sum(node.starts for node in cluster.nodes),
        sum(len(node.refused_starts) for node in cluster.nodes),
        len(evidence.log),
        max(node.peak_kilobytes for node in cluster.nodes) // 1024,
        folder,
    )


def _evidence(cluster: Cluster, history: History, problems: list[str]) -> Evidence:
    _, open_bundle = cluster.bundles[True]
    return Evidence(
        history.ops,
        aftermath.log_of(cluster),
        open_bundle,
        list(aftermath.log_problems(cluster)),
        problems,
    )


@contextlib.contextmanager
def _kept(folder: Path, history: History, faults: Faults) -> Iterator[None]:
    """The history and what was done, in files, however the block ends."""
    try:
        yield
    finally:
        save(history.ops, folder / "history.jsonl")
        with (folder / "faults.jsonl").open("w", encoding="utf-8") as file:
            for at, step in faults.done:
                file.write(json.dumps({"at": at, **asdict(step)}) + "\n")


@contextlib.contextmanager
def _watching(cluster: Cluster, load: Load, faults: Faults, until: float, report: Report) -> Iterator[None]:
    """Look at the servers' memory every second inside the block, and tell how it goes."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            for node in cluster.nodes:
                node.watch_memory()
            left, calls, done = max(0.0, until - time.monotonic()), load.count(), len(faults.done)
            report(f"{left:4.0f} s left, {calls.total()} calls, {done} faults, {len(cluster.up)} servers up")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def on_a_terminal(line: str) -> None:
    """Progress in one line that is written over, where somebody watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


__all__ = ["Op", "Run", "on_a_terminal", "run"]
