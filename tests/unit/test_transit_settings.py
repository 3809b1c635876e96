"""Settings of the KMS: each way to log in takes what it needs and nothing else, secret files are private."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vault.assembly import transit_settings
from vault.config import load_settings, settings_in_force
from vault.crypto.transit_settings import NAMES, WAYS, TransitSettings
from vault.domain.errors import ConfigurationError
from vault.domain.secret_files import read_secret

CANARY = "canary-of-a-secret"
HTTPS = "https://kms.bank.example:8200"
FILE_FIELDS = ("token_file", "secret_id_file", "jwt_file")


def chosen(folder: Path, way: str) -> dict[str, Any]:
    """Settings that are right for one way to log in."""
    file = folder / "secret"
    file.touch(mode=0o600)
    file.write_text(CANARY)
    pair = {"client_certificate": file, "client_key": file}
    ways: dict[str, dict[str, Any]] = {
        "token": {"token_file": file},
        "approle": {"role_id": CANARY, "secret_id_file": file},
        "kubernetes": {"role": "datavault", "jwt_file": file},
        "jwt": {"role": "datavault", "jwt_file": file},
        "cert": {"role": "datavault", **pair},
        "agent": {"address": "unix:///run/kms.sock"},
    }
    return {"auth": way, **ways[way]}


def settings(**fields: Any) -> TransitSettings:
    return TransitSettings(**{"address": HTTPS, **fields})


@pytest.mark.parametrize("way", WAYS)
def test_each_way_has_settings_that_suffice(tmp_path: Path, way: str) -> None:
    """What the table names for a way is enough for it."""
    assert settings(**chosen(tmp_path, way)).auth == way


@pytest.mark.parametrize(("way", "name"), [(way, name) for way, one in WAYS.items() for name in one.needs])
def test_a_way_without_what_it_needs_is_refused(tmp_path: Path, way: str, name: str) -> None:
    """The message names the missing setting, by its environment name, and the way that needs it."""
    given = {**chosen(tmp_path, way), name: None if "file" in name or "client" in name else ""}
    with pytest.raises(ConfigurationError, match=f"^{NAMES[name]}: must be set when .* is {way}$"):
        settings(**given)


UNUSED = [
    (way, name)
    for way, one in WAYS.items()
    for name in ("token", "token_file", "role", "role_id", "secret_id_file", "jwt_file", "auth_mount")
    if name not in one.needs + one.may
]


@pytest.mark.parametrize(("way", "name"), UNUSED)
def test_a_setting_of_another_way_is_refused(tmp_path: Path, way: str, name: str) -> None:
    """A setting that would be ignored is told, with the ways that use it, and without its value."""
    given = {**chosen(tmp_path, way), name: tmp_path / "other" if name in FILE_FIELDS else CANARY}
    with pytest.raises(ConfigurationError, match=f"^{NAMES[name]}: not used when .* is {way}") as caught:
        settings(**given)
    assert CANARY not in str(caught.value)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown way": ({"auth": "ldap"}, "DATAVAULT_TRANSIT_AUTH: must be one of token, approle"),
    "socket with a host": ({"address": "unix://run/kms.sock"}, "VAULT_ADDR: a socket is written unix:///"),
    "socket without a path": ({"address": "unix:///"}, "VAULT_ADDR: a socket is written unix:///"),
    "mount with a slash": ({"mount": "/transit"}, "DATAVAULT_TRANSIT_MOUNT: must be a path"),
    "mount that climbs": ({"mount": "a/../sys"}, "DATAVAULT_TRANSIT_MOUNT: must be a path"),
    "mount of a login": (
        {"token": "", "auth": "jwt", "role": "r", "jwt_file": Path("jwt"), "auth_mount": "a b"},
        "DATAVAULT_TRANSIT_AUTH_MOUNT: must be a path",
    ),
    "namespace": ({"namespace": "bank\r\nX-Vault-Token: t"}, "VAULT_NAMESPACE: must be a path"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_wrong_setting_names_itself(change: dict[str, Any], message: str) -> None:
    """The message begins with the setting's environment name and says what would be right."""
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        settings(**{"token": "t", **change})


def test_a_certificate_cannot_log_in_through_a_socket(tmp_path: Path) -> None:
    """Certificates are shown in TLS."""
    with pytest.raises(ConfigurationError, match="VAULT_ADDR: must be https"):
        settings(**{**chosen(tmp_path, "cert"), "address": "unix:///run/kms.sock"})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
@pytest.mark.parametrize(
    "use",
    [
        lambda file: read_secret(file, "SETTING"),
        lambda file: settings(token="t", client_certificate=file, client_key=file),
    ],
    ids=["secret", "client key"],
)
def test_a_secret_that_others_may_read_is_refused(
    tmp_path: Path, use: Callable[[Path], object], mode: int
) -> None:
    """The message has the command that mends it; once that was run the file is taken."""
    file = tmp_path / "secret"
    file.write_text(CANARY)
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="others may read") as caught:
        use(file)
    subprocess.run(shlex.split(str(caught.value).partition("run: ")[2]), check=True)
    use(file)


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"canary words", b"canary\nlines", "canäry".encode(), b"canary" * 11_000]
)
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    """Nothing of its content is told."""
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^SETTING: ") as caught:
        read_secret(file, "SETTING")
    assert "can" not in str(caught.value).replace(str(file), "")


def test_no_secret_shows_in_repr_and_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datavault config` says that a secret is set, and `repr` says nothing of it."""
    monkeypatch.setenv("VAULT_TOKEN", CANARY)
    monkeypatch.setenv("DATAVAULT_TRANSIT_ROLE_ID", CANARY)
    loaded = load_settings()
    shown = {row.name: row.value for row in settings_in_force(loaded)}
    assert (shown["transit_token"], shown["transit_role_id"]) == ("(set)", "(set)")
    made = settings(**chosen(tmp_path, "approle"))
    assert CANARY not in repr(loaded) + repr(made)


def test_the_settings_of_the_service_reach_the_login(tmp_path: Path) -> None:
    """Each setting of the configuration arrives in the field of its name."""
    secret = chosen(tmp_path, "approle")["secret_id_file"]
    loaded = load_settings(
        keys="transit",
        transit_address=HTTPS,
        transit_auth="approle",
        transit_auth_mount="bank/approle",
        transit_role_id=CANARY,
        transit_secret_id_file=secret,
    )
    made = transit_settings(loaded)
    assert (made.auth, made.login_mount, made.role_id, made.secret_id_file) == (
        "approle", "bank/approle", CANARY, secret,
    )  # fmt: skip
