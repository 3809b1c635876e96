"""Where the outside store is: a folder, or a bucket of an object store (consent.md, "Outside store")."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""Two letters at least: `C:` is a drive."""
_BUCKET: Final = re.compile(
    r"(?P<scheme>s3|gs|az)://(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<prefix>(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)/?"
)
_WRONG: Final = (
    "must be a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX without a user, "
    "password, port or query: credentials and endpoint have variables of their own (docs/operations/guide.md)"
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket (`az`: a container), and where in it the entries are: `prefix` may be empty."""

    scheme: str
    name: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}{'/' if self.prefix else ''}{self.prefix}"


def parse_place(place: str) -> Path | Bucket:
    """The folder or bucket that a setting names.

    Raises:
        ValueError: neither; the message says what would be right, and never what was written, which may hold
            a password.
    """
    if not _URL.match(place):
        return Path(place)
    match = _BUCKET.fullmatch(place)
    if match is None:
        raise ValueError(_WRONG)
    return Bucket(match["scheme"], match["name"], match["prefix"].strip("/"))
