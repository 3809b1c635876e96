"""Settings that are there and empty."""

from pathlib import Path
from typing import get_args

import pytest

from vault.config import Settings, load_settings

PATHS = [
    name
    for name, field in Settings.model_fields.items()
    if set(get_args(field.annotation)) == {Path, type(None)}
]


@pytest.mark.parametrize("name", PATHS)
def test_an_empty_path_is_none(name: str) -> None:
    """A path that is set to nothing is not set; it never means the working folder."""
    assert getattr(load_settings(**{name: ""}), name) is None
