"""How the tables are spread when one PostgreSQL is no longer enough (docs/architecture/scale.md).

An engine that distributes rows does it: Citus, CockroachDB, YugabyteDB. What it needs from us is that each
table names one column that all its hot statements filter by.
"""

from dataclasses import dataclass
from typing import Final

LOCAL: Final = "local"
"""Not distributed: rows that lock each other in one order, or few of them."""
REFERENCE: Final = "reference"
"""A copy on every node: few rows, read with distributed ones."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The column whose value decides on the shard, or LOCAL or REFERENCE; `group` of tables whose rows for
    one value lie together; `drop` are constraints that a distributed table cannot have, and why it may go
    without."""

    key: str
    group: str = ""
    drop: tuple[str, ...] = ()
    why: str = ""

    @property
    def distributed(self) -> bool:
        return self.key not in (LOCAL, REFERENCE)


_OF_SUBJECT: Final = Placement("subject", "subject", why="one customer's rows lie together")
PLACEMENTS: Final = {
    "subject": Placement("subject", why="the row every change locks"),
    "subject_key": _OF_SUBJECT,
    "attribute_value": _OF_SUBJECT,
    "consent_event": Placement(
        "subject", "subject", ("uq_consent_event_id",), "one customer's rows lie together; ids are random"
    ),
    "consent_state": _OF_SUBJECT,
    "subject_lookup": Placement(
        "mac", why="found by the MAC of the customer number, before the subject is known"
    ),
    "request": Placement("request_id", why="found by the id that the caller gave"),
    "erasure_evidence": Placement("receipt", why="found by the receipt, and by nothing else"),
    "quota_use": Placement("caller", why="counted per caller"),
    "tenant_key": Placement(REFERENCE, why="a few rows per tenant"),
    "bundle": Placement(REFERENCE, why="a few rows"),
    "schema_info": Placement(REFERENCE, why="one row"),
    "log": Placement(LOCAL, why="the head row is the last lock of every change"),
    "log_key": Placement(LOCAL, why="with its log"),
    "log_entry": Placement(LOCAL, why="one gapless sequence per log"),
    "log_tile": Placement(LOCAL, why="with its log"),
    "log_checkpoint": Placement(LOCAL, why="with its log"),
    "audit_index": Placement(LOCAL, why="with its log"),
    "outbox": Placement(LOCAL, why="with its log"),
}


def citus_statements() -> list[str]:
    """The statements that spread freshly made tables over the nodes of a Citus cluster, in order."""
    statements = [
        f"ALTER TABLE {table} DROP CONSTRAINT {name};"
        for table, placement in PLACEMENTS.items()
        for name in placement.drop
    ]
    for table, placement in PLACEMENTS.items():
        if placement.key == REFERENCE:
            statements.append(f"SELECT create_reference_table('{table}');")
        elif placement.distributed:
            group = (
                f", colocate_with => '{placement.group}'" if placement.group else ", colocate_with => 'none'"
            )
            statements.append(f"SELECT create_distributed_table('{table}', '{placement.key}'{group});")
    return statements
