"""What `datavault doctor` sees of a service that runs with several workers, on this machine and home."""

from collections.abc import Iterator
from typing import Final

from vault.config import Settings
from vault.findings import Finding, Health
from vault.policy.bundle import Bundle
from vault.workers.member import State
from vault.workers.roster import Roster, WorkerRow, read_roster

_CHECK: Final = "workers"
_LOG: Final = "the service's log says why: worker_ended, not_serving"


def workers(settings: Settings, folder: Bundle | None) -> Iterator[Finding]:
    """The supervisor and each worker with the hash of its bundle; nothing where no supervisor runs.

    `folder` is the bundle of the policy folder, None when that is not good.
    """
    roster = read_roster(settings.home)
    if roster is None:
        return
    yield _supervisor(roster, folder)
    for row in roster.workers:
        yield _worker(row, roster.bundle)


def _supervisor(roster: Roster, folder: Bundle | None) -> Finding:
    detail = f"supervisor {roster.pid}, {len(roster.workers)} workers, bundle {roster.bundle or 'none yet'}"
    if folder is not None and roster.bundle and folder.hash != roster.bundle:
        remedy = f"SIGHUP to {roster.pid} loads the folder's"
        return Finding(_CHECK, Health.WARNING, f"{detail}; the policy folder holds {folder.hash}", remedy)
    return Finding(_CHECK, Health.GOOD, detail)


def _worker(row: WorkerRow, bundle: str) -> Finding:
    times = f"replaced {row.restarts} times" if row.restarts != 1 else "replaced once"
    seen = f"worker {row.number}: process {row.pid or '-'}, {row.state}, bundle {row.bundle or '-'}, {times}"
    if row.state != State.SERVING:
        return Finding(_CHECK, Health.WARNING, f"{seen}; {row.problem}", _LOG)
    if row.problem:
        return Finding(_CHECK, Health.BAD, f"{seen}; {row.problem}", _LOG)
    if row.bundle != bundle:
        return Finding(_CHECK, Health.BAD, f"{seen}: not the bundle in force", f"end process {row.pid}")
    return Finding(_CHECK, Health.GOOD, seen)
