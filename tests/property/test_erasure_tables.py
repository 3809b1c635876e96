"""Whatever a customer had, after an erasure no table holds anything of the classes that went."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.erasure import class_traces, erase, set_retention, subject_id, subject_traces, tables
from tests.support.pipelines import NOTICES, House, open_house

VALUES: dict[str, tuple[str, Any]] = {
    "email": ("contact", "ana@b.example"),
    "preferred-language": ("contact", "pt"),
    "given-name": ("identity", "Ana"),
    "income": ("financial", "41000"),
    "last-contact-day": ("behaviour", 3),
    "vulnerability-note": ("special", "Zebrafink"),
}
GROUNDED = {"identity", "financial"}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(sorted(VALUES))),
        st.tuples(st.just("clear"), st.sampled_from(sorted(VALUES))),
        st.tuples(st.just("given"), st.sampled_from(sorted(NOTICES))),
        st.tuples(st.sampled_from(["refused", "withdrawn", "objected"]), st.sampled_from(sorted(NOTICES))),
        st.tuples(st.just("erase"), st.just("")),
    ),
    max_size=10,
)
RETENTION = st.sampled_from([{}, {"ended_on": "2001-01-31"}, {"ended_on": "2020-01-31"}, {"hold": "Case 7"}])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


def do(house: House, number: str, what: str, name: str) -> None:
    if what == "write":
        house.write(number, {name: VALUES[name][1]})
    elif what == "clear":
        house.write(number, {}, clear=[name])
    elif what == "erase":
        erase(house, number)
        house.write(number, {"email": "back@b.example"})
    else:
        house.record(number, name, what)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, retention=RETENTION)
def test_no_table_holds_anything_of_what_was_erased(
    house: House, steps: list[tuple[str, str]], retention: dict[str, str]
) -> None:
    """Keys, ids and ciphertexts of erased classes are nowhere; those of kept classes are all there; of a
    customer erased whole nothing leads anywhere but the pseudonym in the log, and the outbox's subject id."""
    number = house.pipelines.recorder.new_id()
    house.write(number, {"email": "first@b.example"})
    for what, name in steps:
        do(house, number, what, name)
    if retention:
        set_retention(house, number, **retention)
    path, subject = house.rooms.database.path, subject_id(house, number)
    every = {key_class for key_class, _ in VALUES.values()}
    leads = subject_traces(path, subject)
    per_class = {name: class_traces(path, subject, {name}) for name in every}

    outcome = erase(house, number)

    places = tables(path)
    for name, traces in per_class.items():
        kept = name in {one.key_class for one in outcome.retained}
        assert {needle for needle, _ in traces.found(places)} == (set(traces.needles) if kept else set()), (
            name
        )
        assert (name in outcome.erased) is (bool(traces.needles) and not kept)
    if outcome.whole:
        assert {table for table, content in places.items() if subject in content} == set()
        assert leads.found(places) == {("pseudonym", "log_entry")}
    else:
        assert "hold" in retention or {one.key_class for one in outcome.retained} <= GROUNDED
        states = house.sql("SELECT state FROM consent_state WHERE subject = ?", subject)
        assert "given" not in {state for (state,) in states}
