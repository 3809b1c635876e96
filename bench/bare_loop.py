"""The baseline of batch reads: what a loop costs that does only what cannot be left out.

For a part of the customers at a time: fetch their rows by one statement on the primary key, open each value
by AES-256-GCM with a key object that is there already (associated data included, ready-made), decode it,
encode one JSON record per customer, insert the records and commit, durably: `synchronous=FULL`, or PostgreSQL
as it is. There is no policy, no consent, no lookup by MAC, no answer message, no log head, leaf hash or
checkpoint. Values have the sizes of the product's; parts last as long as the product's, by the same rule.

A loop that answers besides builds and serialises the answer of each customer (ReadAttributesResponse),
without which nobody sees the values.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.customers import ATTRIBUTES, PURPOSE, customer_number, values_of
from vault.v1 import data_service_pb2 as pb
from vault.v1 import values_pb2

_NONCE_BYTES: Final = 12
_TABLES: Final = (
    "CREATE TABLE bare_value (customer {text} NOT NULL, attribute {text} NOT NULL, sealed {bytes} NOT NULL,"
    " PRIMARY KEY (customer, attribute)){options}",
    "CREATE TABLE bare_record (id {serial} PRIMARY KEY, entry {bytes} NOT NULL)",
)
_SQLITE: Final = {"text": "TEXT", "bytes": "BLOB", "serial": "INTEGER", "options": " WITHOUT ROWID"}
_POSTGRES: Final = {"text": "text", "bytes": "bytea", "serial": "bigserial", "options": ""}

Row = tuple[str, str, bytes]


class BareLoop:
    """`fetch` gives the rows of some customers, `insert` commits records."""

    def __init__(
        self,
        keys: Sequence[AESGCM],
        fetch: Callable[[list[str]], list[Row]],
        insert: Callable[[list[bytes]], None],
    ) -> None:
        self._keys = {customer_number(index): key for index, key in enumerate(keys)}
        self._bound = {name: name.encode() for name in ATTRIBUTES}
        self._fetch = fetch
        self._insert = insert

    def read(self, numbers: Sequence[str], *, answer: bool = False) -> None:
        """Read a part of the customers; `answer` builds their answers too.

        Raises:
            SystemExit: a value is missing.
        """
        opened: dict[str, dict[str, str]] = {number: {} for number in numbers}
        for customer, attribute, sealed in self._fetch(list(numbers)):
            nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            value = self._keys[customer].decrypt(nonce, text, self._bound[attribute])
            opened[customer][attribute] = value.decode()
        if any(len(values) != len(ATTRIBUTES) for values in opened.values()):
            raise SystemExit("the bare loop did not find every value")
        if answer:
            for values in opened.values():
                _answer(values)
        self._insert([_record(customer, values) for customer, values in opened.items()])


def _record(customer: str, values: dict[str, str]) -> bytes:
    return orjson.dumps({"action": "read", "customer": customer, "purpose": PURPOSE, "read": [*values]})


def _answer(values: dict[str, str]) -> bytes:
    message = pb.ReadAttributesResponse()
    for name, value in values.items():
        message.attributes.add(name=name, form=values_pb2.FORM_CLEAR, version=1).value.string_value = value
    return message.SerializeToString()


@contextlib.contextmanager
def sqlite_loop(file: Path, customers: int) -> Iterator[BareLoop]:
    """On a database file of its own."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for statement in _TABLES:
            connection.execute(statement.format(**_SQLITE))
        keys, rows = _sealed(customers)
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO bare_value VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")

        def fetch(numbers: list[str]) -> list[Row]:
            query = "SELECT v.* FROM json_each(?) AS n CROSS JOIN bare_value AS v ON v.customer = n.value"
            return connection.execute(query, (orjson.dumps(numbers).decode(),)).fetchall()

        def insert(entries: list[bytes]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO bare_record (entry) VALUES (?)", [(one,) for one in entries])
            connection.execute("COMMIT")

        yield BareLoop(keys, fetch, insert)


@contextlib.contextmanager
def postgres_loop(url: str, customers: int) -> Iterator[BareLoop]:
    """In a database that is there, on one connection."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _TABLES:
            connection.execute(statement.format(**_POSTGRES))
        keys, rows = _sealed(customers)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany("INSERT INTO bare_value VALUES (%s, %s, %s)", rows)
        connection.execute("VACUUM ANALYZE bare_value")
        cursor = connection.cursor(binary=True)

        def fetch(numbers: list[str]) -> list[Any]:
            query = "SELECT customer, attribute, sealed FROM bare_value WHERE customer = ANY(%s)"
            return cursor.execute(query, (numbers,), prepare=True).fetchall()

        def insert(entries: list[bytes]) -> None:
            query = "INSERT INTO bare_record (entry) SELECT unnest(%s::bytea[])"
            cursor.execute(query, (entries,), prepare=True)

        yield BareLoop(keys, fetch, insert)


def _sealed(customers: int) -> tuple[list[AESGCM], list[Row]]:
    """A key per customer, and their values."""
    keys, rows = [], []
    for index in range(customers):
        key = AESGCM(os.urandom(32))
        keys.append(key)
        for name, value in values_of(index).items():
            nonce = os.urandom(_NONCE_BYTES)
            sealed = nonce + key.encrypt(nonce, str(value.value).encode(), name.encode())
            rows.append((customer_number(index), name, sealed))
    return keys, rows
