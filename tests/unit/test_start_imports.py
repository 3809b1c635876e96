"""What a start loads: a library is imported by the process that uses it, and by no other."""

import subprocess
import sys

import pytest

from tests.support.service import REPOSITORY
from vault.store.revisions import after
from vault.store.schema import MIGRATIONS, newest

# the path of imports that a command, or a server with the embedded defaults, begins with
STARTS = {
    "vault.cli.application": {"rich", "structlog", "grpc", "sqlalchemy", "pydantic", "yaml"},
    "vault.cli.home": {"rich", "structlog", "grpc", "sqlalchemy", "pydantic"},
    "vault.client": {"rich", "structlog", "sqlalchemy", "pydantic", "cryptography", "click"},
    "vault.serving": {"hvac", "requests", "psycopg", "alembic", "casbin", "obstore", "pyarrow", "watchfiles"},
    "vault.workers.supervisor": {"hvac", "psycopg", "alembic", "casbin", "cryptography"},
}


@pytest.mark.parametrize("module", STARTS)
def test_a_start_loads_no_library_that_it_may_not_need(module: str) -> None:
    """In a process of its own: importing the module leaves these libraries alone."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(told.stdout.split()) & STARTS[module] == set()


def test_the_newest_revision_is_read_off_the_names_of_the_files() -> None:
    """Where alembic finds it too: the last of all that an empty database lacks."""
    pending = after("", MIGRATIONS)
    assert pending is not None
    assert newest() == pending[-1].revision
