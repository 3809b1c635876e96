"""An S3 server on loopback: moto, with its IAM, so that signatures and policies count.

Its user has the rights of docs/operations/outside-store-policy.json. moto looks whether an object is there,
then writes it; object stores do both in one step, so this one answers one request at a time.

    with object_store() as server:
        store = server.store()
        with server.trouble(Status(503)): ...
"""

import contextlib
import logging
import os
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from unittest.mock import patch

import boto3
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.authorization import enable_iam_authentication
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from vault.audit.outside_buckets import open_bucket
from vault.audit.outside_objects import ObjectStore
from vault.domain.buckets import Bucket

BUCKET: Final = Bucket("s3", "bank-outside", "datavault/production")
REGION: Final = "eu-central-1"
POLICY: Final = Path(__file__).parents[2] / "docs" / "operations" / "outside-store-policy.json"


@dataclass(frozen=True)
class Exchange:
    """One request, as a fault sees it. `forward` has the object store answer."""

    environ: dict[str, Any]
    forward: Callable[[], Response]
    healed: threading.Event


class Fault(Protocol):
    """How requests are answered instead."""

    def answer(self, exchange: Exchange) -> Response: ...


@dataclass(frozen=True)
class Status:
    """The object store is not asked."""

    code: int

    def answer(self, exchange: Exchange) -> Response:
        return Response("<Error><Code>TheTestSaysSo</Code></Error>", self.code)


@dataclass(frozen=True)
class Silence:
    """The request is taken and nothing is answered."""

    def answer(self, exchange: Exchange) -> Response:
        exchange.healed.wait()
        return Response("", 500)


@dataclass(frozen=True)
class LostAnswer:
    """The object store does it, and says that it has failed."""

    def answer(self, exchange: Exchange) -> Response:
        exchange.forward()
        return Response("", 500)


@dataclass(frozen=True)
class Unconditional:
    """An object store that does not know conditions says that it has written."""

    def answer(self, exchange: Exchange) -> Response:
        answer = exchange.forward()
        return answer if answer.status_code != 412 else Response("", 200, {"ETag": '"x"'})


class S3Server:
    """`requests` counts what came so far, by method."""

    def __init__(self, certificate: tuple[Path, Path] | None, ca: Path | None) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._turn = threading.Lock()
        self._fault: tuple[Fault, threading.Event] | None = None
        self.requests: Counter[str] = Counter()
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, ssl_context=context)
        self.address = f"{'https' if certificate else 'http'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.key, self.secret, self._ca = "made", "below", ca

    def set_up(self) -> None:
        """Make the bucket, and a user with the rights that the documentation gives the service."""
        with contextlib.closing(self._client("s3")) as s3:
            s3.create_bucket(Bucket=BUCKET.name, CreateBucketConfiguration={"LocationConstraint": REGION})
        with contextlib.closing(self._client("iam")) as iam:
            iam.create_user(UserName="datavault")
            iam.put_user_policy(
                UserName="datavault", PolicyName="outside", PolicyDocument=POLICY.read_text("utf-8")
            )
            key = iam.create_access_key(UserName="datavault")["AccessKey"]
        self.key, self.secret = key["AccessKeyId"], key["SecretAccessKey"]

    def environment(self, **changes: str) -> dict[str, str]:
        """The variables that lead the service here."""
        return {
            "DATAVAULT_OUTSIDE_STORE": str(BUCKET),
            "AWS_ENDPOINT_URL": self.address,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            **changes,
        }

    def store(self, bucket: Bucket = BUCKET, ca: bytes | None = None, **changes: str) -> ObjectStore:
        """A store of its own, as another process would open it. For one thread: it sets the environment."""
        with patch.dict(os.environ, self.environment(**changes)):
            return ObjectStore(open_bucket(bucket, ca))

    @contextlib.contextmanager
    def trouble(self, fault: Fault) -> Iterator[None]:
        """Inside the block every request meets the fault; at its end those that wait are let go."""
        healed = threading.Event()
        self._fault = fault, healed
        try:
            yield
        finally:
            self._fault = None
            healed.set()

    def plant(self, *paths: str) -> None:
        """Put objects there without a request."""
        backend = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
        for path in paths:
            backend.put_object(BUCKET.name, f"{BUCKET.prefix}/{path}", b"")

    def close(self) -> None:
        """End everything."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.address,
            region_name=REGION,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            verify=str(self._ca) if self._ca else None,
        )

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        def forward() -> Response:
            with self._turn:
                return Response.from_app(self._moto, environ, buffered=True)

        self.requests[environ["REQUEST_METHOD"]] += 1
        fault = self._fault
        answer = fault[0].answer(Exchange(environ, forward, fault[1])) if fault else forward()
        return answer(environ, start_response)


@contextlib.contextmanager
def object_store(certificate: tuple[Path, Path] | None = None, ca: Path | None = None) -> Iterator[S3Server]:
    """A server with an empty bucket, gone at the end of the block; over TLS with a `certificate` of `ca`. One
    after another: moto's memory is that of the process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = S3Server(certificate, ca)
    try:
        _forget()
        server.set_up()
        with enable_iam_authentication():
            yield server
    finally:
        server.close()


def _forget() -> None:
    for name in ("s3", "iam"):
        get_backend(name).reset()
