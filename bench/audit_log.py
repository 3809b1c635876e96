"""A log of a million records in minutes: what the service appends and integrates, not waiting for the disk.

Every record is real: built and encoded as a read's, appended in groups, integrated and signed by the
service's own integrator, a checkpoint after `SIGNED` records, as at some thousand reads a second. Only
`synchronous` is off, and the outside store gets nothing.
"""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.support.audit import NOW, ORIGIN, TENANT, Database, Signers
from vault.audit.append import Appender, EncodedRecord
from vault.audit.integrator import Integrator
from vault.audit.record import AttributeEntry, Record
from vault.audit.startup import open_log
from vault.testing import FakeClock

SIGNED: Final = 1_000
_PRAGMAS: Final = ("synchronous=OFF", "cache_size=-600000", "wal_autocheckpoint=100000")
_SAY_SECONDS: Final = 10
_POLICY: Final = "67a65ec0ae47ad2adb8cd2ed2241de4a43c868a54292f88b739ecbddc93e8d67"
_CALLERS: Final = ("personalization-engine", "fraud-desk", "call-centre", "statement-printer", "mobile-app")
_PURPOSES: Final = ("personalised-offers", "fraud-prevention", "customer-service", "account-statements")
_ATTRIBUTES: Final = {
    "customer-segment": AttributeEntry("read.clear", bases=("consent",), rule="offers-segment"),
    "email": AttributeEntry("read.mask", bases=("consent",), rule="offers-email"),
    "given-name": AttributeEntry("read.clear", bases=("consent",), rule="offers-given-name"),
    "income": AttributeEntry("read.generalise", bases=("consent",), rule="offers-income"),
    "preferred-language": AttributeEntry("read.clear", bases=("consent",), rule="offers-language"),
}
_PARTLY: Final = _ATTRIBUTES | {"income": AttributeEntry("read.clear", reason="not-permitted")}
_RECORDS_PER_SUBJECT: Final = 10

Say = Callable[[str], None]


def records(first: int, count: int, subjects: int) -> Iterator[EncodedRecord]:
    """Reads of five attributes, places `first` to `first + count`: of `subjects` customers at random, by 5
    callers for 4 purposes, one in eight partial, one in four with a caller's request id."""
    draw = random.Random(first)  # noqa: S311  no secret
    for place in range(first, first + count):
        partly, subject = draw.random() < 0.125, draw.randrange(subjects)
        yield EncodedRecord.of(
            Record(
                id=f"01a22fa8-{place >> 16 & 0xFFFF:04x}-7{place >> 4 & 0xFFF:03x}-b97f-{place:012x}",
                time=NOW + 400 * place,
                tenant=TENANT,
                caller=draw.choice(_CALLERS),
                identity="spiffe://bank.example/service",
                action="read",
                subject=f"{subject * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}",
                outcome="partial" if partly else "authorised",
                purpose=draw.choice(_PURPOSES),
                attributes=_PARTLY if partly else _ATTRIBUTES,
                require_all=0,
                policy=_POLICY,
                consents=(f"{subject * 0xD1342543DE82EF95 % 2**128:032x}",),
                request=f"{draw.getrandbits(128):032x}" if draw.random() < 0.25 else "",
            )
        )


def subjects_of(size: int) -> int:
    """How many customers a log of `size` records is about."""
    return max(1, size // _RECORDS_PER_SUBJECT)


class BulkLog:
    """A log that grows fast, in a SQLite database of the audit tables alone."""

    def __init__(self, file: Path, say: Say = print) -> None:
        self.database = Database(file).create()
        self.signers, self.clock, self._say = Signers(), FakeClock(NOW), say
        self.log = open_log(self.database, ORIGIN, self.signers, self.clock).log
        self.appender = Appender(self.log)
        self.integrator = Integrator(self.database, self.log, self.signers, self.clock)

    def grow(self, size: int) -> None:
        """Append, integrate and sign until the log holds `size` records; says how far it is."""
        self._pragmas(*_PRAGMAS)
        with self.database.read() as connection:
            first = self.appender.head(connection)
        began = said = time.monotonic()
        for start in range(first, size, SIGNED):
            batch = list(records(start, min(SIGNED, size - start), subjects_of(size)))
            with self.database.write() as connection:
                self.appender.append(connection, batch)
            self.integrator.run_once()
            if time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                rate = (start + SIGNED - first) / (said - began)
                self._say(f"log: {start + SIGNED:,} of {size:,} records, {rate:,.0f}/s")
        self._pragmas("wal_checkpoint(TRUNCATE)", "wal_autocheckpoint=1000", "synchronous=FULL")

    def close(self) -> None:
        self.database.close()

    def _pragmas(self, *pragmas: str) -> None:
        with self.database.idle() as connection:
            for pragma in pragmas:
                connection.exec_driver_sql(f"PRAGMA {pragma}")
