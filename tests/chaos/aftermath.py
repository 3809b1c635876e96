"""What is found once the faults are healed: the log, the database, the servers and what they wrote."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tests.chaos.cluster import CONNECTIONS, Cluster, Node
from tests.support.faults import eventually
from tests.support.service import ORIGIN, log_records, opened, run_sql
from vault.audit.checkpoint import Checkpoint
from vault.audit.outside_folder import FolderStore
from vault.audit.startup import last_checkpoint
from vault.audit.verify import verify

LOG_ID: Final = 1
MOST_KILOBYTES: Final = 700 * 1024
"""Resident memory of one server. It starts at about 120 MB; what leaks with each call passes this soon."""
ALLOWED: Final[Mapping[str, str]] = {
    "not_serving": "the health monitor says that the database is away, which it is",
    "write_failed": "a write met a database that is away; its caller was told UNAVAILABLE",
    "audit_append_failed": "records met a database that is away; nothing was released",
    "policy_not_loaded": "a reload met a database that is away; the bundle before it stays",
}
"""Error lines that a server may write while PostgreSQL is away, and why each is right."""


def settle(cluster: Cluster) -> None:
    """Wait until all servers serve and every record is under a checkpoint that stands outside, too."""
    cluster.wait_up()
    eventually(lambda: _last_outside(cluster) == _size(cluster), "the last checkpoint covers the whole log")


def log_of(cluster: Cluster) -> list[dict[str, Any]]:
    """Every record, by position."""
    return log_records(cluster.url)


def log_problems(cluster: Cluster) -> Iterator[str]:
    """Gaps, what a verification of the whole log finds, and whether it extends what is outside."""
    indices = [index for (index,) in run_sql(cluster.url, 'SELECT "index" FROM log_entry ORDER BY "index"')]
    if indices != list(range(_size(cluster))):
        yield f"the log's {len(indices)} records are not numbered 0 to {_size(cluster) - 1}"
    with opened(cluster.url) as store, store.read() as connection:
        yield from map(str, verify(connection, LOG_ID, cluster.verifier_key).problems)
        outside = _checkpoint_outside(cluster)
        report = verify(connection, LOG_ID, cluster.verifier_key, from_checkpoint=outside, contents=False)
        yield from (f"from the checkpoint outside: {problem}" for problem in report.problems)


def connection_problems(cluster: Cluster) -> Iterator[str]:
    """Too many connections of one server, or one that has left a transaction open."""
    rows = run_sql(
        cluster.url,
        "SELECT application_name, state LIKE 'idle in transaction%' AND state_change < now() - interval '2 s'"
        " FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'server-%'",
    )
    for name, count in Counter(name for name, _ in rows).items():
        # the advisory lock has a connection of its own
        if count > CONNECTIONS + 1:
            yield f"{name} has {count} connections"
    yield from (f"{name} left a transaction open" for name, left_open in rows if left_open)


def left_connections(cluster: Cluster) -> Iterator[str]:
    """Connections of servers that have ended."""
    try:
        eventually(lambda: cluster.postgres.connections(cluster.url) == 0, "all connections are closed")
    except AssertionError as error:
        yield str(error)


def server_problems(nodes: Sequence[Node]) -> Iterator[str]:
    """Ends that nobody asked for, memory, and faults in the servers' own logs."""
    for node in nodes:
        yield from node.problems
        if node.peak_kilobytes > MOST_KILOBYTES:
            yield f"server {node.number} took {node.peak_kilobytes // 1024} MB"
        lines = node.service.log_path.read_text("utf-8", "replace").splitlines()
        yield from (f"server {node.number} wrote: {line}" for line in lines if is_fault(line))


def is_fault(line: str) -> bool:
    """Whether a server says in this line that something went wrong inside."""
    if not line.startswith("{"):
        return line.startswith("Traceback") or "Error: " in line
    try:
        document = json.loads(line)
    except ValueError:
        # killed in the middle of the line
        return False
    return document.get("level") in ("error", "critical") and document.get("event") not in ALLOWED


def _size(cluster: Cluster) -> int:
    return int(run_sql(cluster.url, "SELECT size FROM log WHERE log = ?", LOG_ID)[0][0])


def _last_outside(cluster: Cluster) -> int:
    found = _checkpoint_outside(cluster)
    return found.size if found else 0


def _checkpoint_outside(cluster: Cluster) -> Checkpoint | None:
    return last_checkpoint(FolderStore(cluster.outside), ORIGIN, (cluster.verifier_key,))
