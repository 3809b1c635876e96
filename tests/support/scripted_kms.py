"""A KMS that gives the answers it was told: for what a real one does not show on demand."""

import base64
import json
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = b"canary-plaintext-of-a-data-key-1"
TOKEN = "canary-token"


@dataclass(frozen=True)
class Reply:
    """An answer; `headers` besides those that every one has."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def said(status: int, document: object, **headers: str) -> Reply:
    """An answer in JSON; `Retry_After="1"` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(document).encode(), named)


def results(status: int, *items: dict[str, str]) -> Reply:
    """The answer to a batch."""
    return said(status, {"data": {"batch_results": list(items)}})


PLAIN = {"plaintext": base64.b64encode(SECRET).decode()}
GOOD = results(200, PLAIN)
REFUSED = said(403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
_ACCEPTED = {"client_token": TOKEN, "lease_duration": 3600, "renewable": True}
RENEWED = said(200, {"auth": _ACCEPTED})
LOOKED_UP = said(200, {"data": {"id": TOKEN, "ttl": 3600, "renewable": True}})


class ScriptedKms:
    """An HTTP server that gives the answers it was told, the last one for ever; None cuts the connection.

    Questions about the token are answered as those of a valid one and are not counted, except with
    `token_answers`. `by_key` are answers to whatever is asked of one key, instead of those in order. While
    `gate` is clear, answers wait.
    """

    def __init__(self) -> None:
        self.answers: list[Reply | None] = [GOOD]
        self.token_answers: list[Reply | None] = [LOOKED_UP]
        self.by_key: dict[str, Reply | None] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.tokens: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        kms = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                reply = kms.reply(self.path, body, self.headers.get("X-Vault-Token", ""))
                self.close_connection = reply is None
                if reply is None:
                    return
                with suppress(OSError):
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def paths(self) -> list[str]:
        """What was asked, without questions about the token."""
        return [path for path, _ in self.requests]

    def reply(self, path: str, body: bytes, token: str) -> Reply | None:
        """The answer to one request."""
        if path == "/v1/auth/token/renew-self":
            # asked by the thread that keeps the token alive, whenever it comes to it
            return RENEWED
        if path == "/v1/auth/token/lookup-self":
            return self.token_answers.pop(0) if len(self.token_answers) > 1 else self.token_answers[0]
        with self._lock:
            self.requests.append((path, json.loads(body or b"{}")))
            self.tokens.append(token)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            key = path.rpartition("/")[2]
            if key in self.by_key:
                answer = self.by_key[key]
            else:
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.gate.wait(30)
        with self._lock:
            self._at_once -= 1
        return answer


@contextmanager
def scripted_kms() -> Iterator[ScriptedKms]:
    """One that answers until the end of the block."""
    kms = ScriptedKms()
    thread = threading.Thread(target=kms.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield kms
    finally:
        kms.gate.set()
        kms.server.shutdown()
        thread.join()
        kms.server.server_close()


def all_that_hangs_on(error: BaseException) -> str:
    """The error as it is logged at most: repr, attributes and traceback of it and all that it leads to."""
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and one not in seen:
            seen.append(one)
            pending += [one.__cause__, one.__context__]
    texts = [f"{one!r} {one.__dict__}" + "".join(traceback.format_exception(one)) for one in seen]
    return "\n".join(texts)
