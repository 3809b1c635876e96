"""Rewrapping whatever mixture of versions and damage there is, broken off and repeated at any step."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.pipelines import House
from tests.support.rotation import (
    ToldClock,
    finish,
    forget,
    open_rotation_house,
    rewrap,
    rotate,
    versions,
    wrapped,
)
from vault.keys import rewrapping
from vault.keys.phases import Phase

ROWS = 9
FRAUD = "fraud-detection"
DAMAGED, FOREIGN, NOTHING = "damaged", "foreign", "nothing"
ROW = st.sampled_from([*range(3), *range(3), DAMAGED, FOREIGN, NOTHING])
"""How a row is: wrapped by the newest version, one or two versions before, or not to be opened."""


@dataclass
class Shop:
    """A house whose contact DEKs can be put back to what they were under each version."""

    house: House
    clock: ToldClock

    def texts(self) -> list[dict[bytes, bytes]]:
        """The DEKs wrapped by the newest version and the two before, newest first."""
        found = [wrapped(self.house, "contact")]
        for _ in range(2):
            rotate(self.house, "contact")
            finish(rewrap(self.house, "contact", keep_old_versions=True), self.clock)
            found.insert(0, wrapped(self.house, "contact"))
        return found

    def put(self, texts: dict[bytes, bytes]) -> None:
        for dek_id, text in texts.items():
            self.house.sql("UPDATE subject_key SET wrapped = ? WHERE dek_id = ?", text, dek_id)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    clock = ToldClock()
    with open_rotation_house(tmp_path_factory.mktemp("mixtures"), clock, None) as house:
        for number in range(ROWS):
            house.write(str(number), {"email": f"{number}@mail.example"})
        yield Shop(house, clock)


def mixed(kind: object, texts: list[dict[bytes, bytes]], dek_id: bytes) -> bytes:
    if isinstance(kind, int):
        return texts[kind][dek_id]
    damaged = texts[1][dek_id][:-8] + b"AAAAAAAA"
    return {DAMAGED: damaged, FOREIGN: b"vault:v1:AAAA", NOTHING: b""}[str(kind)]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROW, min_size=ROWS, max_size=ROWS), breaks=st.lists(st.integers(1, 6), max_size=3))
def test_it_ends_with_nothing_left_or_says_what_is(shop: Shop, rows: list[object], breaks: list[int]) -> None:
    """However it was broken off before: exactly what does not open is left, told and keeps the old versions;
    everything else opens and is of the newest version, and is read as before."""
    house, patch = shop.house, pytest.MonkeyPatch()
    whole = wrapped(house, "contact")
    texts = shop.texts()
    before = house.rooms.provider.info("datavault-contact").min_decryption_version
    newest = house.rooms.provider.info("datavault-contact").latest_version
    kinds = dict(zip(sorted(whole), rows, strict=True))
    try:
        patch.setattr(rewrapping, "_PAGE_ROWS", 2)
        shop.put({dek_id: mixed(kind, texts, dek_id) for dek_id, kind in kinds.items()})
        for steps in breaks:
            job = rewrap(house, "contact")
            for _ in range(steps):
                progress = next(job, None)
                shop.clock.pass_by(progress.pause_seconds if progress else 0)
            job.close()
        done = finish(rewrap(house, "contact"), shop.clock)
        left = sum(1 for kind in rows if not isinstance(kind, int))
        assert (done.phase, done.stragglers, done.failed) == (Phase.DONE, left, left)
        assert done.min_decryption_version == (before if left else newest)
        assert versions(house, "contact").get(newest, 0) == ROWS - left
        shop.put({dek_id: texts[0][dek_id] for dek_id, kind in kinds.items() if not isinstance(kind, int)})
        forget(house)
        assert [
            house.read(FRAUD, str(number), FRAUD, ["email"]).value("email") for number in range(ROWS)
        ] == [f"{number}@mail.example" for number in range(ROWS)]
    finally:
        patch.undo()
        shop.put(texts[0])
