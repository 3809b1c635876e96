"""A restored backup knows customers that were erased since: they are erased again before it is served."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.backup import back_up, put_back
from tests.support.erasure import (
    class_traces,
    erase,
    evidence,
    set_retention,
    subject_id,
    subject_traces,
    tables,
)
from tests.support.identity import FAKES_ARE_FINE
from tests.support.pipelines import House, open_house
from tests.support.service import ORIGIN
from vault import homes
from vault.client import DenialReason
from vault.domain.errors import IntegrityError
from vault.erasing.receipts import Tombstone, read_tombstone

pytestmark = [FAKES_ARE_FINE, pytest.mark.usefixtures("every_store")]

CONTACT = {"email": "ana@b.example"}
IDENTITY = {"given-name": "Ana"}


def seen(house: House, number: str, attribute: str) -> Any:
    answer = house.read("fraud-detection", number, "fraud-detection", [attribute])
    return answer.value(attribute) or answer.denied[attribute].reason


@pytest.mark.usefixtures("every_outside")
def test_an_erasure_after_the_backup_is_done_again_at_its_restore(tmp_path: Path) -> None:
    """Whole or in part: keys, values and lookup rows are gone again, what stays is for its ground alone, a
    hold is on, and the consents are sealed anew under the same receipt."""
    backup = tmp_path / "backup.db"
    with open_house(tmp_path) as house:
        for number in ("whole", "part", "held", "kept"):
            house.write(number, CONTACT | (IDENTITY if number == "part" else {}))
            house.record(number, "personalised-offers", "given")
        subjects = {number: subject_id(house, number) for number in ("whole", "part", "held")}
        path = house.place
        traces = {
            "whole": class_traces(path, subjects["whole"], {"contact"}),
            "part": class_traces(path, subjects["part"], {"contact"}),
            "lookup": subject_traces(path, subjects["whole"]),
        }
        house.verify()
        back_up(path, backup)
        receipts = {number: erase(house, number).receipt for number in ("whole", "part")}
        set_retention(house, "held", hold="Case 7")
        set_retention(house, "part", ended_on="2020-02-29")
        house.verify()
        settings = house.rooms.settings
    put_back(path, backup)
    assert all(each.found(tables(path)) for each in traces.values())

    (adoption,), reapplied = homes.adopt(settings)

    assert (reapplied.applied, reapplied.unknown) == (4, 0)
    assert adoption.lost_origin == ORIGIN
    with open_house(tmp_path) as house:
        places = tables(path)
        # the log and its index keep the pseudonym, which leads to nobody
        del places["log_entry"], places["audit_index"]
        assert [name for name, each in traces.items() if each.found(places)] == []
        for number in ("whole", "part"):
            assert seen(house, number, "email") is DenialReason.NOT_AVAILABLE
            receipt = receipts[number]
            assert receipt is not None
            document = json.loads(evidence(house, receipt.id))
            assert [event["state"] for event in document["events"]] == ["given"]
        assert seen(house, "part", "given-name") is DenialReason.NOT_AVAILABLE
        own = house.read("privacy-office", "part", "subject-rights", ["given-name"])
        assert own.value("given-name") == "Ana"
        assert seen(house, "kept", "email") == CONTACT["email"]
        assert erase(house, "held").erased == ()
        ((ended,),) = house.sql(
            "SELECT relationship_ended_on FROM subject WHERE subject = ?", subjects["part"]
        )
        assert str(ended) == "2020-02-29"
        assert {one["action"] for one in house.records() if one["action"].startswith("log.")} >= {
            "log.reapply"
        }
        assert house.verify().problems == []


def test_a_tombstone_holds_no_key_and_reads_back(tmp_path: Path) -> None:
    """What goes outside names classes and the subject id, neither keys nor the customer; what is no tombstone
    is told so."""
    with open_house(tmp_path) as house:
        house.write("KD-4711-X", CONTACT | IDENTITY)
        subject = subject_id(house, "KD-4711-X")
        traces = class_traces(house.place, subject, {"contact", "identity"})
        outcome = erase(house, "KD-4711-X")
        house.verify()
        outside = house.rooms.settings.home / "outside" / ORIGIN / "events"
        (entry,) = sorted(outside.iterdir())
        content = entry.read_bytes()
        assert traces.found({"event": content}) == set()
        assert b"KD-4711-X" not in content
        assert int(entry.stem) == outcome.recorded.position
        document = json.loads(content)
        assert document["subject"] == subject.hex()
        tombstone = read_tombstone(document)
        assert tombstone == Tombstone(
            outcome.receipt.id if outcome.receipt else "",
            ("contact",),
            whole=False,
            legal_hold=False,
            evidence_until=0,
            at=document["recorded_at"],
        )
        for wrong in ({}, {**document, "erased": 3}, {**document, "event": "x"}, {**document, "event": 5}):
            with pytest.raises(IntegrityError):
                read_tombstone(wrong)
