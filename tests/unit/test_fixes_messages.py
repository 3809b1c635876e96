"""What a new user reads when a setting, a folder or an option is wrong."""

from pathlib import Path
from typing import Any

import click
import grpc
import pytest

from tests.support.cli import HEADER, MAP, MemoryVault, event_receipt, policies, report, rows, run, write
from vault.cli import COMMANDS
from vault.cli.application import application
from vault.cli.exits import ExitCode
from vault.cli.failures import report as report_failure
from vault.client import errors, results
from vault.client.words import ErrorReason
from vault.config import load_settings
from vault.consent.events import _period
from vault.domain.checks import FieldChecks
from vault.domain.errors import ConfigurationError, InvalidArgumentError
from vault.domain.faults import did_you_mean, plain_fault
from vault.policy.bundle import load_bundle
from vault.policy.problems import FolderError

CONSENTS = "customer_number,purpose,state\n"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and nothing about datavault in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATAVAULT_POLICIES", "DATAVAULT_CONFIG", "DATAVAULT_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def refused(reason: ErrorReason, message: str = "no") -> errors.DatavaultClientError:
    return errors.DatavaultClientError(reason, message, grpc.StatusCode.UNKNOWN)


# --- folders of policies ----------------------------------------------------------------------------------


def test_a_missing_policies_folder_is_named_and_is_no_mistake_of_a_policy(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and no line and column of a folder."""
    with pytest.raises(FolderError) as caught:
        load_bundle(Path("policies"))
    assert report_failure(caught.value) is ExitCode.USAGE
    told = "datavault: error: policies: no such folder; set DATAVAULT_POLICIES\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("policy", "check"), "give FOLDER, or set"),
        (("policy", "test", "nowhere"), "give FOLDER, or set"),
        (("policy", "explain", "c", "p", "a", "--folder", "nowhere"), "give --folder, or set"),
        (("subject", "import", __file__, "--propose-map"), "give --policies, or set"),
    ],
)
def test_the_hint_names_what_the_command_takes(bare: Path, words: tuple[str, ...], named: str) -> None:
    """An argument here, an option there."""
    result = run(*words)
    assert (result.exit_code, named in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("policy", "check"),
        ("policy", "test"),
        ("policy", "explain", "engine", "personalised-offers", "income", "--folder"),
        ("subject", "import", "customers.csv", "--propose-map"),
    ],
)
def test_policies_named_in_the_configuration_file_are_used(bare: Path, words: tuple[str, ...]) -> None:
    """As by `datavault serve`."""
    policies(bare / "elsewhere")
    write(bare, "datavault.toml", 'policies = "elsewhere/policies"\n')
    write(bare, "customers.csv", HEADER + rows(2))
    result = run(*words)
    assert result.exit_code == 0, result.output


def test_one_problem_is_not_told_as_many(tmp_path: Path) -> None:
    """`1 problem`."""
    folder = policies(tmp_path)
    (folder / "extra.txt").write_text("x")
    assert "1 problem: the folder is refused" in run("policy", "check", folder).stderr


# --- settings ---------------------------------------------------------------------------------------------


def test_a_setting_that_is_not_json_is_a_configuration_error(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the variable and the shape, not the value."""
    monkeypatch.setenv("DATAVAULT_JWT_ISSUERS", "abc")
    with pytest.raises(ConfigurationError, match="DATAVAULT_JWT_ISSUERS: must be JSON: ") as caught:
        load_settings()
    assert "abc" not in str(caught.value)
    assert run("config").exit_code == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('polices = "x"', "datavault.toml: polices: no such setting (did you mean 'policies'?)"),
        ('listen = "x"', "datavault.toml: listen: must be host:port"),
        ("reflection = 7", "datavault.toml: reflection: must be true or false"),
        ('keys = "x"', "datavault.toml: keys: must be 'local' or 'transit'"),
        (
            '[[jwt_issuers]]\nissuer="i"\naudience="a"\njwk="x"\njwks="x"',
            "datavault.toml: jwt_issuers.0.jwk: no such setting (did you mean 'jwks'?)",
        ),
        ('[[jwt_issuers]]\nissuer="i"\naudience="a"', "datavault.toml: jwt_issuers.0.jwks: is missing"),
    ],
)
def test_a_wrong_setting_of_the_file_is_told_in_our_words(bare: Path, content: str, message: str) -> None:
    """With the file, the key and what is near or right."""
    write(bare, "datavault.toml", content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"configuration: {message}")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('transit_token = "s.secret"', "transit_token"),
        ('VAULT_TOKEN = "s.secret"', "VAULT_TOKEN"),
        ('transit_role_id = "secret"', "transit_role_id"),
        ('database_url = "postgresql://vault:secret@db/vault"', "database_url"),
    ],
)
def test_a_file_with_a_secret_is_for_its_owner_alone(bare: Path, line: str, name: str) -> None:
    """Others may read it: refused, with the setting and the remedy, without the secret."""
    write(bare, "datavault.toml", line)
    file = bare / "datavault.toml"
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match=f"^{name}: others may read .*; run: chmod 600") as caught:
        load_settings()
    assert "secret" not in str(caught.value)
    file.chmod(0o600)
    load_settings()


def test_a_file_without_secrets_may_be_read_by_all(bare: Path) -> None:
    """Settings are no secret."""
    write(bare, "datavault.toml", 'database_url = "postgresql://vault@db/vault"')
    (bare / "datavault.toml").chmod(0o644)
    load_settings()


def test_a_wrong_setting_of_the_environment_has_the_name_of_its_variable(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment wins over the file, so it is the one at fault."""
    write(bare, "datavault.toml", 'listen = "also wrong"')
    monkeypatch.setenv("DATAVAULT_LISTEN", "x")
    with pytest.raises(ConfigurationError, match=r"^configuration: DATAVAULT_LISTEN: must be host:port"):
        load_settings()


def test_a_misspelt_variable_is_refused_with_the_one_that_is_near(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be ignored otherwise."""
    monkeypatch.setenv("DATAVAULT_LISTN", "x")
    with pytest.raises(
        ConfigurationError, match=r"DATAVAULT_LISTN: .* \(did you mean 'DATAVAULT_LISTEN'\?\)"
    ):
        load_settings()


@pytest.mark.parametrize(
    ("kind", "message", "told"),
    [
        ("value_error", "Value error, must be so", "must be so"),
        ("greater_than", "Input should be greater than 1", "must be greater than 1"),
        (
            "too_short",
            "List should have at least 1 item after validation, not 0",
            "must have at least 1 item",
        ),
        ("extra_forbidden", "Extra inputs are not permitted", "is unknown"),
    ],
)
def test_faults_of_models_are_told_plainly(kind: str, message: str, told: str) -> None:
    """The library's own phrases reach nobody."""
    assert plain_fault({"type": kind, "msg": message}) == told


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    """A far word would mislead."""
    assert did_you_mean("zebra", {"policies"}) == ""


# --- refused calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "by_token", "by_certificate"),
    [
        (ErrorReason.UNAUTHENTICATED, "the token must be unexpired", "SPIFFE id or DNS name of this certif"),
        (ErrorReason.UNREACHABLE, "DATAVAULT_LISTEN_JWT", "check --addr"),
        (ErrorReason.TLS_FAILED, "DATAVAULT_LISTEN_JWT", "--server-name"),
    ],
)
def test_the_hint_fits_the_kind_of_identity(
    bare: Path, monkeypatch: pytest.MonkeyPatch, reason: ErrorReason, by_token: str, by_certificate: str
) -> None:
    """A token has an issuer, an audience and a port of its own; a certificate given replaces it."""
    monkeypatch.setenv("DATAVAULT_TOKEN_FILE", "token")
    vault = MemoryVault()
    vault.answers = {"get_consent": refused(reason)}
    assert by_token in run("consent", "show", "1", vault=vault).stderr
    vault.answers = {"get_consent": refused(reason)}
    told = run("consent", "show", "1", "--cert", "c", "--key", "k", vault=vault).stderr
    assert by_certificate in told
    assert by_token not in told


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("decimal", "income:decimal=..."),
        ("int64", "income:int=..."),
        ("json", "income:=..."),
        ("string", "income=..."),
    ],
)
def test_a_value_of_another_type_is_told_as_the_command_takes_it(kind: str, written: str) -> None:
    """The server speaks of fields of the message."""
    vault = MemoryVault()
    message = f"writes[0].value: income is a {kind}: set {kind}_value"
    vault.answers = {"write_attributes": refused(ErrorReason.INVALID_ARGUMENT, message)}
    told = run("subject", "write", "4711", "income=3", vault=vault).stderr
    assert f"INVALID_ARGUMENT: income is a {kind}: write {written}\n" in told


def test_further_violations_are_told_apart_from_the_first() -> None:
    """They are no part of a list that the first one ends with."""
    checks = FieldChecks()
    for field in ("a", "b", "c"):
        checks.require(False, field, "must be one of x, y")
    with pytest.raises(InvalidArgumentError, match=r"^a: must be one of x, y; 2 more fields are wrong$"):
        checks.raise_if_any()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (63_072_000, "730 days"),
        (86_400, "1 day"),
        (5_400, "90 minutes"),
        (7_200, "2 hours"),
        (61, "61 seconds"),
    ],
)
def test_a_lifetime_is_told_in_the_unit_it_was_written_in(seconds: int, told: str) -> None:
    """730 days, not 63072000 seconds."""
    assert _period(seconds) == told


# --- policy explain ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("engin", "personalised-offers", "income"), "engine"),
        (("engine", "personalised-ofers", "income"), "personalised-offers"),
        (("engine", "personalised-offers", "incom"), "income"),
        (("engine", "personalised-offers", "income", "--basis", "consnt"), "consent"),
    ],
)
def test_explain_refuses_a_misspelt_name(tmp_path: Path, words: tuple[str, ...], near: str) -> None:
    """Its answer, not-permitted, would be taken for that of the right name."""
    result = run("policy", "explain", *words, "--folder", policies(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"(did you mean '{near}'?)" in result.stderr


def test_explain_refuses_a_misspelt_basis_before_it_asks_the_server() -> None:
    """The bases are the same everywhere."""
    vault = MemoryVault()
    assert run("policy", "explain", "e", "p", "a", "--basis", "consnt", vault=vault).exit_code == 2
    assert vault.calls == []


# --- import -----------------------------------------------------------------------------------------------


class Desk:
    """A file with its map and policies."""

    def __init__(self, folder: Path, content: str) -> None:
        self.vault = MemoryVault()
        self.words: tuple[Any, ...] = (
            *("subject", "import", write(folder, "customers.csv", content)),
            *("--map", write(folder, "map.yaml", MAP), "--policies", policies(folder)),
        )

    def run(self, *more: str | Path) -> Any:
        return run(*self.words, *more, vault=self.vault)


def test_a_report_is_named_where_one_is_written_alone(tmp_path: Path) -> None:
    """A dry run without --rejects writes none."""
    desk = Desk(tmp_path, HEADER + "C1\n" * 30)
    assert "rejected rows are counted below\n" in desk.run("--dry-run").stderr
    named = desk.run("--dry-run", "--rejects", tmp_path / "kept.csv").stderr
    assert f"counted below and listed in {tmp_path / 'kept.csv.report.jsonl'}\n" in named


def test_a_finished_import_tells_its_rows_as_those_of_an_earlier_run(tmp_path: Path) -> None:
    """Nothing was sent now."""
    desk = Desk(tmp_path, HEADER + rows(5))
    desk.run()
    output = desk.run().stdout
    assert "  earlier: 5" in output
    assert "sent" not in output


@pytest.mark.parametrize("missing", ["customers.csv", "map.yaml"])
def test_a_missing_file_is_wrong_usage(tmp_path: Path, missing: str) -> None:
    """The data as much as the map."""
    desk = Desk(tmp_path, HEADER)
    (tmp_path / missing).unlink()
    result = desk.run()
    assert (result.exit_code, "does not exist" in result.stderr) == (2, True)


def test_a_map_is_not_silently_ignored(tmp_path: Path) -> None:
    """--propose-map reads none."""
    result = Desk(tmp_path, HEADER + rows(1)).run("--propose-map")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "leave --map out" in result.stderr


def test_a_withdrawal_of_an_unknown_customer_says_what_to_record(tmp_path: Path) -> None:
    """There is no consent to withdraw, but there is one to refuse."""
    desk = Desk(tmp_path, HEADER + rows(1))
    desk.vault.answers = {"withdraw_consent": refused(ErrorReason.NOT_FOUND)}
    consents = write(tmp_path, "consents.csv", CONSENTS + "C9,marketing,withdrawn\n")
    assert desk.run("--consents", consents).exit_code == 1
    [entry] = report(tmp_path / "consents.rejects.csv.report.jsonl")
    assert entry["reason"].endswith(
        "unknown customer: nothing to withdraw; record the state `refused` instead"
    )


# --- help and output --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("policy",), ("subject",)])
def test_a_bare_group_prints_its_help(words: tuple[str, ...]) -> None:
    """On stdout, with exit code 2 and no error."""
    result = run(*words)
    assert (result.exit_code, result.stderr) == (2, "")
    assert result.stdout.startswith("Usage: ")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_summary_is_cut(name: str) -> None:
    """A summary in a list of commands is a whole sentence."""
    command = application.get_command(click.Context(application), name)
    listed = command.commands.values() if isinstance(command, click.Group) else ()
    assert all(each.get_short_help_str(45).endswith((".", "line.")) for each in listed)


def test_every_change_names_request_and_record_alike() -> None:
    """`consent record` as `subject write`."""
    vault = MemoryVault()
    vault.answers = {
        "withdraw_consent": event_receipt(replayed=True),
        "write_attributes": results.WriteReceipt({"email": 2}, True, True, "q1", "r1", 7),
    }
    written = run("subject", "write", "4711", "email=x", vault=vault).stdout
    withdrawn = run("consent", "withdraw", "4711", "marketing", "--channel", "phone", vault=vault).stdout
    ends = [text.split("request id:")[1].split() for text in (written, withdrawn)]
    assert ends[0] == ends[1]
    assert "done before" in written
