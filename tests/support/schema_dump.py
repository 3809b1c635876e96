"""Writes what a release leaves in a database, for the releases after it.

    python -m tests.support.schema_dump 0004

For SQLite the statements that rebuild it, for PostgreSQL what pg_dump gives, each with the key file that
opens it. Once for each schema that a release has; never written again.
"""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.support.pipelines import House, open_house

FOLDER: Final = Path(__file__).resolve().parents[1] / "golden" / "schema"
KEYS: Final = "keys.json"
VALUES: Final = {"email": "ana@bank.example", "income": "41000", "given-name": "Ana"}
CUSTOMERS: Final = ("ana", "bob")


def fill(house: House) -> None:
    """Values, consents that hold and that do not, and a signed log."""
    for number in CUSTOMERS:
        house.write(number, VALUES)
        house.record(number, "personalised-offers", "given")
    house.record("bob", "personalised-offers", "withdrawn")
    house.write("ana", {"email": "ana@second.example"})
    house.read("fraud-detection", "ana", "fraud-detection", ["email"])
    house.verify()


def write_sqlite(target: Path) -> None:
    """Dump of a SQLite home."""
    with tempfile.TemporaryDirectory() as folder:
        with open_house(Path(folder)) as house:
            fill(house)
        home = Path(folder) / "home"
        with contextlib.closing(sqlite3.connect(home / "datavault.db")) as connection:
            _write(target, "\n".join(connection.iterdump()), home)


def write_postgres(target: Path) -> None:
    """Dump of a home on PostgreSQL, by its own pg_dump."""
    from tests.support.postgres import postgres_at, program

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103  the server runs as another user
        with postgres_at(Path(folder) / "server") as server:
            url = server.create()
            with open_house(Path(folder) / "house", database_url=url) as house:
                fill(house)
            command = [program("pg_dump"), "--inserts", "--no-owner", "--no-privileges", url]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
            # newer servers write words for psql alone
            plain = [line for line in done.stdout.splitlines() if not line.startswith("\\")]
            _write(target, "\n".join(plain), Path(folder) / "house" / "home")


def _write(target: Path, sql: str, home: Path) -> None:
    target.mkdir(parents=True)
    (target / "dump.sql").write_text(sql + "\n", "utf-8")
    shutil.copyfile(home / KEYS, target / KEYS)


def main(arguments: Any) -> None:
    """`arguments` name the revision, and the stores (default both)."""
    revision, *stores = arguments
    for store in stores or ("sqlite", "postgresql"):
        write = write_sqlite if store == "sqlite" else write_postgres
        write(FOLDER / f"{store}-{revision}")


if __name__ == "__main__":
    main(sys.argv[1:])
