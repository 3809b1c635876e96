"""Results as files: the last run (latest.json, quick.json), and one kept run per release (VERSION.json).

{"machine": {...}, "figures": [{"id", "unit", "value", "baseline", "ratio", "goal", "met", "p50_ms", ...}]}
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import vault
from bench.figures import RESULTS, Figure, machine

FOLDER: Final = RESULTS.parent
LATEST: Final = RESULTS.stem
QUICK: Final = "quick"
_VERSION: Final = re.compile(r"\d+(\.\d+)*")


@dataclass(frozen=True, slots=True)
class Results:
    """One file: where it stands, what it was measured on, and the figures."""

    path: Path
    machine: dict[str, Any]
    figures: tuple[Figure, ...]


def write(name: str, figures: Sequence[Figure], folder: Path = FOLDER, *, some: bool = False) -> Path:
    """Write them to the file. With `some`, which were measured alone, the others keep what stands there of
    them, where it is of the same machine."""
    kept = {one.key: one for one in figures}
    before = read(name, folder) if some else None
    if before is not None and before.machine == machine():
        kept = {one.key: one for one in before.figures} | kept
    folder.mkdir(exist_ok=True)
    document = {"machine": machine(), "figures": [asdict(one) for one in kept.values()]}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return path


def read(name: str, folder: Path = FOLDER) -> Results | None:
    """The results of this name, None where there are none."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    document = json.loads(path.read_text("utf-8"))
    known = {one.name for one in fields(Figure)}
    figures = [
        Figure(**{name: value for name, value in row.items() if name in known}) for row in document["figures"]
    ]
    return Results(path, document["machine"], tuple(figures))


def kept(folder: Path = FOLDER) -> Results | None:
    """The kept run of the newest release, None where none was kept."""
    versions = [path.stem for path in folder.glob("*.json") if _VERSION.fullmatch(path.stem)]
    newest = max(versions, key=lambda version: tuple(map(int, version.split("."))), default=None)
    return None if newest is None else read(newest, folder)


def keep(folder: Path = FOLDER) -> Path:
    """Keep the last run as that of this release.

    Raises:
        SystemExit: there is none.
    """
    last = read(LATEST, folder)
    if last is None:
        raise SystemExit("there is no run to keep: make bench")
    target = folder / f"{vault.__version__}.json"
    target.write_bytes(last.path.read_bytes())
    return target


def shown(path: Path) -> str:
    """A path as people see it from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
