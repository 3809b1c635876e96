"""docs/operations/postgresql.md says of rights and limits what the code gives."""

from tests.support.service import REPOSITORY
from vault.store.grants import AUDITOR, SERVICE
from vault.store.pool import CONNECTIONS
from vault.store.postgres import CONNECT_SECONDS, IDLE_SECONDS, LOCK_SECONDS, STATEMENT_SECONDS

PAGE = (REPOSITORY / "docs" / "operations" / "postgresql.md").read_text("utf-8")


def test_every_right_of_the_service_is_on_the_page() -> None:
    """One row per table, with what it is for."""
    for table, rights in SERVICE.items():
        assert f"| `{table}` | {rights.privileges()} | {rights.why} |" in PAGE


def test_what_auditors_read_is_on_the_page() -> None:
    """And nothing else."""
    assert ", ".join(f"`{table}`" for table in AUDITOR) in PAGE.replace("\n", " ")


def test_the_limits_are_on_the_page() -> None:
    """As they are set on each connection."""
    for name, seconds in (
        ("connect_timeout", CONNECT_SECONDS),
        ("statement_timeout", STATEMENT_SECONDS),
        ("lock_timeout", LOCK_SECONDS),
        ("idle_in_transaction_session_timeout", IDLE_SECONDS),
    ):
        assert f"| `{name}` | {seconds} s |" in PAGE
    assert f"`DATAVAULT_DATABASE_CONNECTIONS` ({CONNECTIONS})" in PAGE
