"""What several benchmarks look at: memory of a process, and the files that keep their figures."""

import json
import os
from pathlib import Path
from typing import Any, Final

from bench.figures import build_of, machine
from vault.build import BUILD

MEBIBYTE: Final = 1024 * 1024
RESULTS: Final = Path(__file__).parent / "results"
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def rss_bytes(pid: int | None = None) -> int:
    """Resident memory of a process and its children (proc(5), statm)."""
    own = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    return own + sum(rss_bytes(child) for child in _children(pid)) if pid else own


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(child) for child in text.split()]


def read(name: str) -> dict[str, Any]:
    """What is kept under this name; empty where nothing is."""
    path = RESULTS / f"{name}.json"
    kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return kept


def read_alike(name: str) -> dict[str, Any]:
    """The same, of the build that runs here: parts of two builds make no whole."""
    kept = read(name)
    return kept if build_of(kept.get("machine", {})) == BUILD else {}


def keep(name: str, document: dict[str, Any]) -> Path:
    """Write figures to bench/results/, with what they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**document, "machine": machine()}, indent=2) + "\n", "utf-8")
    return path
