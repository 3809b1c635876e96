"""What happens at the same moment, on each store: reads, writes and consents of several replicas.

docs/architecture/transactions.md says what each transaction locks; here it is seen to be enough.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import eventually, together
from tests.support.faults_proxy import proxy_to
from tests.support.pipelines import House, another_replica, open_house
from tests.support.postgres import PostgresServer
from vault.audit.append import Appender
from vault.client import DenialReason
from vault.domain.errors import DatavaultError, VersionMismatchError
from vault.store.consents import SqlConsentRepository
from vault.store.subjects import SubjectRepository
from vault.writes import Written

pytestmark = pytest.mark.usefixtures("every_store")

EMAIL = {"email": "ana@b.example"}
OFFERS = ("personalization-engine", "personalised-offers")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, every_store: str) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture(scope="module")
def replica(house: House) -> House:
    """Another process, as it were."""
    return another_replica(house)


@pytest.fixture
def ana(request: pytest.FixtureRequest) -> str:
    return request.node.originalname.removeprefix("test_")[:40]


def seen(house: House, number: str) -> Any:
    answer = house.read("fraud-detection", number, "fraud-detection", ["email"])
    return answer.value("email") or answer.denied["email"].reason


def offered(house: House, number: str) -> Any:
    """What the customer's consent decides about."""
    answer = house.read(OFFERS[0], number, OFFERS[1], ["email"])
    return answer.value("email") or answer.denied["email"].reason


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except DatavaultError as error:
        return error


# --- reads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["withdrawn", "objected"])
def test_no_read_that_starts_after_a_withdrawal_gets_anything(
    house: House, replica: House, ana: str, state: str
) -> None:
    """Readers on two replicas see the value until then, and not once after the answer, ten times over."""
    number = f"{ana}-{state}"
    house.write(number, EMAIL)
    for _ in range(10):
        house.record(number, OFFERS[1], "given")
        withdrawn, reads, late = threading.Event(), [], []

        def go_on_reading(
            on: House, withdrawn: threading.Event = withdrawn, reads: Any = reads, late: Any = late
        ) -> None:
            while True:
                after = withdrawn.is_set()
                found = offered(on, number)
                (late if after else reads).append(found)
                if after:
                    return

        def withdraw(withdrawn: threading.Event = withdrawn, reads: Any = reads) -> None:
            eventually(lambda: len(reads) >= 4, "readers are at it")
            house.record(number, OFFERS[1], state)
            withdrawn.set()

        together(lambda: go_on_reading(house), lambda: go_on_reading(replica), withdraw)
        assert any(isinstance(found, str) and "@" in found for found in reads)
        assert all(isinstance(found, DenialReason) for found in late)
        if state == "objected":
            house.record(number, OFFERS[1], "objection-lifted")


# --- first writes -----------------------------------------------------------------------------------------


def test_two_first_writes_make_one_customer_with_one_key(house: House, replica: House, ana: str) -> None:
    """Both are carried out, one after the other; one subject, and one DEK in use per class."""
    for turn in range(5):
        number = f"{ana}-{turn}"
        written = together(
            lambda number=number: house.write(number, EMAIL),
            lambda number=number: replica.write(number, {"email": "second@b.example"}),
        )
        assert sorted(one.subject_created for one in written) == [False, True]
        assert sorted(dict(one.versions)["email"] for one in written) == [1, 2]
        newest = max(written, key=lambda one: dict(one.versions)["email"])
        assert seen(house, number) == ("ana@b.example" if newest is written[0] else "second@b.example")
        mac = house.pipelines.tenant_keys.lookup("retail").mac(number)
        rows = house.sql(
            "SELECT k.key_class, count(*) FROM subject_key AS k JOIN subject_lookup AS l"
            " ON l.subject = k.subject WHERE l.mac = ? GROUP BY k.key_class",
            mac,
        )
        assert rows == [("contact", 1)]


def test_a_first_consent_beside_a_first_write_makes_one_customer(
    house: House, replica: House, ana: str
) -> None:
    """Whoever is first creates the subject, and the other one finds it."""
    for turn in range(5):
        number = f"{ana}-{turn}"
        together(
            lambda number=number: house.write(number, EMAIL),
            lambda number=number: replica.record(number, OFFERS[1], "given"),
        )
        assert "@" in str(offered(replica, number))


# --- writes -----------------------------------------------------------------------------------------------


def test_of_two_writes_on_one_version_one_is_told_the_current_one(
    house: House, replica: House, ana: str
) -> None:
    """The other one is carried out: nothing is lost, and nothing written over unseen."""
    house.write(ana, EMAIL)
    for version in range(1, 6):
        expected = {"email": version}
        found = together(
            lambda expected=expected: outcome(lambda: house.write(ana, EMAIL, expected=expected)),
            lambda expected=expected: outcome(lambda: replica.write(ana, EMAIL, expected=expected)),
        )
        (refused,) = [one for one in found if isinstance(one, VersionMismatchError)]
        (written,) = [one for one in found if isinstance(one, Written)]
        assert dict(written.versions) == {"email": version + 1}
        assert str(version + 1) in refused.message


def test_one_request_sent_twice_at_once_is_carried_out_once(house: House, replica: House, ana: str) -> None:
    """Both get the one answer; also where the second one's condition no longer holds after the first."""
    house.write(ana, EMAIL)
    write = house.draft(ana, {"email": "b@b.example"}, expected={"email": 1}, request_id="only-once")
    (first,), (second,) = together(lambda: house.write_group([write]), lambda: replica.write_group([write]))
    assert isinstance(first, Written)
    assert isinstance(second, Written)
    assert first.record_id == second.record_id
    assert sorted((first.replayed, second.replayed)) == [False, True]
    events = together(
        lambda: house.record(ana, OFFERS[1], "withdrawn", request_id="one-consent"),
        lambda: replica.record(ana, OFFERS[1], "withdrawn", request_id="one-consent"),
    )
    assert events[0].token.event_id == events[1].token.event_id
    kept = house.sql("SELECT request_id FROM request WHERE request_id IN ('only-once', 'one-consent')")
    assert len(kept) == 2


def test_batches_in_opposite_order_do_not_wait_for_each_other(house: House, replica: House, ana: str) -> None:
    """The same customers, known and new, forwards on one replica and backwards on the other."""
    known = [f"{ana}-known-{n}" for n in range(10)]
    house.write_group([house.draft(number, EMAIL) for number in known])
    for turn in range(4):
        numbers = known + [f"{ana}-new-{turn}-{n}" for n in range(10)]

        def batch(on: House, order: list[str]) -> list[Any]:
            return on.write_group([on.draft(number, EMAIL) for number in order])

        done = together(
            lambda numbers=numbers: batch(house, numbers),
            lambda numbers=numbers: batch(replica, numbers[::-1]),
        )
        assert [one for each in done for one in each if not isinstance(one, Written)] == []


def test_quota_counts_every_read(house: House, replica: House) -> None:
    """Counters of two replicas add up."""

    def used() -> int:
        return sum(row[0] for row in house.sql("SELECT subjects FROM quota_use WHERE caller = 'call-centre'"))

    def read(on: House) -> None:
        for _ in range(10):
            on.read("call-centre", "quota", "customer-support", ["email"])

    before = used()
    together(*[lambda on=on: read(on) for on in (house, replica) * 2])
    assert used() - before == 40


# --- jobs -------------------------------------------------------------------------------------------------


def test_two_replicas_that_forget_what_is_old_do_not_fail(house: House, replica: House) -> None:
    """Both delete the same rows at the same time; every row goes once."""
    from vault.store.requests import RequestRepository

    far = 2**60
    requests = RequestRepository()

    def purge(on: House) -> int:
        with on.rooms.database.write() as connection:
            return requests.purge(connection, far, 1_000)

    (total,) = house.sql("SELECT count(*) FROM request")[0]
    done = together(lambda: purge(house), lambda: purge(replica))
    assert sum(done) == total


# --- the log ----------------------------------------------------------------------------------------------


def test_many_writers_leave_one_gapless_log(house: House, replica: House, ana: str) -> None:
    """Whatever was done here by two replicas at once: each record has its place, and the log verifies."""
    house.write(ana, EMAIL)
    together(*[lambda on=on: [seen(on, ana) for _ in range(15)] for on in (house, replica) * 2])
    report = house.verify()
    assert report.problems == []
    indices = [index for (index,) in house.sql('SELECT "index" FROM log_entry ORDER BY "index"')]
    assert indices == list(range(len(indices)))


def test_two_integrators_make_one_tree(house: House, replica: House, ana: str) -> None:
    """They take turns; no checkpoint is signed twice, and none is of another tree."""
    house.write(ana, EMAIL)
    for _ in range(5):
        seen(house, ana)
        together(*[lambda on=on: on.pipelines.integrator.run_once() for on in (house, replica)])
    assert house.verify().problems == []


class LostError(BaseException):
    """Stands for the end of a process."""


@pytest.mark.parametrize("where", [SubjectRepository, SqlConsentRepository, Appender])
def test_a_change_that_dies_leaves_nothing(
    house: House, ana: str, monkeypatch: pytest.MonkeyPatch, where: type
) -> None:
    """At any of its steps; the next one finds the locks free."""
    number = f"{ana}-{where.__name__}"
    house.write(number, EMAIL)
    step = {SubjectRepository: "put_values", SqlConsentRepository: "append_event", Appender: "append"}[where]
    whole, before = getattr(where, step), len(house.records())

    def die(*arguments: Any, **named: Any) -> Any:
        whole(*arguments, **named)
        raise LostError

    with monkeypatch.context() as patch:
        patch.setattr(where, step, die)
        with pytest.raises(LostError):
            house.record(number, OFFERS[1], "given") if step == "append_event" else house.write(number, EMAIL)
    assert len(house.records()) == before
    house.write(number, {"email": "next@b.example"})
    assert seen(house, number) == "next@b.example"
    assert offered(house, number) is DenialReason.CONSENT_MISSING


# --- PostgreSQL alone -------------------------------------------------------------------------------------


@pytest.fixture
def distant(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[tuple[House, Any]]:
    """A home whose database is behind a proxy that loses answers."""
    url = postgres_server.create()
    with proxy_to(f"127.0.0.1:{postgres_server.port}") as proxy:
        there = url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        with open_house(tmp_path, database_url=there) as opened:
            opened.write("ana", EMAIL)
            seen(opened, "ana")
            yield opened, proxy
    postgres_server.drop(url)


def lose_the_answer(
    monkeypatch: pytest.MonkeyPatch, proxy: Any, owner: type, method: str, *, after: bool
) -> None:
    """The statement of `method` reaches PostgreSQL, or not, and its answer does not come back."""
    whole, first = getattr(owner, method), [True]

    def instead(*arguments: Any, **named: Any) -> Any:
        if not (first and first.pop()):
            return whole(*arguments, **named)
        if not after:
            proxy.cut()
            return whole(*arguments, **named)
        proxy.lose_answers()
        cutting = threading.Timer(0.3, proxy.cut)
        cutting.start()
        try:
            return whole(*arguments, **named)
        finally:
            cutting.join()

    monkeypatch.setattr(owner, method, instead)


@pytest.mark.parametrize("after", [False, True], ids=["never arrived", "answer lost"])
def test_a_read_whose_append_is_uncertain_is_recorded_once(
    distant: tuple[House, Any], monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """The statement that appends commits by itself: its record is looked up before it is sent again."""
    house, proxy = distant
    before = len(house.records())
    lose_the_answer(monkeypatch, proxy, Appender, "append", after=after)
    answer = house.read("fraud-detection", "ana", "fraud-detection", ["email"])
    assert answer.value("email") == "ana@b.example"
    records = house.records()
    assert len(records) == before + 1
    assert (records[-1]["id"], len(records) - 1) == (answer.record_id, answer.position)


@pytest.mark.parametrize("after", [False, True], ids=["never arrived", "answer lost"])
def test_a_write_whose_commit_is_uncertain_is_done_once(
    distant: tuple[House, Any], monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Whether COMMIT came through or not: one version more, one record more."""
    house, proxy = distant
    before = len(house.records())
    lose_the_answer(monkeypatch, proxy, type(house.rooms.database), "_commit", after=after)
    written = house.write("ana", {"email": "new@b.example"})
    assert dict(written.versions) == {"email": 2}
    assert len(house.records()) == before + 1
    assert seen(house, "ana") == "new@b.example"


def test_reads_and_writes_go_on_while_columns_are_added(house: House, every_store: str, ana: str) -> None:
    """A newer release expands the schema under a running server, whose statements are prepared."""
    house.write(ana, EMAIL)
    done = threading.Event()

    def traffic() -> None:
        turn = 0
        while not done.is_set() or turn < 12:
            turn += 1
            house.write(ana, {"email": f"{turn}@b.example"})
            assert seen(house, ana) == f"{turn}@b.example"

    def expand() -> None:
        try:
            for table in ("subject", "subject_key", "attribute_value", "consent_state", "log_entry", "log"):
                house.sql(f"ALTER TABLE {table} ADD COLUMN of_later BIGINT NOT NULL DEFAULT 0")
        finally:
            done.set()

    together(traffic, expand)
    assert house.verify().problems == []
