"""Which files a policies folder has, reading them, and the hash that names a bundle."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from vault.policy.notices import NOTICE_PATH
from vault.policy.problems import START, FolderError, Problems, suggest

REQUIRED: Final = ("model.conf", "policy.csv", "purposes.yaml", "attributes.yaml", "callers.yaml")
JUSTIFICATIONS: Final = "justifications.yaml"
TEST_PATH: Final = re.compile(r"tests/[a-z0-9][a-z0-9_-]*\.yaml")
TOTAL_BYTES: Final = 3_584 * 1024
"""Paths and contents together. With what the protocol adds to each of the most files, GetBundle's answer
stays within the message limit: every bundle that serves can be looked at."""
FILES: Final = 4_000
_FOLDER_DEPTH: Final = 4
_MOUNTED: Final = "..data"
"""Kubernetes mounts a ConfigMap as links into this one, which it replaces when the ConfigMap changes."""
_TOO_LARGE: Final = f"more than {FILES} files or {TOTAL_BYTES} bytes in all"


def read_folder(folder: Path) -> dict[str, bytes]:
    """All files below `folder` by their path with `/`; of a mounted ConfigMap, those of one version of it.

    Raises:
        FolderError: not a folder, or unreadable.
        PolicyError: a symbolic link or special file, too large, too many.
    """
    problems = Problems()
    files: dict[str, bytes] = {}
    total = 0
    try:
        for path, entry in _walk(_content(folder), "", 0):
            fault = _fault(entry)
            if fault:
                problems.add(path, START, fault)
                continue
            files[path] = _read(entry.path)
            total += len(path) + len(files[path])
            if total > TOTAL_BYTES or len(files) > FILES:
                problems.add(path, START, _TOO_LARGE)
                break
    except OSError as error:
        raise _unreadable(folder, error) from None
    problems.raise_any()
    return files


def check_files(files: Mapping[str, bytes], problems: Problems) -> None:
    """Every file is one that policies have, none is missing, all together are not too large."""
    known = (*REQUIRED, JUSTIFICATIONS)
    for path in files:
        if path not in known and not NOTICE_PATH.fullmatch(path) and not TEST_PATH.fullmatch(path):
            problems.add(
                _shown(path), START, "unknown file: policies have no such file", suggest(path, known)
            )
    for path in REQUIRED:
        if path not in files:
            problems.add(path, START, "the file is missing")
    total = sum(len(path) + len(content) for path, content in files.items())
    if total > TOTAL_BYTES or len(files) > FILES:
        problems.add(".", START, _TOO_LARGE)


def bundle_hash(files: Mapping[str, bytes]) -> str:
    """Hex SHA-256 over the sorted lines `<sha256>  <path>\\n` of all files but tests/ (policy.md)."""
    lines = sorted(
        f"{hashlib.sha256(content).hexdigest()}  {path}\n"
        for path, content in files.items()
        if not path.startswith("tests/")
    )
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def _unreadable(folder: Path, error: OSError) -> FolderError:
    if not folder.is_dir():
        return FolderError(folder, "no such folder; set DATAVAULT_POLICIES")
    return FolderError(folder, f"cannot read the policies folder: {error.strerror or 'unreadable'}")


def _content(folder: Path) -> Path:
    """Where the files themselves are. The link of a mount is followed once, so that no file of another
    version comes among them, and nowhere but to the folder beside it."""
    link = folder / _MOUNTED
    if not link.is_symlink():
        return folder
    version = link.readlink()
    inside = version.name == str(version) and not (folder / version).is_symlink()
    return folder / version if inside else folder


def _walk(folder: Path | str, prefix: str, depth: int) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False) and depth < _FOLDER_DEPTH:
                yield from _walk(entry.path, path + "/", depth + 1)
            else:
                yield _shown(path), entry


def _fault(entry: "os.DirEntry[str]") -> str:
    if entry.is_symlink():
        return "symbolic links are not followed: put the file itself here"
    status = entry.stat(follow_symlinks=False)
    return "" if stat.S_ISREG(status.st_mode) else "not a regular file"


def _read(path: str) -> bytes:
    """The content, bounded, and never through a link put there since it was looked at."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        return file.read(TOTAL_BYTES + 1)


def _shown(path: str) -> str:
    """A file name as it can be printed: surrogates and control characters escaped."""
    return path.encode("ascii", "backslashreplace").decode("ascii") if not path.isprintable() else path
