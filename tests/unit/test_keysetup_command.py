"""`datavault keys init` without a KMS: what it prints, and the local key file."""

import json
import stat
from pathlib import Path

import pytest

from tests.support.cli import run
from tests.support.keysetup import CLASSES, small_policies
from tests.support.pipelines import open_house
from vault.crypto.names import STANDARD_CLASSES, all_keys
from vault.crypto.transit_formats import commands, terraform
from vault.crypto.transit_policies import Role, policy

GOLDEN = Path(__file__).parents[1] / "golden" / "keysetup_behaviour.hcl"
POLICIES = Path(__file__).parents[2] / "policies"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that is not there yet, with small policies; keys are local."""
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_CACERT", "DATAVAULT_KEYS", "DATAVAULT_TRANSIT_MOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATAVAULT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATAVAULT_POLICIES", str(small_policies(tmp_path / "policies")))
    return tmp_path / "home"


@pytest.fixture
def transit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are in Transit, and nobody answers there: printing asks nobody."""
    monkeypatch.setenv("DATAVAULT_KEYS", "transit")


@pytest.mark.usefixtures("transit")
def test_a_role_and_its_classes_print_one_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """HCL of one policy and nothing else, to be piped to `policy write`."""
    monkeypatch.setenv("DATAVAULT_POLICIES", str(POLICIES))
    result = run("keys", "init", "--role", "replica", "--classes", "behaviour")
    assert (result.exit_code, result.stdout) == (0, GOLDEN.read_text("utf-8"))


@pytest.mark.usefixtures("transit")
def test_alone_it_prints_the_policies_of_replicas() -> None:
    """Those of replica and operator, for all classes of attributes.yaml."""
    printed = run("keys", "init").stdout
    heads = [line for line in printed.splitlines() if line.startswith("# datavault-")]
    assert heads == [
        "# datavault-replica: role replica, key classes: behaviour, contact",
        "# datavault-operator: role operator, key classes: behaviour, contact",
    ]


@pytest.mark.usefixtures("transit")
def test_terraform_and_commands_hold_the_keys_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the policies open some classes only: another replica serves the others."""
    monkeypatch.setenv("DATAVAULT_TRANSIT_MOUNT", "kms/keys")
    only = [policy(Role.REPLICA, "kms/keys", ["contact"], CLASSES)]
    words = ("keys", "init", "--role", "replica", "--classes", "contact", "--format")
    assert run(*words, "terraform").stdout == terraform("kms/keys", CLASSES, only)
    assert run(*words, "commands").stdout == commands("kms/keys", CLASSES, only)
    document = json.loads(run(*words, "json").stdout)
    assert {key["name"] for key in document["keys"]} == set(all_keys(CLASSES))
    assert [each["classes"] for each in document["policies"]] == [["contact"]]


@pytest.mark.usefixtures("home")
def test_policies_can_be_printed_before_transit_is_chosen() -> None:
    """With local keys, asking for a role or a format prints, and makes no key file."""
    assert run("keys", "init", "--role", "setup").stdout.startswith("# datavault-setup: role setup")
    assert '"mount": "transit"' in run("keys", "init", "--format", "json").stdout


@pytest.mark.usefixtures("transit")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--apply", "--format", "hcl"), "--format prints"),
        (("--classes", "behavior"), "no key class behavior (did you mean 'behaviour'?)"),
        (("--classes", " , "), "name at least one key class"),
        (("--apply",), "VAULT_ADDR: must be set"),
        (("--dry-run",), "VAULT_ADDR: must be set"),
        (("--role", "root"), "'root' is not one of"),
    ],
)
def test_a_wrong_call_is_a_usage_error(words: tuple[str, ...], told: str) -> None:
    """Exit code 2, and what would be right."""
    result = run("keys", "init", *words)
    assert result.exit_code == 2
    assert told in result.stderr


# --- local keys ---------------------------------------------------------------------------------------------


def states(*words: str) -> dict[str, str]:
    result = run("keys", "init", *words, "--output", "json")
    assert result.exit_code == 0, result.stderr
    assert all(step["kind"] == "local key" for step in json.loads(result.stdout))
    return {step["name"]: step["state"] for step in json.loads(result.stdout)}


def test_local_keys_are_made_once(home: Path) -> None:
    """The key file, mode 0600, with every key; run again, all is there and the file is as it was."""
    assert set(states("--dry-run").values()) == {"to make"}
    assert not home.exists()
    assert states() == dict.fromkeys(all_keys(CLASSES), "made")
    made = (home / "keys.json").read_bytes()
    assert stat.S_IMODE((home / "keys.json").stat().st_mode) == 0o600
    assert states() == dict.fromkeys(all_keys(CLASSES), "there")
    assert (home / "keys.json").read_bytes() == made


def test_keys_of_new_classes_are_added(home: Path, tmp_path: Path) -> None:
    """A class that the file has no key of yet; the others stay."""
    states()
    folder = tmp_path / "policies"
    text = (folder / "attributes.yaml").read_text("utf-8")
    assert "loyalty" not in STANDARD_CLASSES
    (folder / "attributes.yaml").write_text(text.replace("key_classes:\n", "key_classes:\n  loyalty: {}\n"))
    assert states("--dry-run")["datavault-loyalty"] == "to make"
    found = states()
    assert found.pop("datavault-loyalty") == "made"
    assert set(found.values()) == {"there"}


def test_no_new_keys_beside_a_served_database(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would open none of its values: the backup is named."""
    with open_house(tmp_path):
        pass
    monkeypatch.setenv("DATAVAULT_HOME", str(home))
    (home / "keys.json").unlink()
    result = run("keys", "init")
    assert result.exit_code == 2
    assert "restore keys.json from its backup" in result.stderr
    assert not (home / "keys.json").exists()


def test_production_gets_no_local_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal says what to set; a dry run is refused like the real one."""
    monkeypatch.setenv("DATAVAULT_ENVIRONMENT", "production")
    assert run("keys", "init", "--dry-run").exit_code == 2
    result = run("keys", "init")
    assert result.exit_code == 2
    assert "DATAVAULT_KEYS=transit" in result.stderr
    assert not (home / "keys.json").exists()


@pytest.mark.usefixtures("home")
def test_a_role_cannot_be_applied_to_local_keys() -> None:
    """Policies are of Transit."""
    result = run("keys", "init", "--apply", "--role", "replica")
    assert result.exit_code == 2
    assert "DATAVAULT_KEYS=transit" in result.stderr
