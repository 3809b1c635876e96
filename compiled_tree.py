"""build/compiled: a copy of this checkout whose read path is compiled, for tests and benchmarks.

    python compiled_tree.py                         make it, or renew it where a file changed
    python compiled_tree.py BUILD -m bench decide   run Python in a build: compiled, python (here), or auto
    python compiled_tree.py lacking                 say what is missing for it here, if anything is

The copy is whole, because tests and benchmarks find the repository by where they stand themselves. Only
bench/results is that of the checkout. PYTHONPATH leads every process to it, whatever its folder: it goes
before the editable install, whose finder comes last on `sys.meta_path` (docs/adr/0027).
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import setup

ROOT: Final = Path(__file__).resolve().parent
TREE: Final = ROOT / "build" / "compiled"
_STAMP: Final = TREE / "build" / "made-of"
_RESULTS: Final = Path("bench") / "results"
_NOT_COPIED: Final = frozenset({"build", "dist", "__pycache__"})
_KEPT: Final = frozenset({"build", ".mypy_cache", ".hypothesis"})
"""In the tree, from one time to the next: what the compiler and the tests need not do again."""
_BUILT: Final = "from vault.build import BUILD; print(BUILD)"
_BUILDS: Final = ("auto", "python", "compiled")


def main(arguments: Sequence[str]) -> int:
    """Make the tree, and run Python in it where arguments say what; returns the exit code."""
    if not arguments:
        make()
        say(f"compiled: {TREE.relative_to(ROOT)}")
        return 0
    build, *command = arguments
    if build == "lacking":
        say(setup.lacking())
        return 0
    if build not in _BUILDS or not command:
        say(__doc__ or "")
        return 2
    missing = setup.lacking() if build == "auto" else ""
    if build == "python" or missing:
        say("the Python build" + (f", since {missing}" if missing else ""))
        return subprocess.call([sys.executable, *command], cwd=ROOT)
    make()
    say(f"the compiled build, in {TREE.relative_to(ROOT)}")
    return subprocess.call([sys.executable, *command], cwd=TREE, env=_environment())


def make() -> None:
    """Make the tree, unless it is made of these very sources.

    Raises:
        SystemExit: it cannot be made here; one line says why.
    """
    missing = setup.lacking()
    if missing:
        sys.exit(f"not compiled: {missing}")
    made_of = _fingerprint()
    if _STAMP.exists() and _STAMP.read_text("ascii") == made_of:
        return
    say("compiling the read path, about a minute ...")
    # what is begun and not finished is no tree of any sources
    _STAMP.unlink(missing_ok=True)
    _copy()
    _compile()
    _STAMP.write_text(made_of, "ascii")


def say(line: str) -> None:
    """To standard output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(TREE)}


def _fingerprint() -> str:
    """Of all that is copied, and of what compiles it."""
    from mypy.version import __version__ as mypy

    hashed = hashlib.sha256(f"{sys.version}\0{mypy}\0{os.environ.get('CC', '')}".encode())
    for path in _sources(ROOT):
        hashed.update(f"\0{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()


def _sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if not _is_copied(path):
            continue
        if path.is_dir():
            yield from _sources(path)
        else:
            yield path


def _is_copied(path: Path) -> bool:
    hidden = path.parent == ROOT and path.name.startswith(".") and path.name != ".ci"
    made = path.name in _NOT_COPIED or path.name.endswith(".egg-info")
    return not (hidden or made or path == ROOT / _RESULTS)


def _copy() -> None:
    """Everything anew: a module that is gone leaves neither source nor library behind."""
    TREE.mkdir(parents=True, exist_ok=True)
    for old in TREE.iterdir():
        if old.name in _KEPT:
            continue
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()
    for source in _sources(ROOT):
        target = TREE / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    (TREE / _RESULTS).symlink_to(ROOT / _RESULTS)


def _compile() -> None:
    """
    Raises:
        SystemExit: the compiler failed, or a process that is told to use the tree does not.
    """
    made = _run(["setup.py", "--quiet", "build_ext", "--inplace"], TREE, {"DATAVAULT_COMPILE": "1"})
    if made.returncode:
        sys.exit(f"not compiled:\n{made.stdout}{made.stderr}")
    # from another folder, as the processes that tests and benchmarks start
    used = _run(["-c", _BUILT], ROOT.parent, {})
    if used.stdout.strip() != "compiled":
        sys.exit(f"processes do not use {TREE.relative_to(ROOT)}:\n{used.stdout}{used.stderr}")


def _run(arguments: Sequence[str], folder: Path, more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=_environment() | more,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
