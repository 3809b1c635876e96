"""One test, every kind of outside store: a folder, and a bucket of an S3 server."""

from collections.abc import Iterator

import pytest

FOLDER, S3 = "folder", "s3"


@pytest.fixture(params=[FOLDER, S3])
def every_outside(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The variables that name the outside store, none for a folder in the home; they are set in this process
    too."""
    if request.param == FOLDER:
        yield {}
        return
    # moto takes a second to import: for the tests that use it alone
    from tests.support.object_store import object_store

    with object_store() as server:
        environment = server.environment()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield environment
