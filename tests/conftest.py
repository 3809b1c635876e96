"""For the whole suite: tests of one `xdist_group` stay together, and all keep their files in memory."""

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.memory import temporary_root
from tests.support.outside_stores import every_outside
from tests.support.postgres import postgres_server, postgres_url
from tests.support.stores import every_store

__all__ = ["every_outside", "every_store", "postgres_server", "postgres_url"]

# how long an example takes is the machine's affair: no property is about time
settings.register_profile(
    "datavault", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("datavault")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A long text goes by the name of its argument: keys and certificates that are made for a test differ in
    each process of xdist, and pytest 8 writes them out."""
    return argname if isinstance(val, str | bytes) and len(val) > 64 else None


def pytest_configure(config: pytest.Config) -> None:
    """pytest makes its folders where `tempfile` does. `--basetemp` and TMPDIR go before."""
    root = temporary_root()
    if root is not None and "TMPDIR" not in os.environ:
        tempfile.tempdir = str(root)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`: one more than there are processors, because tests wait for the processes that they start."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Since pytest 9.2 a node's id is not where pytest-xdist 3.8 writes the group's name, and groups are
    scattered over the processes without a word. Without effect where the two agree."""
    if not config.getoption("loadgroup", False):
        return
    for item in items:
        grouped = getattr(item, "_nodeid", item.nodeid)
        if grouped != item.nodeid:
            from _pytest.nodeid import coerce_node_id

            item._id = coerce_node_id(grouped)


@pytest.fixture(autouse=True)
def logging_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands configure logging for the process: what one test set up must not hide another's log lines."""
    configure = structlog.configure

    def uncached(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    structlog.reset_defaults()
