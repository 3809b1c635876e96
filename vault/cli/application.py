"""The root command: lazy loading, help with examples and exit codes, one place where errors end."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from vault import __version__
from vault.build import BUILD
from vault.cli import COMMANDS
from vault.cli.exits import MEANINGS, ExitCode
from vault.cli.failures import report


class Application(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module, _, name = lazy.target.partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - a wrong target is a mistake in our own table
        if isinstance(command, click.Group):
            for each in command.commands.values():
                each.short_help = each.short_help or _first_sentence(each.help or "")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands from the table, each with an example; nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in sorted(COMMANDS)])
        with formatter.section("Examples"):
            for name in sorted(COMMANDS):
                formatter.write_text(COMMANDS[name].example)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and exit; a command's return value is its exit code."""
        try:
            code = super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            sys.stdout.flush()
        except ModuleNotFoundError:
            raise
        except Exception as error:
            code = report(error)
        except KeyboardInterrupt as error:
            code = report(error)
        sys.exit(int(code) if isinstance(code, int) else ExitCode.OK)


def _first_sentence(text: str) -> str:
    """Whole, and on one line: click would cut it in the middle."""
    sentence, stop, _ = " ".join(text.split("\n\n", maxsplit=1)[0].split()).partition(". ")
    return sentence + stop.strip()


@click.command(
    cls=Application,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Each command has its own --help. Errors go to stderr; DATAVAULT_DEBUG=1 adds a traceback, which "
    "may show customer data.",
)
@click.version_option(
    __version__, "-V", "--version", prog_name="datavault", message=f"%(prog)s %(version)s (build: {BUILD})"
)
def application() -> None:
    """Customer data, encrypted field by field, disclosed by purpose and consent, every access on record."""
