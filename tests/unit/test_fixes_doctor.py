"""What looks only makes nothing, and `datavault doctor` says each cause once, with its own way on."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import run
from tests.support.pipelines import open_house
from tests.support.service import ORIGIN, POLICIES, policies_copy
from vault import diagnosis
from vault.assembly import Use, open_rooms
from vault.config import JwtIssuerSettings, Settings
from vault.crypto.local import LocalKeyProvider
from vault.diagnosis import Finding, Health, diagnose
from vault.domain.errors import ConfigurationError, KeysUnavailableError, StartRefusedError
from vault.domain.protocols import KeyHealth, KeyInfo
from vault.domain.system import SystemClock, SystemRandomness
from vault.homes import adopt
from vault.identity.authority import Authority
from vault.policy.check import check
from vault.serving import tls_material


def settings(folder: Path, **changed: Any) -> Settings:
    return Settings(**{"home": folder / "home", "policies": POLICIES, "origin": ORIGIN, **changed})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a home that was served once, without records."""
    with open_house(tmp_path):
        pass
    return tmp_path / "home"


def found(folder: Path, **changed: Any) -> list[Finding]:
    return [each for each in diagnose(settings(folder, **changed)) if each.health is not Health.GOOD]


def only(findings: Sequence[Finding], check: str) -> Finding:
    [finding] = [each for each in findings if each.check == check]
    return finding


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison with Casbin has tests of its own, and takes seconds."""
    monkeypatch.setattr(diagnosis, "check", partial(check, budget_seconds=0.01))


# --- nothing is made ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("doctor",), 1),
        (("audit", "verify"), 2),
        (("audit", "vkey"), 2),
        (("audit", "adopt-restore", "--yes"), 2),
    ],
)
def test_what_looks_makes_no_keys(
    home: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], code: int
) -> None:
    """Without the key file every command that only looks says so, and leaves the home without one."""
    (home / "keys.json").unlink()
    for name, value in (("HOME", home), ("POLICIES", POLICIES), ("ORIGIN", ORIGIN)):
        monkeypatch.setenv(f"DATAVAULT_{name}", str(value))
    result = run(*command)
    assert result.exit_code == code
    assert "keys.json" in result.output
    assert "backup" in " ".join(result.output.split())
    assert not (home / "keys.json").exists()


def test_a_new_home_gets_keys_from_the_service_alone(tmp_path: Path) -> None:
    """Adopting a restore on a home without keys is refused; the service's own start makes them."""
    with pytest.raises(ConfigurationError, match="there are no local keys"):
        adopt(settings(tmp_path))
    assert not (tmp_path / "home" / "keys.json").exists()
    with open_rooms(settings(tmp_path), Use.SERVE):
        assert (tmp_path / "home" / "keys.json").exists()


def test_a_start_makes_no_new_keys_beside_a_served_database(home: Path) -> None:
    """The start is refused, naming the backup: new keys would open none of the values."""
    (home / "keys.json").unlink()
    with (
        pytest.raises(StartRefusedError, match=r"restore keys\.json from its backup"),
        open_rooms(settings(home.parent), Use.SERVE),
    ):
        raise AssertionError("it opened")
    assert not (home / "keys.json").exists()


def test_keys_that_vanish_under_a_service_are_not_made_anew(tmp_path: Path) -> None:
    """A new key class does not make a second set of all keys where the file is gone."""
    path = tmp_path / "keys.json"
    provider = LocalKeyProvider(path, environment="development", randomness=SystemRandomness(), create=True)
    path.unlink()
    with pytest.raises(ConfigurationError, match="restore"):
        provider.ensure_keys(["loyalty"])
    assert not path.exists()


def test_a_database_without_its_keys_is_bad(home: Path) -> None:
    """Doctor says once that the key file must come back, and makes it not a matter of the database."""
    (home / "keys.json").unlink()
    findings = found(home.parent)
    assert only(findings, "keys").health is Health.BAD
    assert "backup" in only(findings, "keys").remedy
    assert "database" not in [each.check for each in findings]


# --- each cause once ----------------------------------------------------------------------------------------


def test_an_outside_store_without_checkpoints_compared_nothing(home: Path) -> None:
    """With records in the log and an empty outside store doctor warns; with their checkpoint it does not."""
    with open_house(home.parent) as house:
        house.write("4711", {"email": "a@mail.example"})
        house.verify()
    assert "outside store" not in [each.check for each in found(home.parent)]
    finding = only(found(home.parent, outside_store=str(home / "elsewhere")), "outside store")
    assert finding.health is Health.WARNING
    assert finding.detail.endswith("holds no checkpoint of this log: nothing was compared")


def test_policy_mistakes_stand_under_policies_alone(home: Path) -> None:
    """Policies that do not compile are one row; the keys are looked at all the same."""
    broken = policies_copy(home / "broken", {"purposes.yaml": lambda text: text + "\nnonsense: {}\n"})
    findings = found(home.parent, policies=broken)
    assert [each.check for each in findings if each.health is Health.BAD] == ["policies"]


class Refusing:
    """A key provider whose every key is refused for one cause."""

    name = "transit"

    def health(self) -> KeyHealth:
        return KeyHealth(True, "it answers")

    def info(self, key: str) -> KeyInfo:
        raise KeysUnavailableError("the KMS has no such key or mount (status 404)")

    def public_key(self, key: str) -> None:
        self.info(key)

    def close(self) -> None: ...


def test_a_wrong_mount_is_one_finding(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys one cause hides, it is said once and not under the database."""
    monkeypatch.setattr(diagnosis, "key_provider", lambda *_: Refusing())
    findings = found(home.parent, keys="transit")
    assert [each.check for each in findings if each.health is Health.BAD] == ["keys"]
    assert only(findings, "keys").detail.startswith("all keys: ")
    assert "DATAVAULT_TRANSIT_MOUNT" in only(findings, "keys").remedy


# --- certificates and tokens --------------------------------------------------------------------------------


def issued(folder: Path) -> tuple[Path, Path]:
    authority = Authority.open(folder / "ca", SystemClock(), SystemRandomness())
    return authority.server_credentials_files(folder)


def mismatched(folder: Path) -> Settings:
    certificate, _ = issued(folder / "one")
    _, key = issued(folder / "two")
    return settings(folder, server_certificate=certificate, server_key=key)


def test_a_key_of_another_certificate_is_bad(tmp_path: Path) -> None:
    """Doctor sees that certificate and key do not belong together."""
    finding = only([*diagnose(mismatched(tmp_path))], "certificates")
    assert finding.health is Health.BAD
    assert "is not the key of the certificate" in finding.detail


def test_a_key_of_another_certificate_is_refused_before_a_port_is_bound(tmp_path: Path) -> None:
    """The start says so, where gRPC would fail each handshake and say nothing."""
    wrong = mismatched(tmp_path)
    with (
        open_rooms(wrong, Use.SERVE) as rooms,
        pytest.raises(ConfigurationError, match="is not the key of the certificate"),
    ):
        tls_material(rooms)


@pytest.mark.parametrize(
    "damage",
    [lambda key: key.write_text("no key"), lambda key: key.unlink(), lambda key: key.chmod(0o644)],
    ids=["no key", "missing", "loose"],
)
def test_a_key_that_cannot_be_read_is_bad(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """The key file is looked at, not only the certificate."""
    certificate, key = issued(tmp_path)
    damage(key)
    finding = only(
        [*diagnose(settings(tmp_path, server_certificate=certificate, server_key=key))], "certificates"
    )
    assert finding.health is Health.BAD
    assert str(key) in finding.detail


def test_a_good_pair_serves(tmp_path: Path) -> None:
    """A certificate with its own key is good."""
    certificate, key = issued(tmp_path)
    finding = only(
        [*diagnose(settings(tmp_path, server_certificate=certificate, server_key=key))], "certificates"
    )
    assert finding.health is Health.GOOD


def test_a_port_for_tokens_without_issuers_is_a_warning(tmp_path: Path) -> None:
    """Nobody could come in there."""
    assert only(found(tmp_path, listen_jwt="127.0.0.1:0"), "tokens").health is Health.WARNING


def test_a_missing_file_of_keys_is_bad(tmp_path: Path) -> None:
    """An issuer whose JWKS file is not there."""
    issuer = JwtIssuerSettings(
        issuer="https://idp.example", audience="datavault", jwks=str(tmp_path / "none.json")
    )
    finding = only(found(tmp_path, listen_jwt="127.0.0.1:0", jwt_issuers=(issuer,)), "tokens")
    assert finding.health is Health.BAD
    assert "none.json" in finding.detail


def test_json_says_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The findings as JSON have check, health, detail and remedy."""
    for name, value in (("HOME", home), ("POLICIES", POLICIES), ("ORIGIN", ORIGIN)):
        monkeypatch.setenv(f"DATAVAULT_{name}", str(value))
    document = json.loads(run("doctor", "--output", "json").output)
    assert {tuple(sorted(each)) for each in document} == {("check", "detail", "health", "remedy")}
