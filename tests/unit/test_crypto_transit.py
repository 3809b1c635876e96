"""Transit on bad days: faults that a real server does not show on demand, and what must not leak of them."""

import base64
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hvac
import pytest
from hvac.exceptions import VaultError

from tests.support.scripted_kms import (
    GOOD,
    PLAIN,
    REFUSED,
    SECRET,
    TOKEN,
    Reply,
    ScriptedKms,
    all_that_hangs_on,
    results,
    said,
    scripted_kms,
)
from tests.support.transit_server import provider_on, settings_for, transit_server  # noqa: F401  a fixture
from vault.crypto.dev_server import DevTransit
from vault.crypto.transit import TransitKeyProvider, TransitSettings
from vault.domain.errors import (
    ConfigurationError,
    DatavaultError,
    IntegrityError,
    KeyForbiddenError,
    KeysUnavailableError,
    KeyTooOldError,
)
from vault.domain.protocols import UnwrapItem, WrapItem
from vault.domain.system import SystemRandomness
from vault.testing import FakeClock

CONTACT = "datavault-contact"
ITEM = UnwrapItem(b"vault:v1:AAAA", b"context")


@pytest.fixture
def kms() -> Iterator[ScriptedKms]:
    with scripted_kms() as kms:
        yield kms


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def provider(kms: ScriptedKms, pauses: list[float]) -> TransitKeyProvider:
    clock = FakeClock()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    settings = TransitSettings(kms.address, token=TOKEN, timeout_seconds=20)
    return TransitKeyProvider(settings, clock, randomness=SystemRandomness(), sleep=sleep)


@pytest.mark.parametrize("status", [412, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again(
    kms: ScriptedKms, provider: TransitKeyProvider, pauses: list[float], status: int
) -> None:
    """After a rate limit, a replica behind or a server's failure a second attempt succeeds, after a pause."""
    kms.answers = [said(status, {"errors": ["later"]}), GOOD]
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]
    assert len(pauses) == 1
    assert 0 < pauses[0] <= 0.1


def test_a_cut_connection_is_tried_again(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """A connection that ends without an answer costs a second attempt."""
    kms.answers = [None, GOOD]
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]


def test_attempts_are_bounded(kms: ScriptedKms, provider: TransitKeyProvider, pauses: list[float]) -> None:
    """Three attempts, each pause longer at most, then the keys are unavailable."""
    kms.answers = [said(503, {"errors": ["sealed"]})]
    with pytest.raises(KeysUnavailableError, match="sealed or down"):
        provider.unwrap(CONTACT, [ITEM])
    assert len(kms.requests) == 3
    assert len(pauses) == 2


def test_no_attempt_starts_after_the_timeout(kms: ScriptedKms) -> None:
    """When the first attempt took all the time, there is no second."""
    clock = FakeClock()
    kms.answers = [said(503, {})]
    settings = TransitSettings(kms.address, token=TOKEN, timeout_seconds=0.5, attempts=9)
    provider = TransitKeyProvider(settings, clock, sleep=lambda _: clock.advance(0.5))
    with pytest.raises(KeysUnavailableError):
        provider.unwrap(CONTACT, [ITEM])
    assert len(kms.requests) == 2


def test_a_refusal_is_not_tried_again(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """A token without the right gets its answer at once."""
    kms.answers = [REFUSED]
    with pytest.raises(KeyForbiddenError):
        provider.unwrap(CONTACT, [ITEM])
    assert len(kms.requests) == 1


def test_a_rotation_is_not_tried_again(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """An uncertain rotation is not asked for twice: it would make two versions."""
    description = {"data": {"latest_version": 1, "min_decryption_version": 1, "type": "aes256-gcm96"}}
    kms.answers = [said(200, description), None]
    with pytest.raises(KeysUnavailableError):
        provider.rotate(CONTACT)
    assert [path for path, _ in kms.requests if path.endswith("/rotate")] == [
        "/v1/transit/keys/datavault-contact/rotate"
    ]


def test_a_batch_shrinks_when_it_is_refused_for_its_size(
    kms: ScriptedKms, provider: TransitKeyProvider
) -> None:
    """Half the size is tried, and kept for later batches."""
    refusal = said(400, {"errors": ["high complexity: exceeded maximum number of strings"]})
    kms.answers = [refusal, results(200, PLAIN, PLAIN)]
    assert provider.unwrap(CONTACT, [ITEM] * 4) == [SECRET] * 4
    assert provider.unwrap(CONTACT, [ITEM] * 4) == [SECRET] * 4
    assert [len(body["batch_input"]) for _, body in kms.requests] == [4, 2, 2, 2, 2]


def test_a_single_item_refused_for_its_size_is_an_error(
    kms: ScriptedKms, provider: TransitKeyProvider
) -> None:
    """The shrinking ends."""
    kms.answers = [said(400, {"errors": ["exceeded maximum number of strings"]})]
    with pytest.raises(KeysUnavailableError):
        provider.unwrap(CONTACT, [ITEM])


def test_a_version_below_the_minimum_is_unavailable(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """ "Too old" is no sign of tampering: the row may have been rewrapped meanwhile."""
    message = "ciphertext or signature version is disallowed by policy (too old)"
    kms.answers = [results(400, PLAIN, {"plaintext": "", "error": message})]
    answers = provider.unwrap(CONTACT, [ITEM, ITEM])
    assert answers[0] == SECRET
    assert isinstance(answers[1], KeyTooOldError)


STRANGE = {
    "fewer results": results(200),
    "more results": results(200, PLAIN, PLAIN),
    "results of another shape": said(200, {"data": {"batch_results": [[PLAIN]]}}),
    "no results": said(200, {"data": None}),
    "a list": said(200, [PLAIN]),
    "a list of data": said(200, {"data": [PLAIN]}),
    "cut JSON": Reply(200, GOOD.body[:-3]),
    "no JSON": Reply(200, b"<html>" + SECRET),
    "results of a failure": results(403, PLAIN),
    "a refusal that quotes": said(400, {"errors": [SECRET.decode(), PLAIN["plaintext"]]}),
    "a cut connection": None,
    "an empty answer": Reply(204, b""),
}


def test_the_search_finds_what_hvac_leaks(transit_server: DevTransit) -> None:  # noqa: F811
    """hvac itself shows a decrypted key in the error of a partly failed batch: that is what is kept out."""
    [good] = provider_on(transit_server).wrap(CONTACT, [WrapItem(SECRET, b"context")])
    client = hvac.Client(
        url=transit_server.address,
        token=transit_server.token_file.read_text(),
        verify=str(transit_server.ca_certificate),
    )
    context = base64.b64encode(b"context").decode()
    batch = [{"ciphertext": text, "context": context} for text in (good.decode(), "vault:v1:AAAA")]
    with pytest.raises(VaultError) as caught:
        client.secrets.transit.decrypt_data(CONTACT, batch_input=batch)
    assert PLAIN["plaintext"] in all_that_hangs_on(caught.value)


def test_a_partly_failed_batch_leaks_nothing(transit_server: DevTransit) -> None:  # noqa: F811
    """On the real server the same batch gives the key, and an error that leads to nothing."""
    provider = provider_on(transit_server)
    [good] = provider.wrap(CONTACT, [WrapItem(SECRET, b"context")])
    answers = provider.unwrap(CONTACT, [UnwrapItem(good, b"context"), ITEM])
    assert answers[0] == SECRET
    assert isinstance(answers[1], IntegrityError)
    assert PLAIN["plaintext"] not in all_that_hangs_on(answers[1])


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize(
    "call",
    [
        lambda provider: provider.unwrap(CONTACT, [ITEM]),
        lambda provider: provider.wrap(CONTACT, [WrapItem(SECRET, b"context")]),
        lambda provider: provider.sign(CONTACT, SECRET),
        lambda provider: provider.public_key(CONTACT),
    ],
    ids=["unwrap", "wrap", "sign", "public_key"],
)
def test_a_strange_answer_is_unavailable_and_leaks_nothing(
    kms: ScriptedKms,
    provider: TransitKeyProvider,
    call: Callable[[TransitKeyProvider], object],
    answer: Reply | None,
) -> None:
    """Whatever comes back, or nothing: one domain error, without key, token, cause or context."""
    kms.answers = [answer]
    with pytest.raises(KeysUnavailableError) as caught:
        call(provider)
    hanging = all_that_hangs_on(caught.value)
    for canary in (SECRET.decode(), PLAIN["plaintext"], TOKEN):
        assert canary not in hanging
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_token_is_not_sent_where_a_redirect_points(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """A redirect is a failure, not an address to send keys to."""
    kms.answers = [said(307, {}, Location=f"{kms.address}/elsewhere")]
    with pytest.raises(KeysUnavailableError):
        provider.unwrap(CONTACT, [ITEM])
    assert [path for path, _ in kms.requests] == ["/v1/transit/decrypt/datavault-contact"]


def test_a_proxy_of_the_environment_is_not_used_on_this_machine(
    kms: ScriptedKms, provider: TransitKeyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KMS or Agent on loopback is asked directly."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert provider.unwrap(CONTACT, [ITEM]) == [SECRET]


def test_an_unhealthy_kms_is_told_and_not_raised(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """Health never raises: sealed, refused and unreachable are sentences."""
    for answer in (said(503, {}), said(403, {}), None):
        kms.token_answers = [answer]
        assert not provider.health().healthy


def test_an_unknown_certificate_is_unavailable(transit_server: DevTransit) -> None:  # noqa: F811
    """Without the server's CA there is no connection, and the error names the kind of failure."""
    provider = provider_on(transit_server, ca_certificate=None)
    with pytest.raises(KeysUnavailableError, match="SSLError"):
        provider.info(CONTACT)


def test_a_key_of_another_kind_is_a_configuration_error(transit_server: DevTransit) -> None:  # noqa: F811
    """`keys init` does not take over a key of the same name that would not bind contexts."""
    client = hvac.Client(
        url=transit_server.address,
        token=transit_server.token_file.read_text(),
        verify=str(transit_server.ca_certificate),
    )
    client.secrets.transit.create_key("datavault-plain", key_type="aes256-gcm96", derived=False)
    with pytest.raises(ConfigurationError, match="datavault-plain"):
        provider_on(transit_server).ensure_keys(["plain"])


BAD_SETTINGS: dict[str, dict[str, Any]] = {
    "no scheme": {"address": "127.0.0.1:8200"},
    "no host": {"address": "https://"},
    "plain text over the network": {"address": "http://kms.bank.example:8200"},
    "no token": {"token": ""},
    "two tokens": {"token_file": Path("token")},
    "half a certificate": {"client_key": Path("key.pem")},
    "missing CA": {"ca_certificate": Path("missing.pem")},
    "no time": {"timeout_seconds": 0},
    "no attempt": {"attempts": 0},
    "empty batches": {"batch_items": 0},
}


@pytest.mark.parametrize("change", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_wrong_setting_is_told_at_start(change: dict[str, Any]) -> None:
    """Each names what is wrong, without the token."""
    with pytest.raises(ConfigurationError) as caught:
        TransitSettings(**({"address": "https://127.0.0.1:8200", "token": TOKEN} | change))
    assert TOKEN not in str(caught.value)


def test_settings_do_not_show_the_token() -> None:
    """They may be printed."""
    assert TOKEN not in repr(TransitSettings("https://127.0.0.1:8200", token=TOKEN))


@pytest.mark.parametrize("fault", ["loose", "missing", "empty", "binary"])
def test_a_careless_token_file_is_refused(tmp_path: Path, fault: str) -> None:
    """A token file that others may read, or that holds no token, stops the start."""
    file = tmp_path / "token"
    if fault != "missing":
        file.touch(mode=0o600)
        file.write_bytes({"empty": b"\n", "binary": b"\xff"}.get(fault, TOKEN.encode()))
    if fault == "loose":
        file.chmod(0o640)
    settings = TransitSettings("https://127.0.0.1:8200", token_file=file)
    with pytest.raises(ConfigurationError) as caught:
        TransitKeyProvider(settings, FakeClock())
    assert TOKEN not in str(caught.value)


def test_a_provider_shows_no_token(kms: ScriptedKms, provider: TransitKeyProvider) -> None:
    """Neither it nor its way to log in prints the token."""
    with suppress(DatavaultError):
        provider.unwrap(CONTACT, [ITEM])
    assert TOKEN not in repr(provider) + repr(vars(provider))


def test_settings_reach_the_server(transit_server: DevTransit) -> None:  # noqa: F811
    """The fixture's settings name a token file, not a token."""
    assert settings_for(transit_server).token == ""
