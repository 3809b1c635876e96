"""Callers that go on reading and writing until the service fails them, and remember what they were told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.faults import FRAUD, PATIENCE, add_customer, eventually
from tests.support.service import RunningService
from vault.client import DatavaultClientError


@dataclass
class Writing:
    """One customer that one thread writes: write n sets both attributes, of two key classes, to n.

    `acknowledged` counts the writes that were answered, with their record ids; the one after them may have
    been sent, and then nobody knows whether it happened.
    """

    number: str
    record_ids: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        return len(self.record_ids)

    def values(self, count: int) -> dict[str, str | int]:
        return {"email": f"{count}@mail.example", "income": count}

    def request_id(self, count: int) -> str:
        return f"{self.number}.{count}"


class Traffic:
    """Some readers and writers, each on a thread with calls one after the other."""

    def __init__(self, service: RunningService, *, readers: int, writers: int) -> None:
        self._service = service
        self._read_number = add_customer(service)
        self.read_record_ids: list[str] = []
        self.failures: list[DatavaultClientError] = []
        self.writings = [Writing(service.customer()) for _ in range(writers)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._reads, daemon=True) for _ in range(readers)]
        self._threads += [
            threading.Thread(target=self._writes, args=[writing], daemon=True) for writing in self.writings
        ]

    @property
    def acknowledged(self) -> int:
        """How many calls were answered."""
        return len(self.read_record_ids) + sum(writing.acknowledged for writing in self.writings)

    @property
    def record_ids(self) -> set[str]:
        """The records that the answers named."""
        written = {record_id for writing in self.writings for record_id in writing.record_ids}
        return written.union(self.read_record_ids)

    def wait_for(self, answers: int) -> None:
        eventually(lambda: self.acknowledged >= answers, f"{answers} calls are answered")

    @contextmanager
    def running(self) -> Iterator[None]:
        """The callers call inside the block, each until its first failure."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)

    def _reads(self) -> None:
        client = self._service.client(FRAUD)
        with self._noting_failure():
            while not self._stop.is_set():
                answer = client.read_attributes(self._read_number, purpose=FRAUD, attributes=["email"])
                self.read_record_ids.append(answer.record_id)

    def _writes(self, writing: Writing) -> None:
        with self._noting_failure():
            while not self._stop.is_set():
                write_next(self._service, writing)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except DatavaultClientError as failure:
            self.failures.append(failure)


def write_next(service: RunningService, writing: Writing) -> bool:
    """Send the write after the last acknowledged one, perhaps again; whether it had happened before."""
    count = writing.acknowledged + 1
    receipt = service.client("importer").write_attributes(
        writing.number,
        writing.values(count),
        jurisdictions=["EU"],
        request_id=writing.request_id(count),
    )
    assert set(receipt.versions.values()) == {count}
    writing.record_ids.append(receipt.record_id)
    return receipt.replayed
