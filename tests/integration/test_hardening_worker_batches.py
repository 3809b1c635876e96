"""Batches: what a caller that does not read can make the service hold, how large messages get, and what is
checked before anything is made of a request. The servicer is called without a network, so that a test
decides when the next message is read."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from tests.support.pipelines import House, open_house
from tests.support.service import policies_copy
from vault.domain.errors import InvalidArgumentError
from vault.domain.limits import LIMITS
from vault.server import data as servicers
from vault.server.blocking import BlockingWorker
from vault.server.data import DataServicer
from vault.server.flow import AnswerBudget, StreamShare, largest_answer
from vault.server.metrics import Meter
from vault.server.worker import DisclosureWorker
from vault.v1 import data_service_pb2 as pb

LARGE = 60
"""Attributes of 64 KiB each: just below 4 MiB together."""
FEW = 15
"""Of these, just below the size at which a message is sent."""
ATTRIBUTES = "".join(
    f"  large-{n}: {{type: string, category: pd:Communication, key_class: behaviour, forms: [clear]}}\n"
    for n in range(LARGE)
)
NAMES = [f"large-{n}" for n in range(LARGE)]
CUSTOMERS = 20
SCENE_SECONDS = 60.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    changes = {
        "attributes.yaml": lambda text: text + ATTRIBUTES,
        "callers.yaml": lambda text: text.replace('{"*": 2000}', '{"*": 1000000}'),
    }
    policies = policies_copy(folder / "policies", changes)
    with open_house(folder, policies=policies) as opened:
        opened.write_group([opened.draft(f"c{n}", {"email": f"e{n}@b.example"}) for n in range(CUSTOMERS)])
        text = "x" * LIMITS.value_bytes
        opened.write("few", dict.fromkeys(NAMES[:FEW], text))
        opened.write("all", dict.fromkeys(NAMES[:30], text))
        opened.write("all", dict.fromkeys(NAMES[30:], text))
        yield opened


class Service:
    """The servicer over a running worker, and how to call it."""

    def __init__(self, house: House) -> None:
        self.caller = house.caller("privacy-office")
        self.importer = house.caller("importer")
        self.worker = DisclosureWorker(house.pipelines.disclosure, house.pipelines.keyring, house.rooms.clock)
        edge = type("OpenEdge", (), {"meter": Meter()})()
        self.changes = BlockingWorker("changes")
        self.servicer = DataServicer(edge, self.worker, house.pipelines.intake, self.changes)

    async def batch(self, *chunks: pb.BatchReadAttributesRequest) -> AsyncIterator[Any]:
        """The stream of answers, behind the edge; it goes on only as far as it is read."""
        answers = DataServicer.BatchReadAttributes.__wrapped__(  # type: ignore[attr-defined]
            self.servicer, stream_of(chunks), self.caller
        )
        async with aclosing(answers):
            async for answer in answers:
                yield pb.BatchReadAttributesResponse.FromString(answer)

    async def settled(self) -> int:
        """How many reads were disclosed once nothing goes on by itself any more."""
        quiet = 0
        while quiet < 200:
            quiet = 0 if self.worker.state.queued else quiet + 1
            await asyncio.sleep(0)
        return self.worker.state.reads


async def stream_of(chunks: Sequence[Any]) -> AsyncIterator[Any]:
    for each in chunks:
        yield each


def run(house: House, scene: Callable[[Service], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        service = Service(house)
        service.worker.start(asyncio.get_running_loop())
        try:
            await asyncio.wait_for(scene(service), SCENE_SECONDS)
        finally:
            await service.worker.stop()
            await service.changes.stop()

    house.read_group([house.ask("privacy-office", f"c{n}", "subject-rights", ["email"]) for n in range(20)])
    asyncio.run(play())


def chunk(numbers: Sequence[str], attributes: Sequence[str] = ("email",)) -> pb.BatchReadAttributesRequest:
    return pb.BatchReadAttributesRequest(
        customer_numbers=numbers, purpose="subject-rights", attributes=attributes
    )


def emails(response: pb.BatchReadAttributesResponse) -> list[str]:
    assert not [result.error for result in response.results if result.HasField("error")]
    return [result.answer.attributes[0].value.string_value for result in response.results]


MANY = [f"c{n % CUSTOMERS}" for n in range(1_000)]


# --- a reader that does not read ---------------------------------------------------------------------------


def test_who_does_not_read_holds_a_bounded_number_of_bytes(house: House) -> None:
    """Three chunks of 1,000 are sent and one message is read: what was disclosed would fit into the bound
    even if each value had the largest size."""

    async def scene(service: Service) -> None:
        answers = service.batch(chunk(MANY), chunk(MANY), chunk(MANY))
        await anext(answers)
        assert await service.settled() * largest_answer(1) <= LIMITS.stream_answer_bytes
        await answers.aclose()  # type: ignore[attr-defined]

    run(house, scene)


def test_a_batch_goes_on_as_it_is_read(house: House) -> None:
    """Every result comes, in order, over chunks and parts of chunks."""

    async def scene(service: Service) -> None:
        seen: list[str] = []
        indexes: list[int] = []
        async for response in service.batch(chunk(MANY), chunk(MANY[:7]), chunk(MANY)):
            seen += emails(response)
            indexes += [result.index for result in response.results]
            await service.settled()
        asked = [*MANY, *MANY[:7], *MANY]
        assert seen == [f"e{number[1:]}@b.example" for number in asked]
        assert indexes == list(range(len(asked)))

    run(house, scene)


def test_a_stream_that_ends_early_gives_back_what_it_held(house: House) -> None:
    """Its reads that wait are cancelled, and the bytes set aside for them are there for other streams."""

    async def scene(service: Service) -> None:
        answers = service.batch(chunk(MANY), chunk(MANY))
        await anext(answers)
        assert service.servicer._budget.left < LIMITS.batch_answer_bytes
        await answers.aclose()  # type: ignore[attr-defined]
        await service.settled()
        assert service.servicer._budget.left == LIMITS.batch_answer_bytes

    run(house, scene)


def test_streams_that_are_not_read_hold_up_no_other_one(house: House) -> None:
    """They take the whole budget of the process; another stream goes on all the same, read by read."""

    async def scene(service: Service) -> None:
        service.servicer._budget.take(LIMITS.batch_answer_bytes)
        seen = [email async for response in service.batch(chunk(MANY[:9])) for email in emails(response)]
        assert seen == [f"e{n}@b.example" for n in range(9)]

    run(house, scene)


def test_a_stream_waits_for_room_and_goes_on_when_some_is_given_back() -> None:
    """Up to its bound at once, then nothing until half of it is free again; the process counts it too."""
    each = LIMITS.stream_answer_bytes // 8

    async def scene() -> None:
        budget = AnswerBudget()
        share = StreamShare(budget)
        assert await share.reserve(1_000, each) == 8
        waiting = asyncio.ensure_future(share.reserve(1_000, each))
        share.give(3 * each)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        share.give(2 * each)
        assert await asyncio.wait_for(waiting, 10) == 5
        assert share.held == LIMITS.batch_answer_bytes - budget.left == 8 * each

    asyncio.run(scene())


# --- the size of messages ----------------------------------------------------------------------------------


def test_a_large_answer_does_not_join_a_message_that_it_would_make_too_large(house: House) -> None:
    """An answer of nearly 4 MiB after one of nearly 1 MiB: both are recorded, so both must arrive."""

    async def scene(service: Service) -> None:
        sizes, values = [], []
        async for response in service.batch(chunk(["few", "all", "few"], NAMES)):
            sizes.append(response.ByteSize())
            values += [
                sum(attribute.HasField("value") for attribute in result.answer.attributes)
                for result in response.results
            ]
        assert values == [FEW, LARGE, FEW]
        assert max(sizes) <= LIMITS.message_bytes

    run(house, scene)


# --- lists that are too long -------------------------------------------------------------------------------


def test_too_many_attributes_end_a_batch_before_any_read(house: House) -> None:
    """Counted before anything is made of them: the call is refused as a whole."""

    async def scene(service: Service) -> None:
        asked = chunk(MANY, [f"a{n}" for n in range(LIMITS.attributes_per_read + 1)])
        with pytest.raises(InvalidArgumentError) as caught:
            await anext(service.batch(asked))
        assert [each.field for each in caught.value.violations] == ["attributes"]
        assert service.worker.state.reads == 0

    run(house, scene)


def test_a_chunk_is_asked_with_one_list_of_attributes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 customers share it."""
    lists: set[int] = set()
    submit = DisclosureWorker.submit_part

    async def watched(self: DisclosureWorker, reads: Any) -> Any:
        lists.update(id(read.attributes) for read in reads)
        return await submit(self, reads)

    monkeypatch.setattr(DisclosureWorker, "submit_part", watched)

    async def scene(service: Service) -> None:
        async for _ in service.batch(chunk(MANY, ["email", "given-name"])):
            pass
        assert len(lists) == 1

    run(house, scene)


def test_too_many_attributes_end_a_read_before_it_is_queued(house: House) -> None:
    """One more than the limit."""

    async def scene(service: Service) -> None:
        names = [f"a{n}" for n in range(LIMITS.attributes_per_read + 1)]
        request = pb.ReadAttributesRequest(customer_number="c1", purpose="p", attributes=names)
        with pytest.raises(InvalidArgumentError):
            await DataServicer.ReadAttributes.__wrapped__(  # type: ignore[attr-defined]
                service.servicer, request, service.caller
            )
        assert service.worker.state.reads == 0

    run(house, scene)


def test_too_many_writes_are_refused_before_one_is_converted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a call of its own, and as the error of its item in a batch."""
    converted: list[Any] = []
    monkeypatch.setattr(servicers, "typed_value", lambda *each: converted.append(each))
    writes = [
        pb.AttributeWrite(attribute=f"a{n}", value={"string_value": "x"})  # type: ignore[arg-type]
        for n in range(LIMITS.attributes_per_write + 1)
    ]
    request = pb.WriteAttributesRequest(request_id="r", customer_number="c1", writes=writes)

    async def scene(service: Service) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            await DataServicer.WriteAttributes.__wrapped__(  # type: ignore[attr-defined]
                service.servicer, request, service.importer
            )
        assert [each.field for each in caught.value.violations] == ["writes"]
        batch = pb.BatchWriteAttributesRequest(items=[request])
        answers = DataServicer.BatchWriteAttributes.__wrapped__(  # type: ignore[attr-defined]
            service.servicer, stream_of([batch]), service.importer
        )
        (result,) = (await anext(answers)).results
        assert result.error.message.startswith("writes: ")
        assert converted == []

    run(house, scene)
