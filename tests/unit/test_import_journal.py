"""The journal: how far an import came survives any end of the process."""

import json
import os
import stat
from pathlib import Path

import pytest

from vault.cli.importing.journal import Journal
from vault.cli.importing.outcome import Answer
from vault.domain.errors import ConfigurationError
from vault.testing import FixedRandomness

pytestmark = pytest.mark.filterwarnings("ignore::vault.testing.TestingFakeWarning")
SUBJECT = {"file": "aa", "map": "bb"}


def test_an_import_goes_on_where_it_was_left(tmp_path: Path) -> None:
    """Same id, last acknowledged row and refused rows."""
    with Journal(tmp_path / "j") as journal:
        first = journal.begin(SUBJECT, FixedRandomness())
        for row in range(1, 251):
            journal.answer("attributes", row, Answer("VERSION_MISMATCH", "no") if row == 7 else Answer())
    with Journal(tmp_path / "j") as journal:
        again = journal.begin(SUBJECT, FixedRandomness(b"x" * 12))
    assert again.id == first.id
    assert again.acknowledged == {"attributes": 250}
    assert again.refused["attributes"][7].reason == "VERSION_MISMATCH"


def test_without_a_clean_end_at_most_a_hundred_rows_are_forgotten(tmp_path: Path) -> None:
    """They are sent again with the same request ids."""
    journal = Journal(tmp_path / "j")
    journal.begin(SUBJECT, FixedRandomness())
    for row in range(1, 251):
        journal.answer("attributes", row, Answer())
    assert '"acknowledged":200' in (tmp_path / "j").read_text()
    os.close(journal._descriptor)


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_forgotten_and_does_not_spoil_the_next(tmp_path: Path, cut: int) -> None:
    """As a crash leaves it."""
    path = tmp_path / "j"
    with Journal(path) as journal:
        first = journal.begin(SUBJECT, FixedRandomness())
        journal.answer("attributes", 1, Answer())
        journal.flush()
        journal.answer("attributes", 2, Answer())
    os.truncate(path, path.stat().st_size - cut)
    with Journal(path) as journal:
        section = journal.begin(SUBJECT, FixedRandomness(b"y" * 12))
        assert (section.id, section.acknowledged) == (first.id, {"attributes": 1})
        journal.answer("attributes", 3, Answer())
    with Journal(path) as journal:
        assert journal.begin(SUBJECT, FixedRandomness()).acknowledged == {"attributes": 3}


def test_another_file_map_or_server_begins_anew(tmp_path: Path) -> None:
    """And coming back to the first one is not `already imported`: the other one came between."""
    with Journal(tmp_path / "j") as journal:
        first = journal.begin(SUBJECT, FixedRandomness())
        journal.finish({})
    with Journal(tmp_path / "j") as journal:
        other = journal.begin({**SUBJECT, "map": "cc"}, FixedRandomness(b"x" * 12))
        assert (other.finished, other.id == first.id) == (None, False)
        journal.finish({})
    with Journal(tmp_path / "j") as journal:
        assert journal.begin(SUBJECT, FixedRandomness(b"z" * 12)).finished is None


def test_a_finished_import_is_finished(tmp_path: Path) -> None:
    """With what it counted."""
    with Journal(tmp_path / "j") as journal:
        journal.begin(SUBJECT, FixedRandomness())
        journal.finish({"attributes": {"rows": 3}})
    with Journal(tmp_path / "j") as journal:
        assert journal.begin(SUBJECT, FixedRandomness()).finished == {"attributes": {"rows": 3}}


def test_the_journal_is_its_owners_alone(tmp_path: Path) -> None:
    """Also where it was there before with a wider mode."""
    path = tmp_path / "j"
    path.touch(0o644)
    with Journal(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_imports_of_one_file_at_once_are_refused(tmp_path: Path) -> None:
    """They would both believe to be the only one."""
    with Journal(tmp_path / "j"), pytest.raises(ConfigurationError, match="another import"):
        Journal(tmp_path / "j")


@pytest.mark.parametrize(
    "content", ["[1]\n", "a;b\n1;2\n", '{"a": 1}\n', '{"v": 2, "import": "x"}\n', '{"import": "x"}\n']
)
def test_what_is_no_journal_is_not_taken_for_one(tmp_path: Path, content: str) -> None:
    """The file may be anything that has this name."""
    path = tmp_path / "j"
    path.write_text(content)
    with pytest.raises(ConfigurationError):
        Journal(path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Whoever may write into the folder must not steer where the import writes."""
    (tmp_path / "target").touch()
    (tmp_path / "j").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Journal(tmp_path / "j")


def test_every_line_is_json_and_holds_no_customer_data(tmp_path: Path) -> None:
    """Row numbers, reasons, digests and ids alone."""
    with Journal(tmp_path / "j") as journal:
        journal.begin(SUBJECT, FixedRandomness())
        journal.answer("attributes", 1, Answer("INTERNAL", "no"))
        journal.finish({})
    keys = {key for line in (tmp_path / "j").read_text().splitlines() for key in json.loads(line)}
    assert keys == {
        "v",
        "import",
        "subject",
        "refused",
        "part",
        "reason",
        "message",
        "acknowledged",
        "finished",
    }
