"""`datavault subject import`: every row in once or rejected, whatever happens, and no value in any output."""

import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import CANARY, HEADER, MAP, MemoryVault, failure, policies, report, rows, run, write


class Desk:
    """One import with its files."""

    def __init__(self, folder: Path, content: str, import_map: str = MAP) -> None:
        self.folder = folder
        self.file = write(folder, "customers.csv", content)
        self.map = write(folder, "map.yaml", import_map)
        self.policies = policies(folder)
        self.vault = MemoryVault()

    def run(self, *more: str | Path) -> Any:
        return run(
            "subject",
            "import",
            self.file,
            *(() if "--propose-map" in more else ("--map", self.map)),
            "--policies",
            self.policies,
            *more,
            vault=self.vault,
        )

    def json(self, *more: str | Path) -> Any:
        result = self.run("--output", "json", *more)
        return json.loads(result.stdout)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, HEADER + rows(250))


def test_all_rows_go_in_with_typed_values(desk: Desk) -> None:
    """Dates, decimals and jurisdictions arrive as the client's types."""
    result = desk.run()
    assert result.exit_code == 0, result.output
    assert len(desk.vault.customers) == 250
    item = desk.vault.requests[next(iter(desk.vault.requests))]
    assert {name: str(value) for name, value in item.values.items()} == {
        "given-name": "Ana",
        "birth-date": "1984-05-30",
        "balance": "1.50",
    }
    assert [type(value).__name__ for value in item.values.values()] == ["str", "date", "Decimal"]
    assert item.jurisdictions == ("EU",)


def test_running_it_again_changes_nothing(desk: Desk) -> None:
    """It says so and does not even ask the server."""
    desk.run()
    desk.vault.options.clear()
    result = desk.run()
    assert result.exit_code == 0
    assert "already imported, nothing to do" in result.output
    assert (len(desk.vault.writes), desk.vault.options) == (250, [])


def test_a_dry_run_sends_nothing_and_writes_nothing(desk: Desk) -> None:
    """It needs no server."""
    before = sorted(desk.folder.iterdir())
    result = desk.run("--dry-run")
    assert result.exit_code == 0
    assert "nothing was sent" in result.output
    assert (desk.vault.options, sorted(desk.folder.iterdir())) == ([], before)


@pytest.mark.parametrize("stop", [failure(), KeyboardInterrupt(), OSError("gone")])
@pytest.mark.parametrize(("after", "unacknowledged"), [(0, 0), (1, 0), (99, 50), (100, 1), (249, 0)])
def test_an_interrupted_import_goes_on_and_writes_each_customer_once(
    desk: Desk, stop: BaseException, after: int, unacknowledged: int
) -> None:
    """Also where the server had written rows whose answers were lost."""
    desk.vault.break_after, desk.vault.break_with, desk.vault.unacknowledged = after, stop, unacknowledged
    result = desk.run()
    assert result.exit_code == (130 if isinstance(stop, KeyboardInterrupt) else 1)
    assert "goes on where it stopped" in result.stderr
    desk.vault.break_after = None
    summary = desk.json()["parts"]["attributes"]
    assert (summary["earlier"], summary["sent"]) == (after, 250 - after)
    assert summary["replayed"] == min(unacknowledged + 1, 250 - after)
    assert desk.vault.writes == [f"C{number}" for number in range(1, 251)]


def test_bad_rows_are_reported_and_kept_and_the_rest_goes_in(tmp_path: Path) -> None:
    """Line, column and reason in the report; the rows as they were in a file that can be imported."""
    bad = ["C1;Ana;19371233;1", "C2;Rui", 'C3;"x;19840530;1', "C4;Eva;19840530;many", "C9;Eva;19840530;1"]
    desk = Desk(tmp_path, HEADER + "C9;Ana;19840530;2\n" + "\n".join(bad) + "\nC5;Leo;19840530;5")
    result = desk.run()
    assert result.exit_code == 1
    assert desk.vault.writes == ["C9", "C5"]
    assert (tmp_path / "customers.rejects.csv").read_text() == HEADER + "\n".join(bad) + "\n"
    assert report(tmp_path / "customers.rejects.csv.report.jsonl") == [
        {"row": 2, "line": 3, "column": "born", "reason": "must be a calendar date as %Y%m%d"},
        {"row": 3, "line": 4, "column": "", "reason": "has 2 values, the header has 4 columns"},
        {
            "row": 4,
            "line": 5,
            "column": "",
            "reason": "a quote is not closed, or a quote inside a quoted value is not doubled",
        },
        {"row": 5, "line": 6, "column": "balance", "reason": "must be a number"},
        {"row": 6, "line": 7, "column": "number", "reason": "the same customer number as in line 2"},
    ]
    assert "customers.csv:3: row 2 rejected: column 'born': must be a calendar date" in result.stderr


def test_rejects_and_report_are_their_owners_alone(tmp_path: Path) -> None:
    """They hold customers' data."""
    desk = Desk(tmp_path, HEADER + "C1\n")
    write(tmp_path, "customers.rejects.csv", "old").chmod(0o666)
    desk.run()
    for path in tmp_path.glob("customers.rejects.*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_corrected_rejects_can_be_imported_by_the_same_map(tmp_path: Path) -> None:
    """They are a file of the same shape."""
    desk = Desk(tmp_path, HEADER + "C1;Ana;1984-05-30;1\n" + rows(1, 2))
    desk.run()
    rejects = tmp_path / "customers.rejects.csv"
    rejects.write_text(rejects.read_text().replace("1984-05-30", "19840530"))
    result = run(
        "subject", "import", rejects, "--map", desk.map, "--policies", desk.policies, vault=desk.vault
    )
    assert result.exit_code == 0, result.output
    assert sorted(desk.vault.customers) == ["C1", "C2"]


def test_rejects_are_not_imported_by_row_number(tmp_path: Path) -> None:
    """Their rows have other numbers, which would overwrite other customers."""
    desk = Desk(tmp_path, HEADER + rows(1), MAP.replace("{column: number}", '{template: "U{row}"}'))
    desk.map.write_text(desk.map.read_text() + "ignore: [number]\n")
    desk.file = desk.file.rename(tmp_path / "customers.rejects.csv")
    result = desk.run()
    assert result.exit_code == 2
    assert "other customers" in result.stderr
    assert desk.vault.writes == []


def test_rows_that_the_server_refuses_are_rejected_also_after_a_restart(desk: Desk) -> None:
    """The journal remembers them, so that the rejects are whole in the end."""
    desk.vault.refuse = {"C7": "VERSION_MISMATCH"}
    desk.vault.break_after = 100
    desk.run()
    desk.vault.break_after = None
    desk.vault.refuse = {}
    summary = desk.json()["parts"]["attributes"]
    assert (summary["sent"] + summary["earlier"], summary["rejected"]) == (249, 1)
    assert (desk.folder / "customers.rejects.csv").read_text() == HEADER + rows(1, 7)


@pytest.mark.parametrize("reason", ["NOT_PERMITTED", "OVERLOADED", "QUOTA_EXCEEDED", "KEYS_UNAVAILABLE"])
def test_a_refusal_that_is_not_the_rows_fault_stops_the_import(desk: Desk, reason: str) -> None:
    """Rejecting 45,000 good rows for a missing permission helps nobody."""
    desk.vault.refuse = {"C7": reason}
    result = desk.run()
    assert result.exit_code == 1
    assert f"row 7: {reason}" in result.stderr
    desk.vault.refuse = {}
    assert desk.run().exit_code == 0
    assert len(desk.vault.customers) == 250
    assert not (desk.folder / "customers.rejects.csv").exists()


def test_duplicates_last_lets_the_later_row_win(tmp_path: Path) -> None:
    """Both are written, in the order of the file."""
    desk = Desk(tmp_path, HEADER + "C1;Ana;19840530;1\nC1;Ana;19840530;2\n")
    assert desk.run("--duplicates", "last").exit_code == 0
    assert str(desk.vault.customers["C1"]["balance"]) == "2"


def test_a_changed_map_is_another_import(desk: Desk) -> None:
    """Its request ids are new, or the server would take the rows for repeats with other content."""
    desk.run()
    desk.map.write_text(MAP.replace("[EU]", "[GB]"))
    assert desk.run().exit_code == 0
    assert len(desk.vault.writes) == 500


def test_the_server_is_part_of_what_was_imported(desk: Desk) -> None:
    """A file that is in one installation is not in another."""
    desk.run("--addr", "a.example:1")
    assert desk.run("--addr", "b.example:1").exit_code == 0
    assert len(desk.vault.requests) == 500


def test_a_file_that_changes_meanwhile_is_not_called_imported(desk: Desk) -> None:
    """The journal stays open, and the next run takes the new file."""
    original = desk.vault.write_many

    def write_many(items: Any) -> Any:
        yield from original(items)
        desk.file.write_text(HEADER + rows(251))

    desk.vault.write_many = write_many  # type: ignore[method-assign]
    result = desk.run()
    assert result.exit_code == 1
    assert "was changed while it was imported" in result.stderr


def test_a_wrong_map_sends_nothing_and_leaves_no_journal(desk: Desk) -> None:
    """Exit code 2, with the place."""
    desk.map.write_text(MAP.replace("given-name", "given-nam"))
    result = desk.run()
    assert result.exit_code == 2
    assert "map.yaml:5:3: unknown attribute 'given-nam' (did you mean 'given-name'?)" in result.stderr
    assert not (desk.folder / "customers.csv.journal").exists()


def test_policies_that_do_not_compile_are_exit_code_3(desk: Desk) -> None:
    """The types come from them."""
    (desk.policies / "attributes.yaml").write_text("attributes: 1\n")
    assert desk.run("--dry-run").exit_code == 3


@pytest.mark.parametrize("option", [[], ["--dry-run"], ["--output", "json"], ["--propose-map"]])
def test_no_output_holds_a_value(tmp_path: Path, option: list[str]) -> None:
    """Good rows, rejected rows, broken files: a marked value is on no stream and in no report or journal."""
    lines = [
        f"C1;{CANARY};19840530;1",
        f"C2;{CANARY};{CANARY};{CANARY}",
        f"{CANARY};{CANARY}",
        f'C3;"{CANARY};1;1',
        f"C4;{CANARY};19840530;5",
    ]
    desk = Desk(tmp_path, HEADER + "\n".join(lines) + "\n")
    desk.vault.refuse = {"C4": "INVALID_ARGUMENT"}
    result = desk.run(*option)
    kept = [path.read_text() for path in tmp_path.iterdir() if path.is_file() and path.suffix != ".csv"]
    assert CANARY not in result.output + result.stderr + "".join(kept)
    assert result.exit_code == (0 if option == ["--propose-map"] else 1)


def test_progress_without_a_terminal_is_a_line_now_and_then(tmp_path: Path) -> None:
    """No control characters in a log file."""
    desk = Desk(tmp_path, HEADER + rows(20_000))
    result = desk.run("--dry-run")
    assert "customers.csv: 20000 rows, 0 rejected" in result.stderr
    assert "\x1b" not in result.output


def test_the_number_of_rows_that_are_shown_is_bounded(tmp_path: Path) -> None:
    """The rest is counted."""
    desk = Desk(tmp_path, HEADER + "C1\n" * 50)
    result = desk.run("--dry-run")
    assert result.stderr.count("rejected:") == 20
    assert "rejected: 50" in result.stdout


def test_a_sender_on_another_thread_hears_of_a_broken_file(tmp_path: Path) -> None:
    """gRPC swallows what a request iterator raises: the import must not end as if the file had ended."""
    desk = Desk(tmp_path, HEADER.replace(";", ",") + rows(3), MAP.replace('";"', '";", encoding: utf-16'))
    desk.file.write_bytes((HEADER + rows(3)).encode("utf-16") + b"\x00\xd8\x41")
    original = desk.vault.write_many

    def write_many(items: Any) -> Any:
        taken: list[Any] = []
        reader = threading.Thread(target=lambda: taken.extend(items))
        reader.start()
        reader.join()
        yield from original(taken)

    desk.vault.write_many = write_many  # type: ignore[method-assign]
    result = desk.run()
    assert result.exit_code == 1
    assert "not utf-16" in result.stderr
    assert "already imported" not in desk.run().output


CONSENTS = "customer_number,purpose,state,notice,notice_version,language,jurisdiction,channel,expires_at\n"


def test_consents_are_recorded_after_the_rows_with_their_own_request_ids(desk: Desk) -> None:
    """Withdrawals by their own call; the channel is `import` unless the file says otherwise."""
    consents = write(
        desk.folder,
        "consents.csv",
        CONSENTS
        + "C1,personalised-offers,given,offers,2,en,EU,branch,2027-01-01T00:00:00Z\n"
        + "C2,marketing,withdrawn,,,,,,\n",
    )
    desk.vault.answers = {"record_consent": Receipt(), "withdraw_consent": Receipt()}
    result = desk.run("--consents", consents)
    assert result.exit_code == 0, result.output
    (_, first, given), (name, second, withdrawn) = desk.vault.calls
    assert (first, given["notice_version"], given["channel"], given["expires_at"].year) == (
        "C1",
        2,
        "branch",
        2027,
    )
    assert (name, second, withdrawn["channel"]) == ("withdraw_consent", "C2", "import")
    assert withdrawn["request_id"].endswith("-c2")


class Receipt:
    replayed = False


def test_bad_consents_are_rejected_like_rows(desk: Desk) -> None:
    """Unknown purpose and state, a moment without offset, what is missing, objections (another service)."""
    consents = write(
        desk.folder,
        "consents.csv",
        CONSENTS
        + "C1,marketing-x,given,,,,,,\nC1,marketing,maybe,,,,,,\nC1,marketing,given,,x,,,,2027-01-01\n"
        + ",marketing,given,,,,,,\nC1,marketing,objected,,,,,,\n",
    )
    assert desk.run("--consents", consents).exit_code == 1
    assert [
        (each["row"], each["column"]) for each in report(desk.folder / "consents.rejects.csv.report.jsonl")
    ] == [
        (1, "purpose"),
        (2, "state"),
        (3, "notice_version"),
        (3, "expires_at"),
        (4, "customer_number"),
        (5, "state"),
    ]
    assert desk.vault.calls == []


def test_consents_go_on_where_they_stopped(desk: Desk) -> None:
    """A cut connection between two events."""
    consents = write(
        desk.folder, "consents.csv", CONSENTS + "C1,marketing,refused,,,,,,\nC2,marketing,refused,,,,,,\n"
    )
    desk.vault.answers = {"record_consent": failure()}
    assert desk.run("--consents", consents).exit_code == 1
    desk.vault.answers = {"record_consent": Receipt()}
    desk.vault.calls.clear()
    assert desk.run("--consents", consents).exit_code == 0
    assert [call[1] for call in desk.vault.calls] == ["C1", "C2"]
    assert len(desk.vault.writes) == 250


def test_a_consents_file_with_an_unknown_column_is_refused(desk: Desk) -> None:
    """Before anything is sent."""
    consents = write(desk.folder, "consents.csv", "customer_number,purpos,state\n")
    result = desk.run("--consents", consents)
    assert result.exit_code == 1
    assert "unknown column 'purpos' (did you mean 'purpose'?)" in result.stderr
    assert desk.vault.writes == []


@pytest.mark.parametrize("option", ["--rejects", "--journal"])
def test_what_is_read_is_never_written(desk: Desk, option: str) -> None:
    """A slip of the hand must not cost the customers' file."""
    before = desk.file.read_bytes()
    for more in ([], ["--dry-run"]):
        result = desk.run(option, desk.file, *more)
        assert result.exit_code == 2
    assert desk.file.read_bytes() == before


def test_a_row_that_fits_after_a_change_of_policies_goes_in(tmp_path: Path) -> None:
    """An unfinished import must not take a row it had rejected for one that is in."""
    desk = Desk(tmp_path, HEADER + "C0;Ana;19840530;1.505\n" + rows(250))
    desk.vault.break_after = 200
    desk.run()
    desk.vault.break_after = None
    path = desk.policies / "attributes.yaml"
    path.write_text(
        path.read_text().replace("balance: {type: decimal, scale: 2", "balance: {type: decimal, scale: 3")
    )
    assert desk.run().exit_code == 0
    assert "C0" in desk.vault.customers
