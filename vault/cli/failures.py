"""One place turns whatever ended a command into lines on stderr and an exit code. Never a traceback."""

import os
import sys
from typing import Any, Final

import click

from vault.cli.connection import BY_TOKEN
from vault.cli.exits import CommandError, ExitCode
from vault.cli.hints import as_assignments, next_step
from vault.domain.errors import ConfigurationError, DatavaultError

DEBUG: Final = "DATAVAULT_DEBUG"


def report(error: BaseException) -> ExitCode:
    """Tell the user what happened and say which code to exit with."""
    if os.environ.get(DEBUG) and not isinstance(error, click.exceptions.Exit | BrokenPipeError):
        sys.excepthook(type(error), error, error.__traceback__)
    if isinstance(error, CommandError):
        say(error.message, error.hint)
        return error.code
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("datavault: interrupted", err=True)
        return ExitCode.INTERRUPTED
    if isinstance(error, DatavaultError):
        say(error.message, next_step(str(error.reason)))
        return code_of(error)
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has seen enough; a second failure while flushing must stay silent too.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it lives until the process ends
        return ExitCode.FAILED
    if isinstance(error, OSError):
        say(f"{error.filename or 'input or output'}: {error.strerror or type(error).__name__}")
        return ExitCode.FAILED
    return _client_error(error) if _is_client_error(error) else _unexpected(error)


def say(message: str, hint: str = "") -> None:
    """`datavault: error: ...` on stderr, and what to do next."""
    label = click.style("error:", fg="red", bold=True)
    click.echo(f"datavault: {label} {message}", err=True, color=_colour(sys.stderr))
    if hint:
        click.echo(f"  next: {hint}", err=True)


def _colour(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def _usage(error: click.ClickException) -> ExitCode:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return ExitCode.USAGE
    command = getattr(getattr(error, "ctx", None), "command_path", "datavault")
    say(error.format_message(), f"{command} --help" if isinstance(error, click.UsageError) else "")
    return ExitCode.USAGE


def code_of(error: DatavaultError) -> ExitCode:
    """The exit code of an error of the domain."""
    from vault.policy.problems import FolderError, PolicyError

    if isinstance(error, PolicyError) and not isinstance(error, FolderError):
        return ExitCode.POLICY_DOES_NOT_COMPILE
    return ExitCode.USAGE if isinstance(error, ConfigurationError) else ExitCode.FAILED


def _is_client_error(error: BaseException) -> bool:
    # The client brings grpc: only a process that has already loaded it can have met its errors.
    module = sys.modules.get("vault.client.errors")
    return module is not None and isinstance(error, module.DatavaultClientError)


def _client_error(error: Any) -> ExitCode:
    reason = str(error.reason)
    hint = next_step(reason, by_token=BY_TOKEN in getattr(error, "__notes__", ()))
    if error.retry_after_seconds:
        hint = f"try again in {error.retry_after_seconds:g} s"
    say(f"{reason}: {as_assignments(error.message)}")
    told = [violation for violation in error.violations if violation.description not in error.message]
    for violation in told:
        click.echo(f"  {as_assignments(f'{violation.field}: {violation.description}')}", err=True)
    if hint:
        click.echo(f"  next: {hint}", err=True)
    return ExitCode.USAGE if reason == "CONFIGURATION" else ExitCode.FAILED


def _unexpected(error: BaseException) -> ExitCode:
    # Its text may hold anything, customer data too: only its kind is told.
    say(f"a fault of datavault itself ({type(error).__name__})", f"set {DEBUG}=1 to see where")
    return ExitCode.FAILED
