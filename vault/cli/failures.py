"""One place turns whatever ended a command into lines on stderr and an exit code. Never a traceback."""

import os
import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from vault.cli.exits import CommandError, ExitCode
from vault.domain.errors import ConfigurationError, DatavaultError

DEBUG: Final = "DATAVAULT_DEBUG"

_NEXT: Final[Mapping[str, str]] = {
    "CONFIGURATION": "give --addr, --cacert, --cert and --key, or set DATAVAULT_ADDR, DATAVAULT_CACERT, "
    "DATAVAULT_CLIENT_CERT and DATAVAULT_CLIENT_KEY",
    "UNREACHABLE": "check --addr and that the server is up",
    "TLS_FAILED": "check that --addr, --cacert and --cert belong to the same installation",
    "UNAUTHENTICATED": "callers.yaml must name the SPIFFE id or DNS name of this certificate",
    "NOT_PERMITTED": "ask the security team for a rule; `datavault policy explain` shows what decides",
    "REQUIRE_ALL": "leave --require-all out to get what is permitted, and the reason of each denial",
    "PURPOSE_NOT_LEAF": "name one of the purposes below it",
    "REQUEST_ID_REUSED": "use a new --request-id for new content",
    "VERSION_MISMATCH": "read again, then write with the current version",
    "QUOTA_EXCEEDED": "wait for the next hour, or ask for a larger quota in callers.yaml",
    "OVERLOADED": "try again in a moment",
    "DEADLINE_EXCEEDED": "try again; a write that carries the same --request-id happens once",
    "AUDIT_UNAVAILABLE": "nothing is released while the audit log cannot be written: see `datavault doctor`",
    "STORE_UNAVAILABLE": "see `datavault doctor` on the server",
    "KEYS_UNAVAILABLE": "see `datavault doctor` on the server",
    "SHUTTING_DOWN": "try again in a moment",
}


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
        say(error.message, _NEXT.get(str(error.reason), ""))
        return _code_of(error)
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
    command = getattr(getattr(error, "ctx", None), "command_path", "datavault")
    say(error.format_message(), f"{command} --help" if isinstance(error, click.UsageError) else "")
    return ExitCode.USAGE


def _code_of(error: DatavaultError) -> ExitCode:
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
    hint = _NEXT.get(reason, "")
    if error.retry_after_seconds:
        hint = f"try again in {error.retry_after_seconds:g} s"
    say(f"{reason}: {error.message}")
    told = [violation for violation in error.violations if violation.description not in error.message]
    for violation in told:
        click.echo(f"  {violation.field}: {violation.description}", err=True)
    if hint:
        click.echo(f"  next: {hint}", err=True)
    return ExitCode.USAGE if reason == "CONFIGURATION" else ExitCode.FAILED


def _unexpected(error: BaseException) -> ExitCode:
    # Its text may hold anything, customer data too: only its kind is told.
    say(f"a fault of datavault itself ({type(error).__name__})", f"set {DEBUG}=1 to see where")
    return ExitCode.FAILED
