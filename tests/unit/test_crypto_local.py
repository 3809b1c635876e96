"""The local key file: who may read it, where it may be used, what becomes of it on bad days."""

import base64
import json
import stat
from pathlib import Path

import pytest
import structlog

from tests.support.crypto import local_provider
from vault.crypto.local import LocalKeyProvider
from vault.crypto.names import STANDARD_CLASSES, all_keys
from vault.crypto.signer import KeySigner
from vault.domain.errors import ConfigurationError, IntegrityError, KeysUnavailableError
from vault.domain.protocols import UnwrapItem, WrapItem
from vault.domain.system import SystemRandomness

CONTACT = "datavault-contact"


def test_a_missing_file_is_made_with_the_standard_keys(tmp_path: Path) -> None:
    """The first start makes every key of the product, readable by the owner alone."""
    provider = local_provider(tmp_path / "new" / "home")
    file = tmp_path / "new" / "home" / "keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for name, kind in all_keys(STANDARD_CLASSES).items():
        assert provider.info(name).kind == kind


def test_a_second_start_opens_what_the_first_wrapped(tmp_path: Path) -> None:
    """The keys outlive the process."""
    [wrapped] = local_provider(tmp_path).wrap(CONTACT, [WrapItem(b"secret", b"context")])
    assert local_provider(tmp_path).unwrap(CONTACT, [UnwrapItem(wrapped, b"context")]) == [b"secret"]


def test_production_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """Local keys never serve production, and no file is left behind."""
    with pytest.raises(ConfigurationError, match="transit"):
        LocalKeyProvider(tmp_path / "keys.json", environment="production", randomness=SystemRandomness())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Group or world access stops the start and says what to do."""
    local_provider(tmp_path)
    (tmp_path / "keys.json").chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        local_provider(tmp_path)


def test_the_start_is_logged_as_a_warning(tmp_path: Path) -> None:
    """Operators see that keys are in a file."""
    with structlog.testing.capture_logs() as logs:
        local_provider(tmp_path)
    assert [(log["event"], log["log_level"]) for log in logs] == [("local_keys_in_use", "warning")]


def damaged(file: Path, kind: str) -> str:
    document = json.loads(file.read_text())
    entry = document["keys"][CONTACT]
    if kind == "cut":
        return file.read_text()[:-40]
    if kind == "format":
        document["format"] = 2
    elif kind == "no keys":
        del document["keys"]
    elif kind == "kind":
        entry["kind"] = "rsa"
    elif kind == "short key":
        entry["versions"] = [base64.b64encode(bytes(16)).decode()]
    elif kind == "no base64":
        entry["versions"] = ["*"]
    elif kind == "no versions":
        entry["versions"] = []
    elif kind == "minimum":
        entry["min_decryption_version"] = 2
    elif kind == "list":
        return "[]"
    return json.dumps(document)


@pytest.mark.parametrize(
    "kind",
    ["cut", "format", "no keys", "kind", "short key", "no base64", "no versions", "minimum", "list"],
)
def test_a_damaged_file_stops_the_start_and_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    """Never is a file that cannot be read replaced by fresh keys: that would destroy all data."""
    local_provider(tmp_path)
    file = tmp_path / "keys.json"
    text = damaged(file, kind)
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        local_provider(tmp_path)
    assert file.read_text() == text
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_rotation_keeps_the_keys_that_another_process_made(tmp_path: Path) -> None:
    """A rotation writes what is in the file plus one version, not what it read at start."""
    one, two = local_provider(tmp_path), local_provider(tmp_path)
    one.ensure_keys(["loyalty"])
    assert two.rotate(CONTACT) == 2
    assert one.rotate(CONTACT) == 3
    later = local_provider(tmp_path)
    assert later.info(CONTACT).latest_version == 3
    assert later.info("datavault-loyalty").latest_version == 1


def test_a_file_that_cannot_be_written_leaves_the_old_key_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation on a full disk is an error, and what is wrapped afterwards opens after a restart."""
    provider = local_provider(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vault.crypto.key_file.os.replace", full)
        with pytest.raises(KeysUnavailableError):
            provider.rotate(CONTACT)
    [wrapped] = provider.wrap(CONTACT, [WrapItem(b"secret", b"context")])
    assert local_provider(tmp_path).unwrap(CONTACT, [UnwrapItem(wrapped, b"context")]) == [b"secret"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_version_below_the_minimum_is_unavailable(tmp_path: Path) -> None:
    """As with Transit, "too old" is no sign of tampering."""
    provider = local_provider(tmp_path)
    [wrapped] = provider.wrap(CONTACT, [WrapItem(b"secret", b"context")])
    provider.rotate(CONTACT)
    file = tmp_path / "keys.json"
    document = json.loads(file.read_text())
    document["keys"][CONTACT]["min_decryption_version"] = 2
    file.write_text(json.dumps(document))
    [answer] = local_provider(tmp_path).unwrap(CONTACT, [UnwrapItem(wrapped, b"context")])
    assert isinstance(answer, KeysUnavailableError)


def test_another_spelling_of_the_same_base64_is_refused(tmp_path: Path) -> None:
    """Spare bits are not ignored: a wrapped key has one spelling."""
    provider = local_provider(tmp_path)
    [wrapped] = provider.wrap(CONTACT, [WrapItem(b"x" * 31, b"context")])
    assert wrapped.endswith(b"=")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    at = len(wrapped.rstrip(b"=")) - 1
    other = alphabet[alphabet.index(wrapped[at]) ^ 1 : (alphabet.index(wrapped[at]) ^ 1) + 1]
    respelt = wrapped[:at] + other + wrapped[at + 1 :]
    assert base64.b64decode(respelt[9:]) == base64.b64decode(wrapped[9:])
    assert isinstance(provider.unwrap(CONTACT, [UnwrapItem(respelt, b"context")])[0], IntegrityError)


def test_a_signer_asks_for_its_public_key_once(tmp_path: Path) -> None:
    """Later uses are answered from memory, whatever became of the provider."""
    provider = local_provider(tmp_path)
    signer = KeySigner(provider, "datavault-log")
    first = signer.public_key()
    provider.rotate("datavault-log")
    assert signer.public_key() == first
    assert len(signer.sign(b"message")) == 64


@pytest.mark.parametrize(
    "key_class", ["lookup", "index", "pseudonym", "log", "receipt", "Contact", "a b", ""]
)
def test_a_class_that_would_take_another_use_s_key_is_refused(tmp_path: Path, key_class: str) -> None:
    """A key class cannot be named so that its key is the lookup or the log key."""
    with pytest.raises(ConfigurationError):
        local_provider(tmp_path).ensure_keys([key_class])
