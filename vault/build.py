"""Which build this is: the Python sources as they stand, or their read path compiled (docs/adr/0027)."""

from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from typing import Final, Literal

import vault

_READ_PATH: Final = "vault.disclosure"
"""Compiled together with all others, or like all others not (setup.py)."""


def _build() -> Literal["compiled", "python"]:
    # found, and not imported: commands that read nothing ask too
    found = PathFinder.find_spec(_READ_PATH, vault.__path__)
    place = found.origin if found is not None else None
    return "compiled" if place and place.endswith(tuple(EXTENSION_SUFFIXES)) else "python"


BUILD: Final = _build()
