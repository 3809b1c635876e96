"""The last entry of a bucket is found in few requests, and the settings that name one are checked."""

import builtins
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from tests.support.audit import ORIGIN
from vault.audit import outside_objects
from vault.audit.outside_buckets import open_bucket
from vault.audit.outside_folder import FolderStore
from vault.audit.outside_objects import ObjectStore
from vault.config import Settings, hand_over, load_settings, settings_in_force, take_over
from vault.domain.buckets import Bucket, parse_place
from vault.domain.errors import ConfigurationError
from vault.outside import open_outside

CHECKPOINTS = f"{ORIGIN}/checkpoints"
NUMBERS = st.integers(0, 10**20 - 1) | st.integers(0, 60)


class Counted:
    """Objects in memory that count how often they were listed."""

    def __init__(self, *names: str) -> None:
        self._objects = MemoryStore()
        self.listings = 0
        for name in names:
            self._objects.put(f"{CHECKPOINTS}/{name}", b"")

    def list(self, *arguments: Any, **options: Any) -> Any:
        self.listings += 1
        return self._objects.list(*arguments, **options)


@given(st.sets(NUMBERS), st.sets(st.sampled_from("abyz")), st.integers(1, 5))
def test_last_is_the_highest_whatever_the_gaps(numbers: set[int], strangers: set[str], page: int) -> None:
    """However the numbers lie, and however little one listing gives, last is their highest."""
    names = [f"{number:020d}" for number in numbers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outside_objects, "_PAGE", page)
        store = ObjectStore(Counted(*names, *strangers))  # type: ignore[arg-type]
        assert store.last(CHECKPOINTS) == (f"{CHECKPOINTS}/{max(names)}" if names else None)


@pytest.mark.parametrize("stride", [1, 17])
def test_the_last_of_many_takes_few_listings(monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    """Among as many as fill 3,000 listings, it takes no more than 40 of them."""
    monkeypatch.setattr(outside_objects, "_PAGE", 4)
    objects = Counted(*(f"{number * stride:020d}" for number in range(12_000)))
    assert ObjectStore(objects).last(CHECKPOINTS) == f"{CHECKPOINTS}/{11_999 * stride:020d}"  # type: ignore[arg-type]
    assert objects.listings <= 40


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://bank-outside", Bucket("s3", "bank-outside", "")),
        ("s3://bank-outside/", Bucket("s3", "bank-outside", "")),
        ("s3://bank.outside/data_vault/r-1/", Bucket("s3", "bank.outside", "data_vault/r-1")),
        ("gs://bank-outside/datavault", Bucket("gs", "bank-outside", "datavault")),
        ("az://outside/datavault", Bucket("az", "outside", "datavault")),
        ("/mnt/worm", Path("/mnt/worm")),
        ("worm/s3", Path("worm/s3")),
        ("C:\\worm", Path("C:\\worm")),
    ],
)
def test_a_place_is_a_folder_or_a_bucket(text: str, place: Path | Bucket) -> None:
    """A URL of a known kind is a bucket, everything else a path; a bucket is shown as its URL."""
    assert parse_place(text) == place
    if isinstance(place, Bucket):
        assert parse_place(str(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:pa55word@bank-outside/datavault",
        "s3://pa55word@bank-outside",
        "s3://bank-outside/datavault?secret=pa55word",
        "s3://bank-outside/#pa55word",
        "s3://bank-outside:443/pa55word",
        "s3://bank-outside/../pa55word",
        "s3://bank-outside//pa55word",
        "s3://",
        "s3:/bank-outside/pa55word",
        "s4://bank-outside/pa55word",
        "https://pa55word.s3.amazonaws.com/x",
        "file:///pa55word",
    ],
)
def test_a_url_that_is_no_bucket_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The message names the setting and what would be right, and never what was written."""
    monkeypatch.setenv("DATAVAULT_OUTSIDE_STORE", text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "DATAVAULT_OUTSIDE_STORE" in caught.value.message
    assert "s3://BUCKET/PREFIX" in caught.value.message
    assert "pa55word" not in caught.value.message


def test_the_url_is_shown_and_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datavault config` and the workers of a server get the URL as it was set."""
    monkeypatch.setenv("DATAVAULT_OUTSIDE_STORE", "s3://bank-outside/datavault")
    settings = load_settings()
    (row,) = (row for row in settings_in_force(settings) if row.name == "outside_store")
    assert (row.value, row.source) == ("s3://bank-outside/datavault", "environment")
    assert take_over(hand_over(settings)).outside == Bucket("s3", "bank-outside", "datavault")


def test_without_a_setting_it_is_in_the_home_folder(tmp_path: Path) -> None:
    """No setting, or an empty one, is the folder `outside` of the home."""
    for settings in (Settings(home=tmp_path), Settings(home=tmp_path, outside_store="")):
        assert settings.outside == tmp_path / "outside"
        assert isinstance(open_outside(settings), FolderStore)


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket without the library is a matter of configuration, with the command that helps."""
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("vault.audit.outside_"):
            raise ModuleNotFoundError("No module named 'obstore'", name="obstore")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match=r"DATAVAULT_OUTSIDE_STORE.*\[server,objects\]"):
        open_outside(Settings(outside_store="s3://bank-outside"))


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
def test_an_endpoint_elsewhere_must_have_tls(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Plain http is for this machine alone; the message names the variable and not its value."""
    monkeypatch.setenv(name, "http://objects.bank.example:9000")
    with pytest.raises(ConfigurationError, match=f"{name}: must be https") as caught:
        open_bucket(Bucket("s3", "bank-outside", ""))
    assert "bank.example" not in caught.value.message
    monkeypatch.setenv(name, "http://localhost:9000")
    open_bucket(Bucket("s3", "bank-outside", ""))


def test_a_wrong_ca_is_told_by_its_setting(tmp_path: Path) -> None:
    """A file that is missing, or holds no certificate, is named by the setting."""
    for content in (None, b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"):
        path = tmp_path / "ca.pem"
        if content:
            path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="DATAVAULT_OUTSIDE_STORE_CACERT"):
            open_outside(Settings(outside_store="s3://bank-outside", outside_store_cacert=path))


def test_what_the_library_says_of_variables_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's variable that is wrong is a matter of configuration, told without its value."""
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", "pa55word")
    with pytest.raises(ConfigurationError, match="gs:// cannot be opened") as caught:
        open_bucket(Bucket("gs", "bank-outside", "datavault"))
    assert "pa55word" not in caught.value.message
