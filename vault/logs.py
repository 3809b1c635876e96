"""Logging: static event names and identifiers as fields, to stderr; JSON when nobody watches.

Only fields on the list below are written: a field that is not named here is dropped, so that a slip in some
call cannot put customer data into a log.
"""

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, cast

FIELDS: Final = frozenset(
    {
        "act", "attribute", "build", "bundle", "capability", "event", "first", "issuer", "jwt", "keys",
        "kind", "level", "log", "logger", "main", "method", "problem", "problems", "reason", "records", "row",
        "seconds", "size", "step", "timestamp", "way", "worker", "workers", "writes",
    }
)  # fmt: skip


def configure(*, level: str = "INFO", worker: int | None = None) -> None:
    """Set up structlog for the process; each line names its `worker` where there are several."""
    # it brings rich along: a third of what a command that calls a service imports
    import structlog

    processors: list[Any] = [
        *([] if worker is None else [_Named(worker)]),
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _only_listed,
    ]
    if sys.stderr.isatty():
        processors.append(structlog.dev.ConsoleRenderer())
    else:
        processors.append(structlog.processors.JSONRenderer(sort_keys=True))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, _Lines(sys.stderr))),
        cache_logger_on_first_use=True,
    )


class _Named:
    """Adds the worker's number, on every thread."""

    def __init__(self, worker: int) -> None:
        self._worker = worker

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["worker"] = self._worker
        return event


class _Lines:
    """Where lines go. One that cannot be written is lost: on a full disk a worker that stopped at its own log
    line would not come back when there is room again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _only_listed(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in [name for name in event if name not in FIELDS]:
        del event[name]
    return event
