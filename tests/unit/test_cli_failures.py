"""How `datavault` ends: exit codes, one line on stderr, no traceback, no value."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest

from tests.support.cli import CANARY, MemoryVault, policies, run
from vault.cli import COMMANDS
from vault.cli.application import application
from vault.cli.exits import CommandError, ExitCode
from vault.cli.failures import report as report_failure
from vault.domain.errors import ConfigurationError, InvalidArgumentError
from vault.policy.problems import PolicyError, PolicyProblem


def python(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `code` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_help_shows_every_command_an_example_of_each_and_the_exit_codes() -> None:
    """From the table, so that nothing else is imported."""
    output = run("--help").output
    for name, lazy in COMMANDS.items():
        assert name in output
        assert lazy.example in output
    for code in ExitCode:
        assert re.search(rf"^  {int(code)} ", output, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_of_the_table_can_be_loaded_and_has_help(name: str) -> None:
    """With an example in its own help or in that of its commands."""
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_help_imports_neither_commands_nor_heavy_libraries() -> None:
    """`datavault --help` must be quick, and completion asks for it at every key."""
    found = python(
        """
        import sys
        from vault.cli import main
        try:
            main(["--help"])
        except SystemExit as end:
            assert end.code == 0
        heavy = {"grpc", "rich", "pydantic", "sqlalchemy", "yaml", "vault.client", "vault.policy"}
        print(sorted(heavy & set(sys.modules)), file=sys.stderr)
        """
    )
    assert found.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("click", ["--help"]),
        ("rich", ["config"]),
        ("pydantic", ["policy", "test"]),
        ("yaml", ["subject", "import", __file__, "--map", __file__, "--dry-run"]),
    ],
)
def test_without_the_server_extra_one_line_says_what_to_install(
    missing: str, words: list[str], tmp_path: Path
) -> None:
    """`pip install .` is the client alone."""
    found = python(
        f"""
        import sys
        sys.modules[{missing!r}] = None
        from vault.cli import main
        main({words!r})
        """,
        DATAVAULT_POLICIES=str(policies(tmp_path)),
    )
    assert found.returncode == 2
    assert found.stderr == (
        "datavault: the command line needs the server extra: pip install '.[server]' in the source folder\n"
    )


def test_without_pyarrow_the_parquet_extra_is_named(tmp_path: Path) -> None:
    """It is an extra of its own."""
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    found = python(
        f"""
        import sys
        sys.modules["pyarrow"] = None
        from vault.cli import main
        main(["subject", "import", {str(tmp_path / "a.parquet")!r}, "--propose-map"])
        """,
        DATAVAULT_POLICIES=str(policies(tmp_path)),
    )
    assert found.returncode == 1
    assert found.stderr.endswith("Parquet needs pyarrow: pip install '.[parquet]' in the source folder\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CommandError("no", "do that"), ExitCode.FAILED, "datavault: error: no\n  next: do that\n"),
        (
            CommandError("no", code=ExitCode.VERIFICATION_FAILED),
            ExitCode.VERIFICATION_FAILED,
            "datavault: error: no\n",
        ),
        (click.UsageError("wrong"), ExitCode.USAGE, "datavault: error: wrong\n  next: datavault --help\n"),
        (click.Abort(), ExitCode.INTERRUPTED, "datavault: interrupted\n"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "datavault: interrupted\n"),
        (ConfigurationError("set this"), ExitCode.USAGE, "datavault: error: set this\n"),
        (InvalidArgumentError("no"), ExitCode.FAILED, "datavault: error: no\n"),
        (
            PolicyError([PolicyProblem("policy.csv", 3, 1, "no")]),
            ExitCode.POLICY_DOES_NOT_COMPILE,
            "datavault: error: policy.csv:3:1: no\n",
        ),
        (
            FileNotFoundError(2, "No such file", "x.csv"),
            ExitCode.FAILED,
            "datavault: error: x.csv: No such file\n",
        ),
        (BrokenPipeError(), ExitCode.FAILED, ""),
        (
            ValueError(CANARY),
            ExitCode.FAILED,
            "datavault: error: a fault of datavault itself (ValueError)\n"
            "  next: set DATAVAULT_DEBUG=1 to see where\n",
        ),
    ],
)
def test_every_kind_of_end_has_its_code_and_its_line(
    error: BaseException,
    code: ExitCode,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its text is never that of an unexpected error, which may hold anything."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert report_failure(error) is code
    assert capsys.readouterr().err == line


def test_a_traceback_is_shown_on_demand_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DATAVAULT_DEBUG."""
    monkeypatch.setenv("DATAVAULT_DEBUG", "1")
    report_failure(CommandError("no"))
    assert "CommandError: no" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["subject", "nonsense"],
        ["subject", "read", "1"],
        ["policy", "check", "--output", "xml"],
        ["--x"],
    ],
)
def test_wrong_usage_exits_with_2_on_stderr(words: list[str]) -> None:
    """And says where the help is."""
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--help" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    """For the three shells click knows."""
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_DATAVAULT_COMPLETE" in result.stdout


def test_the_script_completes_commands() -> None:
    """The way a shell asks."""
    found = python(
        "from vault.cli import main; main([])",
        _DATAVAULT_COMPLETE="bash_complete",
        COMP_WORDS="datavault subject im",
        COMP_CWORD="2",
    )
    assert found.stdout == "plain,import\n"


def test_policy_check_tells_problems_with_their_place(tmp_path: Path) -> None:
    """Exit code 3; JSON has the same."""
    folder = policies(tmp_path)
    text = (
        (folder / "policy.csv").read_text().replace("pd:Income, read.generalise", "pd:Incom, read.generalise")
    )
    (folder / "policy.csv").write_text(text)
    result = run("policy", "check", folder)
    assert result.exit_code == 3
    assert re.search(r"policies/policy\.csv:2:\d+: .*'pd:Incom'.*did you mean 'pd:Income'", result.stdout)
    document = json.loads(run("policy", "check", folder, "--output", "json").stdout)
    assert (document["good"], document["problems"][0]["suggestion"]) == (False, "pd:Income")
    assert run("policy", "test", folder).exit_code == 3


def test_policy_check_of_a_good_folder_is_good(tmp_path: Path) -> None:
    """Exit code 0, with its hash and counts."""
    result = run("policy", "check", policies(tmp_path))
    assert result.exit_code == 0, result.output
    assert "agree" in result.stdout


def test_policy_test_fails_with_4_and_writes_junit(tmp_path: Path) -> None:
    """The failed expectation with its place; the build server gets the same."""
    folder = policies(tmp_path)
    path = folder / "tests" / "example.yaml"
    path.write_text(path.read_text().replace("income: generalise", "income: clear"))
    junit = tmp_path / "out.xml"
    result = run("policy", "test", folder, "--junit", junit)
    assert result.exit_code == 4
    assert "tests/example.yaml:2:1: test " in result.stdout.replace("example.yaml:2:5", "example.yaml:2:1")
    assert "expected clear, got generalise" in result.stdout
    assert 'failures="1"' in junit.read_text()
    assert run("policy", "check", folder).exit_code == 4


def test_policy_explain_of_a_folder_names_rules_and_lines(tmp_path: Path) -> None:
    """No server is asked."""
    vault = MemoryVault()
    result = run(
        *("policy", "explain", "engine", "personalised-offers", "income", "--basis", "consent"),
        *("--folder", policies(tmp_path)),
        vault=vault,
    )
    assert result.exit_code == 0, result.output
    assert "income: generalise" in result.stdout
    assert "policy.csv:2" in result.stdout
    assert vault.options == []


def test_a_missing_policies_folder_is_a_usage_error(tmp_path: Path) -> None:
    """With the option and the variable that name it."""
    result = run("policy", "check", tmp_path / "none")
    assert result.exit_code == 2
    assert "DATAVAULT_POLICIES" in result.stderr


def test_the_version_is_that_of_the_package() -> None:
    """`datavault --version`, with the build."""
    from vault import __version__
    from vault.build import BUILD

    assert run("--version").output == f"datavault {__version__} (build: {BUILD})\n"


def test_a_wrong_target_in_the_table_is_found_by_the_tests() -> None:
    """Each target is a click command."""
    context = click.Context(application)
    assert all(isinstance(application.get_command(context, name), click.Command) for name in COMMANDS)
