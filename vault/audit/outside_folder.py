"""The outside store as a folder."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

from vault.audit.outside import ANOTHER_ENTRY, entry_number, is_entry, path_segments
from vault.domain.errors import IntegrityError, StoreUnavailableError
from vault.domain.files import sync_folder


class FolderStore:
    """An outside store in a folder, best on another disk or a network share."""

    def __init__(self, folder: str | Path) -> None:
        self._folder: Final = Path(folder)

    def put(self, path: str, content: bytes) -> None:
        target = self._target(path)
        try:
            if not target.exists():
                self._write(target, content)
            same = target.read_bytes() == content
        except OSError:
            raise StoreUnavailableError("the outside store cannot be written") from None
        if not same:
            raise IntegrityError(ANOTHER_ENTRY)

    def get(self, path: str) -> bytes | None:
        try:
            return self._target(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            raise StoreUnavailableError("the outside store cannot be read") from None

    def entries(self, folder: str, first: int = 0) -> list[str]:
        names = [name for name in self._names(folder) if entry_number(name) >= first]
        return [f"{folder}/{name}" for name in sorted(names)]

    def last(self, folder: str) -> str | None:
        name = max(self._names(folder), default=None)
        return None if name is None else f"{folder}/{name}"

    def _names(self, folder: str) -> list[str]:
        try:
            return [name for name in os.listdir(self._target(folder)) if is_entry(name)]
        except FileNotFoundError:
            return []
        except OSError:
            raise StoreUnavailableError("the outside store cannot be read") from None

    def _target(self, path: str) -> Path:
        return self._folder.joinpath(*path_segments(path))

    def _write(self, target: Path, content: bytes) -> None:
        """Write whole and durable under another name, then link: a half-written entry is never seen."""
        self._make_folder(target.parent)
        handle, temporary = tempfile.mkstemp(prefix=".", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # another writer may have been first: `put` compares what it left
            with contextlib.suppress(FileExistsError):
                os.link(temporary, target)
        finally:
            os.unlink(temporary)
        sync_folder(target.parent)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self._folder:
            self._make_folder(folder.parent)
        folder.mkdir(parents=folder == self._folder, exist_ok=True)
        sync_folder(folder.parent)
