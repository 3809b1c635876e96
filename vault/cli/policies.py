"""The policies folder that a command reads, and the option that names it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from vault.cli.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from vault.policy.bundle import Bundle

F = TypeVar("F", bound=Callable[..., Any])
ENVIRONMENT: Final = "DATAVAULT_POLICIES"
_DEFAULT: Final = "policies"


def policies_option(command: F) -> F:
    """`--policies FOLDER`."""
    return click.option(
        "--policies",
        type=click.Path(path_type=Path),
        help=f"Policies folder.  [env: {ENVIRONMENT}; default: ./{_DEFAULT}]",
    )(command)


def folder(given: Path | None) -> Path:
    """The folder in force.

    Raises:
        CommandError: there is none.
    """
    found = given or Path(os.environ.get(ENVIRONMENT) or _DEFAULT)
    if not found.is_dir():
        raise CommandError(
            f"{found}: no policies folder", f"name one with --policies or {ENVIRONMENT}", ExitCode.USAGE
        )
    return found


def load(given: Path | None) -> "Bundle":
    """The bundle of the folder in force. Raises CommandError, PolicyError."""
    from vault.policy.bundle import load_bundle

    return load_bundle(folder(given))
