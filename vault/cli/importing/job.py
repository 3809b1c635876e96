"""One import from its files to its summary.

1 check     the map against file and policies, before anything is made or sent
2 begin     open the journal: a finished import ends here, an unfinished one goes on
3 transfer  the attributes, then the consents
4 finish    see that the file did not change meanwhile, and close the journal
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vault.cli.exits import CommandError, ExitCode
from vault.cli.importing.checks import check_map
from vault.cli.importing.consents import ConsentPlan, open_consents
from vault.cli.importing.files import sha256_of
from vault.cli.importing.journal import Journal, Section
from vault.cli.importing.mapping import load_map
from vault.cli.importing.plan import Plan
from vault.cli.importing.readers import open_table
from vault.cli.importing.rejects import Rejects, is_rejects, rejects_path
from vault.cli.importing.rows import Table
from vault.cli.importing.run import Convert, Send, T, Transfer, check
from vault.cli.importing.send import send_attributes, send_consents
from vault.cli.importing.summary import CHECKED, DONE_BEFORE, IMPORTED, Summary, all_earlier, part_of
from vault.cli.progress import Progress
from vault.domain.canonical import canonical_json
from vault.domain.system import SystemRandomness

if TYPE_CHECKING:
    from vault.cli.connection import Connector
    from vault.policy.bundle import Bundle

ATTRIBUTES = "attributes"
CONSENTS = "consents"


@dataclass(frozen=True, slots=True)
class Job:
    """What the command line says. `quiet` shows no progress and no single row."""

    file: Path
    map: Path
    consents: Path | None = None
    rejects: Path | None = None
    journal: Path | None = None
    last_wins: bool = False
    quiet: bool = False


def dry_run_of(job: Job, bundle: "Bundle") -> Summary:
    """Check every row; send nothing; write nothing but the rejects file, if one was named.

    Raises:
        MapError: the map is wrong, or does not fit the file or the policies.
        ReadError: the file cannot be read.
        CommandError: one file is named for two things.
    """
    _refuse_overwriting(job)
    parts = {}
    with _attributes(job, bundle) as (table, plan):
        rejects = Rejects(job.rejects, table)
        _, report = rejects.names
        with rejects, Progress(job.file.name, table.fraction, quiet=job.quiet, report=report) as shown:
            totals = check(table, plan.convert, rejects, shown.watch)
        parts[ATTRIBUTES] = part_of(totals, plan.omitted, *rejects.names)
    if job.consents is not None:
        with _consents(job.consents, bundle) as (table, events):
            rejects = Rejects(None, table)
            with Progress(job.consents.name, table.fraction, quiet=job.quiet) as shown:
                totals = check(table, events.convert, rejects, shown.watch)
        parts[CONSENTS] = part_of(totals, {}, "", "")
    return Summary(str(job.file), CHECKED, "", parts)


def import_of(job: Job, bundle: "Bundle", connector: "Connector") -> Summary:
    """Import; after any interruption the same call goes on, and after the end it does nothing.

    Raises:
        MapError, ReadError: as `dry_run_of`.
        ConfigurationError: journal or rejects cannot be written, or another import of the file is running.
        ImportStoppedError, DatavaultClientError: the server does not take the rows.
        CommandError: one file is named for two things, or the file changed meanwhile.
    """
    _refuse_overwriting(job)  # 1
    with _attributes(job, bundle):
        before = _state(job.file)
    if job.consents is not None:
        with _consents(job.consents, bundle):
            pass
    with Journal(job.journal or job.file.with_name(job.file.name + ".journal")) as journal:
        section = journal.begin(_subject(job, bundle, connector.target), SystemRandomness())  # 2
        if section.finished is not None:
            return Summary(str(job.file), DONE_BEFORE, section.id, all_earlier(section.finished))
        with _hint_to_go_on(), connector.open() as client:  # 3
            parts = {}
            with _attributes(job, bundle) as (table, plan):
                send = send_attributes(client, section.id, bundle.attributes)
                rejects = Rejects(job.rejects or rejects_path(job.file, table), table)
                transfer = _Part(ATTRIBUTES, job.file, job.quiet, journal, section)
                parts[ATTRIBUTES] = transfer.run(table, plan.convert, send, rejects, plan.omitted)
            if job.consents is not None:
                with _consents(job.consents, bundle) as (table, events):
                    rejects = Rejects(rejects_path(job.consents, table), table)
                    transfer = _Part(CONSENTS, job.consents, job.quiet, journal, section)
                    parts[CONSENTS] = transfer.run(
                        table, events.convert, send_consents(client, section.id), rejects, {}
                    )
        if _state(job.file) != before:  # 4
            raise CommandError(f"{job.file}: was changed while it was imported", "import it again")
        journal.finish(parts)
    return Summary(str(job.file), IMPORTED, section.id, parts)


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    file: Path
    quiet: bool
    journal: Journal
    section: Section

    def run(
        self,
        table: Table,
        convert: Convert[T],
        send: Send[T],
        rejects: Rejects,
        omitted: dict[tuple[str, str], int],
    ) -> dict[str, object]:
        _, report = rejects.names
        with rejects, Progress(self.file.name, table.fraction, quiet=self.quiet, report=report) as shown:
            transfer = Transfer(self.name, self.journal, self.section, rejects, shown.watch)
            totals = transfer.run(table, convert, send)
        return part_of(totals, omitted, *rejects.names)


def _refuse_overwriting(job: Job) -> None:
    """What is written must be none of what is read."""
    read = [path.resolve() for path in (job.file, job.map, job.consents) if path is not None]
    for path in (job.rejects, job.journal):
        if path is not None and path.resolve() in read:
            raise CommandError(
                f"{path}: is read by this import, so it cannot be written", code=ExitCode.USAGE
            )


@contextlib.contextmanager
def _attributes(job: Job, bundle: "Bundle") -> Iterator[tuple[Table, Plan]]:
    found = load_map(job.map)
    template = found.map.customer_number.template
    if template is not None and template.counts_rows and is_rejects(job.file):
        raise CommandError(
            f"{job.file}: rows of a rejects file have other numbers than in the file they come from, so "
            "{row} would name other customers",
            "correct the rows in the original file and import that again",
            ExitCode.USAGE,
        )
    with open_table(job.file, found.map.file) as table:
        check_map(found, table, bundle.attributes)
        yield table, Plan(found.map, bundle.attributes, last_wins=job.last_wins)


@contextlib.contextmanager
def _consents(path: Path, bundle: "Bundle") -> Iterator[tuple[Table, ConsentPlan]]:
    with open_consents(path) as table:
        yield table, ConsentPlan(bundle.purposes)


@contextlib.contextmanager
def _hint_to_go_on() -> Iterator[None]:
    """Whatever stops an import, the user must know that nothing is lost."""
    try:
        yield
    except BaseException:
        click.echo("datavault: the import stopped; the same command goes on where it stopped", err=True)
        raise


def _subject(job: Job, bundle: "Bundle", server: str) -> dict[str, str]:
    """What makes two runs the same import."""
    return {
        "declarations": _declarations(job, bundle),
        "file": sha256_of(job.file),
        "map": sha256_of(job.map),
        "consents": sha256_of(job.consents) if job.consents else "",
        "duplicates": "last" if job.last_wins else "refuse",
        "server": server,
    }


def _declarations(job: Job, bundle: "Bundle") -> str:
    """Digest of all that the policies say of which rows fit.

    Without it a row that was rejected would, after a change of policies, pass for one that is in.
    """
    attributes = [bundle.attributes[name] for name in sorted(load_map(job.map).map.attributes)]
    facts = [
        [
            each.id,
            each.type,
            each.scale,
            each.pattern,
            each.minimum,
            each.maximum,
            each.max_bytes,
            *each.allowed,
        ]
        for each in attributes
    ]
    purposes = sorted(bundle.purposes) if job.consents else []
    return hashlib.sha256(canonical_json([facts, purposes])).hexdigest()


def _state(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino
