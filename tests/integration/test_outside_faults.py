"""An object store that is away, slow or not what it seems: it is told, in bounded time; nothing is lost."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.audit import ORIGIN, Log, vkey_of
from tests.support.faults_proxy import proxy_to
from tests.support.object_store import (
    BUCKET,
    Fault,
    LostAnswer,
    S3Server,
    Silence,
    Status,
    Unconditional,
    object_store,
)
from vault.audit import outside_buckets
from vault.audit.outside_objects import ObjectStore
from vault.audit.startup import check_outside
from vault.domain.buckets import Bucket
from vault.domain.errors import IntegrityError, StoreUnavailableError
from vault.domain.system import SystemClock, SystemRandomness
from vault.identity.authority import Authority

CHECKPOINTS = f"{ORIGIN}/checkpoints"
PATH = f"{CHECKPOINTS}/{7:020d}"
SILENT = "does not answer as it should: check its endpoint, region and credentials"
REFUSED = "refuses: the credentials must allow to list, get and put under DATAVAULT_OUTSIDE_STORE"
MISSING = "no such bucket: check DATAVAULT_OUTSIDE_STORE"


@pytest.fixture
def server() -> Iterator[S3Server]:
    with object_store() as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside_buckets, "REQUEST_SECONDS", 0.5)


def calls(store: ObjectStore) -> tuple[Callable[[], object], ...]:
    return (
        lambda: store.put(PATH, b"seven"),
        lambda: store.get(PATH),
        lambda: store.entries(CHECKPOINTS),
        lambda: store.last(CHECKPOINTS),
    )


def assert_told(server: S3Server, store: ObjectStore, message: str) -> None:
    """Every call fails with the message, and with nothing of what the library or the store said."""
    for call in calls(store):
        with pytest.raises(StoreUnavailableError, match=message) as caught:
            call()
        error = caught.value
        assert (error.__cause__, error.__suppress_context__) == (None, True)
        for word in (server.key, server.secret, "127.0.0.1", "TheTestSaysSo", BUCKET.name):
            assert word not in error.message


@pytest.mark.parametrize("fault", [Status(500), Status(503), Status(429), Silence(), LostAnswer()], ids=str)
def test_an_object_store_in_trouble_is_unavailable(server: S3Server, fault: Fault) -> None:
    """Errors, no answer, or an answer that was lost: every call ends, and goes through once it is over."""
    store = server.store()
    with server.trouble(fault):
        assert_told(server, store, SILENT)
    store.put(PATH, b"seven")
    assert store.last(CHECKPOINTS) == PATH


def test_an_object_store_that_is_stopped_is_unavailable(server: S3Server) -> None:
    """Refused, or cut in the middle; it goes on with the same store when it is back."""
    with proxy_to(server.address) as proxy:
        store = server.store(AWS_ENDPOINT_URL=f"http://127.0.0.1:{proxy.port}")
        store.put(PATH, b"seven")
        proxy.refuse()
        assert_told(server, store, SILENT)
        proxy.cut()
        assert store.get(PATH) == b"seven"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, REFUSED),
        ({"AWS_ACCESS_KEY_ID": "another"}, REFUSED),
        ({"bucket": Bucket("s3", BUCKET.name, "another/prefix")}, REFUSED),
    ],
    ids=str,
)
def test_credentials_that_may_not_are_told(server: S3Server, wrong: dict[str, str], message: str) -> None:
    """A wrong secret, an unknown key, or a prefix that the key may not use: the message names the setting."""
    store = server.store(**wrong)  # type: ignore[arg-type]
    for call in (lambda: store.put(PATH, b"seven"), lambda: store.get(PATH)):
        with pytest.raises(StoreUnavailableError, match=message):
            call()


def test_a_bucket_that_is_missing_is_not_an_empty_one(server: S3Server) -> None:
    """Where there is no bucket nothing can be compared: a start must not take that for a first start."""
    store = server.store(Bucket("s3", "another-bucket", ""))
    for call in (lambda: store.put(PATH, b"x"), lambda: store.entries(CHECKPOINTS), lambda: store.last("x")):
        with pytest.raises(StoreUnavailableError, match=f"{MISSING}|{REFUSED}"):
            call()


def test_an_object_store_that_overwrites_is_not_written(server: S3Server) -> None:
    """One that ignores the condition is noticed before the first entry, and told as what it is."""
    store, before = server.store(Bucket("s3", BUCKET.name, f"{BUCKET.prefix}/plain")), server.store()
    before.put(PATH, b"seven")
    with server.trouble(Unconditional()):
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="ignores If-None-Match and overwrites"):
                store.put(PATH, b"seven")
    assert store.entries(CHECKPOINTS) == []
    store.put(PATH, b"seven")


def test_the_documented_rights_are_enough_and_no_more(server: S3Server) -> None:
    """The policy of the documentation lists, gets and puts; it does not delete, nor reach another prefix."""
    server.store().put(PATH, b"seven")
    objects = server.store()._objects
    with pytest.raises(Exception, match="AccessDenied"):
        objects.delete(PATH)
    assert server.store().get(PATH) == b"seven"
    with pytest.raises(StoreUnavailableError, match=REFUSED):
        server.store(Bucket("s3", BUCKET.name, "datavault")).put("staging", b"")


def test_a_custom_ca_is_trusted_and_no_other(tmp_path: Path) -> None:
    """With the CA of the setting the store is used over TLS; with another one it does not answer."""
    own, other = (
        Authority.open(tmp_path / name, SystemClock(), SystemRandomness()) for name in ("own", "other")
    )
    certificate = own.issue_server(["localhost"], ["127.0.0.1"]).write(tmp_path, "objects")
    with object_store(certificate, own.certificate_path) as secure:
        store = secure.store(ca=own.certificate_path.read_bytes())
        store.put(PATH, b"seven")
        assert store.get(PATH) == b"seven"
        for ca in (None, other.certificate_path.read_bytes()):
            assert_told(secure, secure.store(ca=ca), SILENT)


def test_a_start_does_not_go_on_without_the_object_store(server: S3Server, tmp_path: Path) -> None:
    """While it does not answer the log is not compared, so it is not served."""
    log = Log(tmp_path, outside=server.store(Bucket("s3", BUCKET.name, f"{BUCKET.prefix}/start")))
    log.grow(3)
    opened = log.refreshed()
    with log.database.read() as connection:
        check_outside(connection, opened, log.outside, vkey_of())
        with server.trouble(Status(503)), pytest.raises(StoreUnavailableError, match=SILENT):
            check_outside(connection, opened, log.outside, vkey_of())


def test_an_answer_that_was_lost_is_no_second_history(server: S3Server, tmp_path: Path) -> None:
    """What the object store has taken and not acknowledged is delivered once more, and marked."""
    log = Log(tmp_path, outside=server.store(Bucket("s3", BUCKET.name, f"{BUCKET.prefix}/lost")))
    log.grow(1)
    log.append(2)
    integrator = log.integrator()
    with server.trouble(LostAnswer()), pytest.raises(StoreUnavailableError):
        integrator.run_once()
    assert log.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL") == [(1,)]
    assert log.outside.last(CHECKPOINTS) == f"{CHECKPOINTS}/{3:020d}"
    integrator.run_once()
    assert log.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL") == [(0,)]
    with pytest.raises(IntegrityError):
        log.outside.put(f"{CHECKPOINTS}/{3:020d}", b"another")
