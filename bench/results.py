"""Results as files: the last run (latest.json, quick.json), and the kept runs of each release, one per build:
VERSION.json of Python, VERSION-compiled.json.

{"machine": {...}, "figures": [{"id", "unit", "value", "baseline", "ratio", "goal", "met", "p50_ms", ...}]}
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import vault
from bench.figures import RESULTS, Figure, build_of, machine

FOLDER: Final = RESULTS.parent
LATEST: Final = RESULTS.stem
QUICK: Final = "quick"
_PYTHON: Final = "python"
_KEPT: Final = re.compile(r"(?P<version>\d+(\.\d+)*)(-(?P<build>[a-z]+))?")


@dataclass(frozen=True, slots=True)
class Results:
    """One file: where it stands, what it was measured on, and the figures."""

    path: Path
    machine: dict[str, Any]
    figures: tuple[Figure, ...]

    @property
    def build(self) -> str:
        """What was measured."""
        return build_of(self.machine)


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


def kept(build: str, folder: Path = FOLDER) -> Results | None:
    """The kept run of this build of the newest release that has one, None where none was kept."""
    found = [match for path in folder.glob("*.json") if (match := _KEPT.fullmatch(path.stem))]
    versions = [match["version"] for match in found if (match["build"] or _PYTHON) == build]
    newest = max(versions, key=lambda version: tuple(map(int, version.split("."))), default=None)
    return None if newest is None else read(_kept_as(newest, build), folder)


def keep(folder: Path = FOLDER) -> Path:
    """Keep the last run as that of this release and of its build.

    Raises:
        SystemExit: there is none.
    """
    last = read(LATEST, folder)
    if last is None:
        raise SystemExit("there is no run to keep: make bench")
    target = folder / f"{_kept_as(vault.__version__, last.build)}.json"
    target.write_bytes(last.path.read_bytes())
    return target


def _kept_as(version: str, build: str) -> str:
    return version if build == _PYTHON else f"{version}-{build}"


def shown(path: Path) -> str:
    """A path as people see it from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
