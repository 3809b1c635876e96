"""Erasing in tests, and looking for what must not be left: in every table, in files, outside."""

import base64
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.pipelines import House
from tests.support.service import Place, run_sql
from vault.erasing.receipts import Erasure, ErasureOutcome
from vault.erasing.retaining import RetentionChange, RetentionOutcome

OFFICE = "privacy-office"
CANARY = "Zebrafink-7391"
"""Stands in values that no ground keeps."""


def erase(house: House, number: str, *, request_id: str = "", **more: Any) -> ErasureOutcome:
    """Erase as the privacy office; raises the domain error."""
    made = request_id or house.pipelines.recorder.new_id()
    return house.pipelines.erasure.erase(house.caller(OFFICE), Erasure(made, number, **more))


def set_retention(house: House, number: str, **change: str) -> RetentionOutcome:
    """`ended_on` or `hold`, as the privacy office."""
    made = house.pipelines.recorder.new_id()
    return house.pipelines.retention.set(house.caller(OFFICE), RetentionChange(made, number, **change))


def evidence(house: House, receipt_id: str) -> bytes:
    return house.pipelines.evidence.open(house.caller(OFFICE), receipt_id).document


@dataclass(frozen=True)
class Traces:
    """What leads to a customer's data: secrets of one key class, or of the subject itself."""

    needles: Mapping[str, bytes]

    def found(self, places: Mapping[str, bytes]) -> set[tuple[str, str]]:
        """(needle, place) of all that can be found, as they are, in hex or in base64."""
        return {
            (name, place)
            for name, needle in self.needles.items()
            for place, content in places.items()
            if any(spelling in content for spelling in _spellings(needle))
        }


def _spellings(needle: bytes) -> Iterable[bytes]:
    yield needle
    yield needle.hex().encode("ascii")
    # without the last characters, which depend on what follows
    yield base64.b64encode(needle)[: len(needle) * 4 // 3 // 4 * 4]


def class_traces(place: Place, subject: bytes, classes: Collection[str]) -> Traces:
    """Wrapped keys, their bodies, DEK ids and ciphertexts of some key classes of a subject."""
    needles: dict[str, bytes] = {}
    keys = run_sql(place, "SELECT key_class, dek_id, wrapped FROM subject_key WHERE subject = ?", subject)
    values = run_sql(
        place, "SELECT key_class, attribute, ciphertext FROM attribute_value WHERE subject = ?", subject
    )
    for number, (key_class, dek_id, wrapped) in enumerate(keys):
        if key_class in classes:
            needles[f"dek id {number}"] = bytes(dek_id)
            needles[f"wrapped {number}"] = bytes(wrapped)
            needles[f"wrapped body {number}"] = base64.b64decode(bytes(wrapped).rpartition(b":")[2])
    for key_class, attribute, ciphertext in values:
        if key_class in classes and ciphertext is not None:
            needles[f"ciphertext {attribute}"] = bytes(ciphertext)[36:80]
    return Traces(needles)


def subject_traces(place: Place, subject: bytes) -> Traces:
    """What the vault knows the customer by: lookup MACs, encrypted number, audit pseudonym."""
    macs = run_sql(place, "SELECT mac FROM subject_lookup WHERE subject = ?", subject)
    ((pseudonym,),) = run_sql(place, "SELECT audit_pseudonym FROM subject WHERE subject = ?", subject)
    ((number,),) = run_sql(
        place,
        "SELECT ciphertext FROM attribute_value WHERE subject = ? AND attribute = '$customer-number'",
        subject,
    )
    needles = {f"mac {index}": bytes(mac) for index, (mac,) in enumerate(macs)}
    return Traces(needles | {"number": bytes(number)[36:], "pseudonym": pseudonym.encode()})


def tables(place: Place) -> dict[str, bytes]:
    """Everything that every table holds, by table: values one after the other."""
    every = (
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        if isinstance(place, str)
        else "SELECT name FROM sqlite_master WHERE type = 'table'"
    )
    return {name: b"\0".join(_cells(place, name)) for (name,) in run_sql(place, every)}


def _cells(place: Place, table: str) -> Iterator[bytes]:
    for row in run_sql(place, f'SELECT * FROM "{table}"'):
        for cell in row:
            yield cell if isinstance(cell, bytes) else str(cell).encode("utf-8", "replace")


def files(home: Path) -> dict[str, bytes]:
    """The database file with its WAL, and everything in the outside store."""
    database = home / "datavault.db"
    found = {path.name: path.read_bytes() for path in (database, Path(f"{database}-wal")) if path.exists()}
    outside = home / "outside"
    return found | {
        str(path.relative_to(home)): path.read_bytes() for path in outside.rglob("*") if path.is_file()
    }


def subject_id(house: House, number: str) -> bytes:
    """The subject id of a customer."""
    lookup = house.pipelines.tenant_keys.lookup("retail")
    ((found,),) = house.sql("SELECT subject FROM subject_lookup WHERE mac = ?", lookup.mac(number))
    return bytes(found)
