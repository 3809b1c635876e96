"""One suite, every store: with this, a test module runs each of its tests on SQLite and on PostgreSQL.

    pytestmark = pytest.mark.usefixtures("every_store")

A fixture of the module's own scope names it among its arguments.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import pipelines, service, store
from tests.support.postgres import PostgresServer
from vault.store.postgres_database import PostgresDatabase

SQLITE, POSTGRESQL = "sqlite", "postgresql"


@pytest.fixture(scope="module", params=[SQLITE, POSTGRESQL])
def every_store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the store that `open_house` opens homes on. A home opened again has its database again."""
    name: str = request.param
    if name == SQLITE:
        yield name
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    urls: dict[Path, str] = {}

    def settings(folder: Path) -> dict[str, Any]:
        if folder not in urls:
            urls[folder] = server.create()
        return {"database_url": server.for_service(urls[folder])}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines, "store_settings", settings)
        patch.setattr(
            service,
            "store_environment",
            lambda folder: {"DATAVAULT_DATABASE_URL": settings(folder)["database_url"]},
        )
        patch.setattr(store, "another_store", lambda path: PostgresDatabase(settings(path)["database_url"]))
        yield name
    for url in urls.values():
        server.drop(url)
