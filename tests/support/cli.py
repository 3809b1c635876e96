"""A policies folder, files, and a server in memory for the tests of the command line and the import."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from click.testing import CliRunner, Result

from tests.support import policy as example
from vault.cli.application import application
from vault.client import errors, results
from vault.client.words import ErrorReason
from vault.domain.types import Attribute
from vault.policy.bundle import bundle_from_files

CANARY = "Zebrafink-7391"
"""Stands in data where no output may show it."""

MORE_ATTRIBUTES = """\
  given-name: {type: string, category: pd:Contact, key_class: contact, forms: [clear]}
  postcode:
    {type: string, category: pd:Contact, key_class: contact, forms: [clear], validation: {max_bytes: 12}}
  occupation: {type: string, category: pd:Contact, key_class: contact, forms: [clear]}
  married: {type: bool, category: pd:Contact, key_class: contact, forms: [clear]}
  contacts:
    {type: int64, category: pd:Contact, key_class: contact, forms: [clear], validation: {minimum: "0"}}
  balance: {type: decimal, scale: 2, category: pd:Financial, key_class: financial, forms: [clear]}
  seen: {type: timestamp, category: pd:Contact, key_class: contact, forms: [clear]}
  score: {type: double, category: pd:Contact, key_class: contact, forms: [clear]}
  photo: {type: bytes, category: pd:Contact, key_class: contact, forms: [clear]}
  holdings: {type: json, category: pd:Financial, key_class: financial, forms: [clear]}
"""
POLICY_FILES = example.example_files(attributes=example.ATTRIBUTES + MORE_ATTRIBUTES)

MAP = """\
file: {delimiter: ";"}
customer_number: {column: number}
jurisdictions: [EU]
attributes:
  given-name: {column: first name}
  birth-date: {column: born, convert: {date: "%Y%m%d"}}
  balance: {column: balance, missing: [unknown]}
"""
HEADER = "number;first name;born;balance\n"


def attributes() -> dict[str, Attribute]:
    """The attributes of the test policies."""
    return dict(bundle_from_files(POLICY_FILES).attributes)


def policies(folder: Path) -> Path:
    """The test policies as a folder."""
    return example.write_folder(folder / "policies", POLICY_FILES)


def write(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
    """A file with exactly these bytes."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def rows(count: int, first: int = 1) -> str:
    """Good rows for `MAP`."""
    return "".join(f"C{number};Ana;19840530;{number}.50\n" for number in range(first, first + count))


def failure(reason: str = "UNREACHABLE", message: str = "the server cannot be reached") -> errors.Unavailable:
    """What the client raises when there is no server."""
    return errors.Unavailable(ErrorReason(reason), message, grpc.StatusCode.UNAVAILABLE)


class MemoryVault:
    """A client and its server in one: writes happen once per request id, in memory.

    `refuse` maps a customer number to a reason. `break_after` items a batch raises `break_with`, after
    `unacknowledged` further items were written without an answer.
    """

    def __init__(self) -> None:
        self.customers: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        self.requests: dict[str, Any] = {}
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.refuse: dict[str, str] = {}
        self.break_after: int | None = None
        self.break_with: BaseException = failure()
        self.unacknowledged = 0
        self.answers: dict[str, Any] = {}
        self.options: list[dict[str, str]] = []

    def __call__(self, options: dict[str, str]) -> Self:
        self.options.append(options)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write_many(self, items: Iterable[results.WriteItem]) -> Iterator[results.WriteResult]:
        source = enumerate(items)
        for index, item in source:
            if index == self.break_after:
                self._write(item)
                for _, lost in zip(range(self.unacknowledged), source, strict=False):
                    self._write(lost[1])
                raise self.break_with
            yield self._write(item, index)

    def _write(self, item: results.WriteItem, index: int = 0) -> results.WriteResult:
        assert item.request_id is not None
        reason = self.refuse.get(item.customer_number)
        if reason is not None:
            error = errors.DatavaultClientError(ErrorReason(reason), "no")
            return results.WriteResult(index, item.customer_number, item.request_id, None, error)
        replayed = item.request_id in self.requests
        if not replayed:
            self.requests[item.request_id] = item
            self.writes.append(item.customer_number)
            self.customers.setdefault(item.customer_number, {}).update(item.values)
        receipt = results.WriteReceipt(
            dict.fromkeys(item.values, 1), False, replayed, item.request_id, "r", 1
        )
        return results.WriteResult(index, item.customer_number, item.request_id, receipt, None)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Every other method notes its call and gives (or raises) what `answers` holds for it."""

        def call(first: str = "", *args: Any, **details: Any) -> Any:
            self.calls.append((name, first, {**details, **({"args": args} if args else {})}))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call


def event_receipt(**changed: Any) -> results.EventReceipt:
    """The answer to a consent write."""
    values: dict[str, Any] = {
        "event_id": "e1",
        "seq": 1,
        "effective": {},
        "replayed": False,
        "request_id": "q1",
        "record_id": "r1",
        "position": 7,
    }
    return results.EventReceipt(**{**values, **changed})


def run(*arguments: str | Path, vault: Any = None, typed: str | None = None) -> Result:
    """`datavault ARGUMENTS` with `vault` as its server; `typed` comes from its input."""
    return CliRunner().invoke(application, [str(each) for each in arguments], obj=vault, input=typed)


def report(path: Path) -> list[dict[str, Any]]:
    """The lines of a rejects report."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
