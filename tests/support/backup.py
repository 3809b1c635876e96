"""Backups as operators make them, of either store: the commands of docs/operations/backup.md are run.

A block of the page that a comment `<!-- drill: NAME -->` precedes is a session in a shell: each command
must end well, unless `echo $?` shows how it ended, and print what the page shows. Numbers and hashes may
differ; a line `...` stands for any lines.
"""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.support.postgres import AUDITOR_USER, SERVICE_USER, SUPERUSER, program
from tests.support.service import FAULTY, REPOSITORY, Place

PAGE: Final = REPOSITORY / "docs" / "operations" / "backup.md"
HOME: Final = "/var/lib/datavault"
SQLITE_BACKUP: Final = "/var/backups/datavault/vault.db"
POSTGRES_BACKUP: Final = "/var/backups/datavault/vault.dump"
AT: Final = "db.bank.example"
TLS: Final = "sslmode=verify-full&sslrootcert=/etc/datavault/db-ca.pem"
_BLOCK: Final = re.compile(r"(?ms)^( *)<!-- drill: (.+?) -->\n\1```console\n(.*?)\n\1```$")
PATIENCE: Final = 60.0
_MARK: Final = "\x1e"


@dataclass(frozen=True)
class Step:
    """A command, and what the page shows of its output."""

    command: str
    shown: str


@dataclass(frozen=True)
class Drill:
    """`names` maps what the page says (paths, roles, hosts) to what it is here; `first` is a block that every
    other one starts with."""

    names: Mapping[str, str]
    environment: Mapping[str, str]
    first: str = ""

    def follow(self, name: str) -> None:
        """Run a block of the page as it stands there."""
        steps = (self._steps(self.first) if self.first else []) + self._steps(name)
        ended = self._run(steps)
        for index, (step, (status, printed)) in enumerate(zip(steps, ended, strict=True)):
            told = f"$ {step.command}\n{printed}"
            shows_how = [after.command for after in steps[index + 1 : index + 2]] == ["echo $?"]
            assert status == 0 or shows_how, told
            assert _pattern(step.shown).fullmatch(_even(printed)), f"{told}\nthe page shows:\n{step.shown}"

    def _steps(self, name: str) -> list[Step]:
        return [Step(self._here(command), self._here(shown)) for command, shown in page_steps(name)]

    def _here(self, text: str) -> str:
        longest_first = sorted(self.names, key=len, reverse=True)
        either = "|".join(re.escape(name) for name in longest_first)
        return re.sub(rf"(?<!\w)(?:{either})(?!\w)", lambda found: self.names[found[0]], text)

    def _run(self, steps: list[Step]) -> Iterator[tuple[int, str]]:
        """Exit code and output of each, in one shell."""
        mark = f"status=$?; printf '{_MARK}%s{_MARK}' $status; (exit $status)"
        script = "\n".join(["exec 2>&1", *(f"{step.command}\n{mark}" for step in steps)])
        parts = _shell(script, {**self.environment, "PATH": _path()}).split(_MARK)
        return ((int(status), printed) for printed, status in zip(parts[::2], parts[1::2], strict=False))


def _shell(script: str, environment: Mapping[str, str]) -> str:
    """What it prints. A server that starts where the page says that it does not is ended with the shell."""
    shell = subprocess.Popen(
        ["bash", "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        return shell.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        raise AssertionError(f"{shell.communicate()[0]}\nit goes on for {PATIENCE} s") from None


def page_steps(name: str) -> list[tuple[str, str]]:
    """The commands of a block with what it shows of their output; `> ` goes on with a command."""
    (block,) = [
        textwrap.dedent(text)
        for indent, found, text in _BLOCK.findall(PAGE.read_text("utf-8"))
        if found == name
    ]
    steps: list[tuple[str, str]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        elif line.startswith("> "):
            steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", "")
        else:
            steps[-1] = (steps[-1][0], f"{steps[-1][1]}{line}\n")
    return steps


def back_up(place: Place, target: Path) -> None:
    """A consistent copy of a database in use."""
    drill_at(place, target).follow("postgresql backup" if isinstance(place, str) else "sqlite backup")


def put_back(place: Place, backup: Path) -> None:
    """Restore it in place of what is there. Nothing runs on the database."""
    if isinstance(place, str):
        for part in ("new database", "restore", "rename", "clean up"):
            drill_at(place, backup).follow(f"postgresql {part}")
    else:
        for part in ("restore", "clean up"):
            drill_at(place, backup).follow(f"sqlite {part}")


def drill_at(place: Place, backup: Path, environment: Mapping[str, str] | None = None) -> Drill:
    """The page for one database of the tests, whose owner is the superuser on PostgreSQL."""
    given = environment if environment is not None else _environment(backup.parent / "operator")
    if isinstance(place, str):
        parts = urlsplit(place)
        database, host = parts.path[1:], parts.netloc.rpartition("@")[2]
        roles = {"vault_owner": SUPERUSER, "vault_service": SERVICE_USER, "vault_auditor": AUDITOR_USER}
        return postgres_drill(host, backup, given, roles | databases(database))
    names = {HOME: str(place.parent), f"{HOME}/datavault.db": str(place), SQLITE_BACKUP: str(backup)}
    return Drill(names, {**given, "DATAVAULT_DATABASE_URL": f"sqlite:///{place}"})


def postgres_drill(
    host: str, backup: Path, environment: Mapping[str, str], names: Mapping[str, str] | None = None
) -> Drill:
    """The page for a PostgreSQL at `host` (with its port), without TLS; roles and databases as on the page
    unless `names` says otherwise."""
    made = {AT: host, TLS: "sslmode=disable", POSTGRES_BACKUP: str(backup), **(names or {})}
    return Drill(made, environment, first="postgresql names")


def databases(name: str) -> dict[str, str]:
    """The databases of the page, when the one in service has another name."""
    return {f"vault{suffix}": f"{name}{suffix}" for suffix in ("", "_restored", "_lost", "_check")}


def _environment(home: Path) -> dict[str, str]:
    own = ("DATAVAULT_", "VAULT_", "BAO_", "PG")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return inherited | {"DATAVAULT_HOME": str(home), "PYTHONPATH": f"{FAULTY}{os.pathsep}{REPOSITORY}"}


def _path() -> str:
    """`datavault` of this environment, and PostgreSQL's programs of the tested release."""
    folders = (Path(sys.executable).parent, program("psql").parent, os.environ["PATH"])
    return os.pathsep.join(map(str, folders))


def _even(text: str) -> str:
    """Without what differs from one run to the next: numbers, hashes, widths of columns."""
    text = re.sub(r"\b[0-9a-f]{16,}\b", "HASH", text)
    text = re.sub(r"\d+(?:\.\d+)*", "N", text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def _pattern(shown: str) -> "re.Pattern[str]":
    lines = [".*" if line == "..." else re.escape(line) for line in _even(shown).splitlines()]
    return re.compile("\n".join(lines), re.DOTALL)
