"""What every room that writes files needs: a change of a folder that survives a power cut."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder durable; on systems other than POSIX nothing.

    Raises:
        OSError: the folder cannot be opened or synced.
    """
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
