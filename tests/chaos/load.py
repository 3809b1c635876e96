"""Callers of the service: what they ask is random, what they are told goes into the history."""

import contextlib
import itertools
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc

from tests.chaos.calls import CALLERS, Asked, ask
from tests.chaos.cluster import SERVERS, Cluster
from tests.chaos.history import CHANGES, Answer, History, Kind, Op
from tests.support.faults import PATIENCE
from vault.client import Client, DatavaultClientError

CUSTOMERS: Final = 30
THREADS_PER_SERVER: Final = 4
_WEIGHTS: Final = {
    Kind.READ: 60,
    Kind.WRITE: 14,
    Kind.GRANT: 18,
    Kind.WITHDRAW: 5,
    Kind.OBJECT: 3,
    Kind.LIFT: 8,
    Kind.ERASE: 3,
}
_TAKES_AWAY: Final = frozenset({Kind.WITHDRAW, Kind.OBJECT, Kind.ERASE})
_UNSURE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
_TIMEOUT_SECONDS: Final = 8.0
_ATTEMPTS: Final = 12
_HASTY: Final = 0.2
_HASTY_SECONDS: Final = (0.005, 0.04)
_PAUSE_SECONDS: Final = 0.05
_AGAIN_SECONDS: Final = 0.3


class Load:
    """Callers on threads, each with a server of its own that it asks first."""

    def __init__(self, cluster: Cluster, history: History, seed: int) -> None:
        self._cluster = cluster
        self._history = history
        self._seed = seed
        self._clients = {
            (server, caller): Client(cluster.connection(server, caller))
            for server in range(SERVERS)
            for caller in set(CALLERS.values())
        }
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self.broken: list[BaseException] = []
        """What ended a thread: a mistake in here, or an exception that the client must not raise."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The callers call inside the block."""
        threads = [
            self._thread(self._call_on, server, number)
            for server in range(SERVERS)
            for number in range(THREADS_PER_SERVER)
        ]
        threads.append(self._thread(self._switch_on))
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def read_all(self) -> None:
        """Read every customer on every server: what is true in the end, everywhere."""
        for server, number in itertools.product(range(SERVERS), range(CUSTOMERS)):
            self._try(server, Asked(Kind.READ, _customer(number)))

    def count(self) -> Counter[tuple[Kind, Answer]]:
        """How many calls ended how."""
        return Counter((op.kind, op.answer) for op in self._history.ops)

    # --- the callers ---------------------------------------------------------------------------------------

    def _thread(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self.broken.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def _call_on(self, server: int, number: int) -> None:
        source = random.Random(f"{self._seed}/{server}/{number}")  # noqa: S311  repeatable, no secret
        while not self._stop.is_set():
            (kind,) = source.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
            asked = self._draw(kind, _customer(source.randrange(CUSTOMERS)))
            op = self._until_answered(server, asked, source)
            if asked.kind in _TAKES_AWAY and op.answer is Answer.DONE:
                # at once and elsewhere: where a promise that is kept late would be seen
                other = (server + source.randrange(1, SERVERS)) % SERVERS
                self._try(other, Asked(Kind.READ, asked.customer))
            self._stop.wait(source.uniform(0, 2 * _PAUSE_SECONDS))

    def _draw(self, kind: Kind, customer: str) -> Asked:
        if kind is Kind.READ:
            return Asked(kind, customer)
        number = next(self._numbers)
        return Asked(kind, customer, f"{kind}-{number}", f"v{number}" if kind is Kind.WRITE else "")

    def _until_answered(self, server: int, asked: Asked, source: random.Random) -> Op:
        """A change without an answer is tried again, perhaps elsewhere, with the same request id. Some are
        not waited for: then the repeat meets the first attempt while it is under way."""
        hasty = asked.kind in CHANGES and source.random() < _HASTY
        op = self._try(server, asked, source.uniform(*_HASTY_SECONDS) if hasty else _TIMEOUT_SECONDS)
        for _ in range(_ATTEMPTS):
            if op.answer is not Answer.UNKNOWN:
                break
            if not hasty:
                self._stop.wait(source.uniform(0, 2 * _AGAIN_SECONDS))
            if asked.kind not in CHANGES:
                break
            hasty = False
            op = self._try(source.randrange(SERVERS), asked)
        return op

    def _try(self, server: int, asked: Asked, timeout: float = _TIMEOUT_SECONDS) -> Op:
        start = time.monotonic()
        try:
            told = ask(self._clients[server, CALLERS[asked.kind]], asked, timeout)
        except DatavaultClientError as error:
            answer = Answer.UNKNOWN if error.code in _UNSURE else Answer.REFUSED
            told = {"answer": answer, "reason": error.reason.value, "value": asked.value}
        op = Op(
            asked.kind,
            asked.customer,
            server,
            start,
            time.monotonic(),
            request_id=asked.request_id,
            **told,
        )
        self._history.add(op)
        return op

    # --- the security team ---------------------------------------------------------------------------------

    def _switch_on(self) -> None:
        source = random.Random(f"{self._seed}/policies")  # noqa: S311  repeatable, no secret
        open_ = True
        self._switch(open_=open_)
        while not self._stop.wait(source.uniform(3, 8) if open_ else source.uniform(0.5, 2)):
            open_ = not open_
            self._switch(open_=open_)
        if not open_:
            self._switch(open_=True)

    def _switch(self, *, open_: bool) -> None:
        """Put the policies with or without the rule in place, and see that every server has them."""
        start = time.monotonic()
        bundle = self._cluster.put_policies(open_=open_)
        waiting = set(range(SERVERS))
        while waiting:
            assert time.monotonic() < start + PATIENCE, f"servers {waiting} did not take other policies"
            for server in sorted(waiting):
                node = self._cluster.nodes[server]
                if self._bundle(server) == bundle:
                    waiting.discard(server)
                elif node.up.is_set():
                    node.send(signal.SIGHUP)
            time.sleep(_PAUSE_SECONDS)
        self._history.add(Op(Kind.SWITCH, "", -1, start, time.monotonic(), Answer.DONE, value=bundle))

    def _bundle(self, server: int) -> str:
        """The hash of a server's policies, '' where it does not say."""
        try:
            return self._clients[server, CALLERS[Kind.SWITCH]].get_bundle(timeout=2.0).bundle_hash
        except DatavaultClientError:
            return ""


def _customer(number: int) -> str:
    return f"customer-{number}"
