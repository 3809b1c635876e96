"""Where a service listens, and the file that says so."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where it listens; '' is off."""

    main: str
    jwt: str
    health: str


def write_ready_file(path: Path, addresses: Addresses, metrics: str) -> None:
    """Write the addresses as JSON, whole or not at all."""
    document = {
        "main": addresses.main,
        "jwt": addresses.jwt,
        "health": addresses.health,
        "metrics": metrics,
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(document, file)
    Path(temporary).replace(path)
