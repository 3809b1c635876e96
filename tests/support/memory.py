"""Where tests keep their files: in memory, where this machine has room for them.

What tests prove stands against killed processes, never against a machine that loses its power: so fsync need
not reach a disk, and its queue, which others of this machine fill too, is no part of any test. Nothing is
switched off: services and servers do all they do elsewhere.
"""

import os
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a root for folders that are made with names of their own
_ROOM_BYTES: Final = 4 << 30


def temporary_root() -> Path | None:
    """A folder in memory; None, which is the system's own place, where there is none, where programs must not
    run from it, or where containers have but a little of it."""
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return None
    fits = found.f_bavail * found.f_frsize >= _ROOM_BYTES and os.access(_MEMORY, os.W_OK)
    return _MEMORY if fits and not found.f_flag & os.ST_NOEXEC else None
