"""Steps 7 and 8: what an auditor can verify from a copy of the database, without asking the service."""

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault.audit.verify import VerifyReport
from vault.cli.demonstration.callers import AUDITOR
from vault.cli.demonstration.service import DATABASE, ORIGIN
from vault.cli.demonstration.stage import Stage
from vault.cli.exits import CommandError
from vault.client import Checkpoint, Client
from vault.config import load_settings
from vault.homes import verify_logs

_COPY: Final = "copy.db"
_FLIPPED: Final = "flipped.db"
_CHECKPOINT_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.1
_BIT: Final = 0x01


@dataclass(frozen=True, slots=True)
class Flip:
    """One byte of a copy that was changed: where in the file, and in which record of the log."""

    record_id: str
    position: int
    offset: int
    before: int
    after: int


def log_verifies(stage: Stage) -> None:
    """Step 7: a copy of the database and the log's public key are all it takes."""
    last = max((asked.position for asked in stage.asked), default=0)
    checkpoint = _checkpoint_beyond(stage.clients[AUDITOR], last)
    copy = copy_database(stage.home / DATABASE, stage.home / _COPY)
    stage.screen.say(f"{AUDITOR} keeps the newest checkpoint and the verifier key of the log:")
    stage.screen.verbatim(f"     {line}" for line in checkpoint.checkpoint.splitlines() if line)
    stage.screen.say("and verifies a copy of the database, offline:")
    report = _verify(stage, copy, checkpoint)
    _show(stage, report)
    stage.check(f"every one of {report.size} records is as it was appended", report.ok)
    stage.check("signed checkpoints cover every read shown above", report.ok and report.signed_size > last)
    kept = _verify(stage, copy, checkpoint, checkpoint.checkpoint)
    stage.check("the log extends the checkpoint that the auditor kept", kept.ok and kept.first > last)


def flipped_byte_is_found(stage: Stage) -> None:
    """Step 8: one bit of one record is changed behind the service's back, in another copy."""
    checkpoint = stage.clients[AUDITOR].get_checkpoint()
    copy = copy_database(stage.home / DATABASE, stage.home / _FLIPPED)
    flip = flip_byte(copy, [(asked.record_id, asked.position) for asked in reversed(stage.asked)])
    stage.screen.say(
        f"in a copy, byte {flip.offset} of the file is changed from {chr(flip.before)!r} to "
        f"{chr(flip.after)!r}: it belongs to record {flip.position}, where it says who asked"
    )
    report = _verify(stage, copy, checkpoint)
    _show(stage, report)
    problem = report.first_problem
    stage.check("verification fails", not report.ok)
    stage.check(
        f"and names record {flip.position} ({flip.record_id})",
        problem is not None and (problem.index, problem.record_id) == (flip.position, flip.record_id),
    )
    again = _verify(stage, stage.home / DATABASE, checkpoint)
    stage.check("the database itself was not touched: it still verifies", again.ok)


def copy_database(source: Path, target: Path) -> Path:
    """A copy of a database in use, as of one moment (SQLite's backup, which takes in what is in the WAL)."""
    with (
        contextlib.closing(sqlite3.connect(source)) as original,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)
    return target


def flip_byte(database: Path, records: list[tuple[str, int]]) -> Flip:
    """Change one byte of the first of these records (id and position) that stands in the file only once.

    The file may hold an old image of a row in space that is no longer used, which nobody would ever read.

    Raises:
        CommandError: there is none.
    """
    content = bytearray(database.read_bytes())
    for record_id, position in records:
        marker = f',"id":"{record_id}","identity":"'.encode()
        if content.count(marker) == 1:
            offset = content.index(marker) + len(marker)
            before = content[offset]
            content[offset] ^= _BIT
            database.write_bytes(content)
            return Flip(record_id, position, offset, before, content[offset])
    raise CommandError("none of the records was found in the copy of the database")


def _verify(stage: Stage, database: Path, checkpoint: Checkpoint, kept: str = "") -> VerifyReport:
    settings = load_settings(home=stage.home, database_url=f"sqlite:///{database}", origin=ORIGIN)
    (report,) = verify_logs(settings, (checkpoint.verifier_key,), kept, lambda done, total: None)
    return report


def _checkpoint_beyond(client: Client, position: int) -> Checkpoint:
    """The first checkpoint that covers the record at `position`: one is signed within a second."""
    until = time.monotonic() + _CHECKPOINT_SECONDS
    while True:
        checkpoint = client.get_checkpoint()
        if _covered(checkpoint) > position:
            return checkpoint
        if time.monotonic() > until:
            raise CommandError(f"no checkpoint was signed within {_CHECKPOINT_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)


def _covered(checkpoint: Checkpoint) -> int:
    """The size that a checkpoint's second line states; verification checks the rest."""
    lines = checkpoint.checkpoint.split("\n")
    return int(lines[1]) if len(lines) > 2 and lines[1].isdecimal() else 0


def _show(stage: Stage, report: VerifyReport) -> None:
    stage.screen.table(
        ["records", "signed", "checkpoints", "root", "result"],
        [
            (
                report.size,
                report.signed_size,
                report.checkpoints,
                f"{report.root.hex()[:16]}..." if report.ok else "not that of the records",
                "verifies" if report.ok else "DOES NOT VERIFY",
            )
        ],
    )
    for problem in report.problems:
        place = "the log" if problem.index is None else f"record {problem.index}"
        stage.screen.say(f"{place}: {problem.what}", "red")
