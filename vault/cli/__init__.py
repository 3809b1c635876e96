"""The command line `datavault`: one module per noun, loaded when it is used.

This module imports neither click nor rich: `pip install .` is the client alone, and the command then
says in one line what it needs.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

USAGE_ERROR: Final = 2
_NEEDS_SERVER: Final = (
    "datavault: the command line needs the server extra: pip install '.[server]' in the source folder"
)
_OPTIONAL: Final[Mapping[str, str]] = {"faker": "demo", "pyarrow": "parquet"}


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command that is imported when it is called: `target` is `module:name`."""

    target: str
    help: str
    example: str


COMMANDS: Final[dict[str, LazyCommand]] = {
    "audit": LazyCommand(
        "vault.cli.home:audit",
        "Look into the audit log.",
        "datavault audit query --customer 4711 --outcome denied",
    ),
    "certs": LazyCommand(
        "vault.cli.certs:certs",
        "Issue client certificates from the embedded CA.",
        "datavault certs issue personalization-engine",
    ),
    "config": LazyCommand(
        "vault.cli.serve:config",
        "Show the settings in force.",
        "datavault config",
    ),
    "db": LazyCommand(
        "vault.cli.db_backup:db",
        "Raise the schema of the database, look at it, back it up, grant rights on it.",
        "datavault db upgrade",
    ),
    "demo": LazyCommand(
        "vault.cli.demo:demo",
        "Show the service at work, with customers that are made up.",
        "datavault demo --customers 50",
    ),
    "serve": LazyCommand(
        "vault.cli.serve:serve",
        "Run the service.",
        "DATAVAULT_HOME=/var/lib/datavault datavault serve",
    ),
    "completion": LazyCommand(
        "vault.cli.completion:completion",
        "Print the completion script of a shell.",
        'eval "$(datavault completion bash)"',
    ),
    "consent": LazyCommand(
        "vault.cli.consent:consent",
        "Record, withdraw and show consent.",
        "datavault consent show 4711 --events",
    ),
    "doctor": LazyCommand(
        "vault.cli.doctor:doctor",
        "Check that everything is in place, and say what to do.",
        "datavault doctor",
    ),
    "health": LazyCommand(
        "vault.cli.health:health",
        "Ask whether the service serves.",
        "datavault health 127.0.0.1:8081",
    ),
    "keys": LazyCommand(
        "vault.cli.keys:keys",
        "Set up, look at, rotate and rewrap the keys of the key provider.",
        "datavault keys status",
    ),
    "policy": LazyCommand(
        "vault.cli.policy:policy",
        "Check, test and explain the policy files.",
        "datavault policy check policies/",
    ),
    "subject": LazyCommand(
        "vault.cli.subject:subject",
        "Import, write, read and erase customers' attributes.",
        "datavault subject import customers.csv --map customers.yaml --dry-run",
    ),
}
"""The table behind `datavault --help`, which therefore imports no command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point `datavault`; `arguments` default to those of the process. Always exits."""
    try:
        from vault.cli.application import application

        application.main(args=None if arguments is None else list(arguments), prog_name="datavault")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "vault"):
            raise
        extra = _OPTIONAL.get(missing)
        needs_extra = f"datavault: this command needs: pip install '.[{extra}]' in the source folder"
        line = needs_extra if extra else _NEEDS_SERVER
        print(line, file=sys.stderr)  # noqa: T201 - click, which prints elsewhere, may be what is missing
        sys.exit(USAGE_ERROR)
