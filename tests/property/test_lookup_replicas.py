"""Replicas write and read while a lookup key rotates, in any order: a customer number never gets two
subjects, and who was written is found."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.lookups import Steps, email, open_lookup_house, replica_of, rotation
from tests.support.pipelines import House
from tests.support.rotation import ToldClock
from vault.disclosing.loading import Loader
from vault.domain.errors import NotFoundError
from vault.intake import IntakePipeline
from vault.keys import lookup_indexing
from vault.keys.phases import Phase
from vault.writes import Write, Written

REPLICAS = 2
NUMBERS = [str(number) for number in range(4700, 4706)]
TABLES = ("request", "attribute_value", "subject_key", "consent_state", "consent_event", "subject_lookup")

replicas = st.integers(0, REPLICAS - 1)
numbers = st.sampled_from(NUMBERS)


class Replicas(RuleBasedStateMachine):
    """The model is a dict: what each number's customer has as an e-mail address, None for consent alone."""

    house: ClassVar[House]
    clock: ClassVar[ToldClock]
    between: ClassVar[Callable[[], None] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[str, str | None] = {}
        self.requests: list[Write] = []
        self.rotation: Steps | None = None
        self.count = 0

    @initialize()
    def begin(self) -> None:
        """No customers, one lookup key; every replica has just started."""
        for table in (*TABLES, "subject"):
            self.house.sql(f"DELETE FROM {table}")
        self.house.sql(
            "DELETE FROM tenant_key WHERE use = 'lookup' AND version < (SELECT max(version) FROM tenant_key)"
        )
        self.replicas = [replica_of(self.house) for _ in range(REPLICAS)]

    def teardown(self) -> None:
        type(self).between = None
        if self.rotation is not None:
            self.rotation.close()
            self.rotation = None

    # --- what callers do -----------------------------------------------------------------------------------

    @rule(at=replicas, number=numbers, step=st.booleans())
    def write(self, at: int, number: str, step: bool) -> None:
        """A write; with `step`, the rotation goes on between its preparation and its transaction."""
        self.count += 1
        draft = self.house.draft(number, {"email": f"{self.count}@b.example"})
        with self.stepping(step):
            (outcome,) = self.replicas[at].write_group([draft])
        assert isinstance(outcome, Written), outcome
        assert outcome.subject_created is (number not in self.written)
        self.written[number] = f"{self.count}@b.example"
        self.requests.append(draft)

    @rule(at=replicas, number=numbers)
    def withdraw_or_grant(self, at: int, number: str) -> None:
        """A consent event; it enrols who is not known, but a restriction does not."""
        if self.count % 2 and number not in self.written:
            with pytest.raises(NotFoundError):
                self.replicas[at].restrict(number)
            return
        self.replicas[at].record(number, "personalised-offers", "given")
        self.written.setdefault(number, None)

    @rule(at=replicas, number=numbers, step=st.booleans())
    def read(self, at: int, number: str, step: bool) -> None:
        """A read; with `step`, the rotation goes on after it looked at the keys and before it loads."""
        with self.stepping(step):
            found = email(self.replicas[at], number)
        unset = "not-set" if number in self.written else "not-available"
        assert found == (self.written.get(number) or unset)

    # no preconditions: how far a rotation gets in a step differs between runs, and so would what they say
    @rule(at=replicas, which=st.integers(0, 20))
    def repeat(self, at: int, which: int) -> None:
        """A request that was carried out is sent again, to any replica."""
        if not self.requests:
            return
        (outcome,) = self.replicas[at].write_group([self.requests[which % len(self.requests)]])
        assert isinstance(outcome, Written), outcome
        assert outcome.replayed

    # --- what operators do ---------------------------------------------------------------------------------

    @rule(at=replicas, steps=st.integers(1, 4))
    def rotate(self, at: int, steps: int) -> None:
        """A rotation begins, or goes on; waits take no time."""
        if self.rotation is None:
            self.rotation = rotation(self.replicas[at])
        for _ in range(steps):
            self.step()

    @rule()
    def break_off(self) -> None:
        """Whoever runs the rotation goes away."""
        if self.rotation is not None:
            self.rotation.close()
            self.rotation = None

    @rule(at=replicas)
    def restart(self, at: int) -> None:
        """A replica forgets all it knew."""
        self.replicas[at] = replica_of(self.house)

    # --- what must hold ------------------------------------------------------------------------------------

    @invariant()
    def one_subject_each(self) -> None:
        """There are as many subjects as customers, and each has its number once."""
        for table, where in (("subject", ""), ("attribute_value", "WHERE attribute = '$customer-number'")):
            ((counted,),) = self.house.sql(f"SELECT count(*) FROM {table} {where}")
            assert counted == len(self.written)

    @invariant()
    def everyone_is_indexed_under_a_key_in_force(self) -> None:
        """And under each at most once."""
        ((most, lost),) = self.house.sql(
            "SELECT"
            " (SELECT count(*) FROM subject_lookup GROUP BY subject, key_version ORDER BY 1 DESC LIMIT 1),"
            " (SELECT count(*) FROM subject WHERE subject NOT IN (SELECT l.subject FROM subject_lookup l"
            "  JOIN tenant_key k ON k.version = l.key_version AND k.use = 'lookup' AND k.retired_at = 0))"
        )
        assert (most or 1, lost) == (1, 0)

    # --- steps ---------------------------------------------------------------------------------------------

    def step(self) -> None:
        if self.rotation is None:
            return
        running, self.rotation = self.rotation, None
        progress = next(running)
        while progress.phase is Phase.WAITING:
            self.clock.pass_by(progress.pause_seconds)
            progress = next(running)
        if progress.phase is not Phase.DONE:
            self.rotation = running

    def stepping(self, wanted: bool) -> Any:
        return _between(self.step if wanted else None)


class _between:
    """Inside the block a pipeline calls `step` once, in the middle of its work."""

    def __init__(self, step: Callable[[], None] | None) -> None:
        self.step = step

    def __enter__(self) -> None:
        Replicas.between = self.step

    def __exit__(self, *_: object) -> None:
        Replicas.between = None


def stepping_first(method: Any) -> Any:
    """The method, before which the rotation takes the step that is due."""

    def stepped(self: Any, *arguments: Any) -> Any:
        step, Replicas.between = Replicas.between, None
        if step is not None:
            step()
        return method(self, *arguments)

    return stepped


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One house for all runs, looked at two customers at a time."""
    monkeypatch.setattr(lookup_indexing, "_PAGE_ROWS", 2)
    monkeypatch.setattr(IntakePipeline, "_commit", stepping_first(IntakePipeline._commit))
    monkeypatch.setattr(Loader, "_load_tenant", stepping_first(Loader._load_tenant))
    Replicas.clock = ToldClock()
    with tempfile.TemporaryDirectory() as folder, open_lookup_house(Path(folder), Replicas.clock) as house:
        Replicas.house = house
        yield


def test_no_customer_is_doubled_or_lost(stage: None) -> None:
    """Two replicas and a rotation, in any order of their steps."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Replicas,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
