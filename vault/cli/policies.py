"""The policies folder that a command reads, and the option that names it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from vault.cli.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from vault.policy.bundle import Bundle

F = TypeVar("F", bound=Callable[..., Any])
ENVIRONMENT: Final = "DATAVAULT_POLICIES"
OPTION: Final = "--policies"


def policies_option(command: F) -> F:
    """`--policies FOLDER`."""
    return click.option(
        OPTION,
        type=click.Path(path_type=Path),
        help=f"Policies folder.  [env: {ENVIRONMENT}; default: that of datavault.toml, else ./policies]",
    )(command)


def folder(given: Path | None, word: str = "") -> Path:
    """The folder in force: as given, else that of the settings.

    `word` is the option or argument that names it, '' where there is none.

    Raises:
        CommandError: there is none.
        ConfigurationError: the settings cannot be read.
    """
    found = _of_the_settings() if given is None else given
    if not found.is_dir():
        hint = f"give {word}, or set {ENVIRONMENT}" if word else f"set {ENVIRONMENT}"
        raise CommandError(f"{found}: no such folder", hint, ExitCode.USAGE)
    return found


def load(given: Path | None, word: str = "") -> "Bundle":
    """The bundle of the folder in force. Raises CommandError, ConfigurationError, PolicyError."""
    from vault.policy.bundle import load_bundle

    return load_bundle(folder(given, word))


def _of_the_settings() -> Path:
    from vault.config import load_settings

    return load_settings().policies
