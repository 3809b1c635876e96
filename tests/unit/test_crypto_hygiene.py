"""No key, token or batch in anything that is raised, logged or printed, whatever goes wrong at the KMS."""

import base64
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog

from tests.support.scripted_kms import (
    LOOKED_UP,
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
from vault.crypto.keyring import Keyring
from vault.crypto.transit import TransitKeyProvider, TransitSettings
from vault.domain.errors import DatavaultError
from vault.domain.protocols import UnwrapItem, WrapItem
from vault.domain.system import SystemRandomness
from vault.domain.types import KeyScope, WrappedKey
from vault.testing import FakeClock

CONTACT = "datavault-contact"
CONTEXT = b"canary-context-of-a-data-key"
SECRETS = (
    SECRET.decode(),
    PLAIN["plaintext"],
    TOKEN,
    base64.b64encode(CONTEXT).decode(),
    SECRET.hex(),
)
ITEM = UnwrapItem(b"vault:v1:AAAA", CONTEXT)
SCOPE = KeyScope("retail", bytes(16), "contact")
TOO_OLD = {"error": "ciphertext or signature version is disallowed by policy (too old)"}

FAILURES: dict[str, Reply | None] = {
    "a partly failed batch": results(400, PLAIN, {"plaintext": "", "error": "invalid ciphertext"}),
    "a partly failed batch of a broken server": results(500, PLAIN, PLAIN),
    "an item of a version too old": results(400, PLAIN, TOO_OLD),
    "an item whose error quotes": results(400, PLAIN, {"error": f"bad {PLAIN['plaintext']}"}),
    "an item that is no base64": results(200, PLAIN, {"plaintext": SECRET.decode() + "%"}),
    "more results than asked": results(200, *[PLAIN] * 5),
    "a refusal that quotes": said(400, {"errors": [TOKEN, SECRET.decode(), PLAIN["plaintext"]]}),
    "a failure that quotes": said(500, {"errors": [TOKEN, PLAIN["plaintext"]], "data": PLAIN}),
    "a failure in plain text": Reply(500, SECRET + TOKEN.encode()),
    "a proxy's page": Reply(502, b"<html>" + SECRET),
    "cut JSON": Reply(200, results(200, PLAIN, PLAIN).body[:-4]),
    "permission denied": REFUSED,
    "a rate limit": said(429, {"errors": [TOKEN]}),
    "a redirect": said(307, {}, Location="http://127.0.0.1:9/" + TOKEN),
    "a cut connection": None,
}

CALLS: dict[str, Callable[[TransitKeyProvider], object]] = {
    "unwrap": lambda provider: provider.unwrap(CONTACT, [ITEM, ITEM]),
    "wrap": lambda provider: provider.wrap(CONTACT, [WrapItem(SECRET, CONTEXT)] * 2),
    "rewrap": lambda provider: provider.rewrap(CONTACT, [ITEM, ITEM]),
    "sign": lambda provider: provider.sign("datavault-log", SECRET),
    "public_key": lambda provider: provider.public_key("datavault-log"),
    "rotate": lambda provider: provider.rotate(CONTACT),
    "retire": lambda provider: provider.retire(CONTACT, 2),
    "health": lambda provider: provider.health(),
    "keyring": lambda provider: keyring(provider).unwrap([(SCOPE, row(1)), (SCOPE, row(2))]),
    "keyring create": lambda provider: keyring(provider).create([SCOPE, SCOPE]),
}


def keyring(provider: TransitKeyProvider) -> Keyring:
    return Keyring(provider, FakeClock(), SystemRandomness())


def row(number: int) -> WrappedKey:
    return WrappedKey("contact", bytes([number] * 32), b"vault:v1:AAAA")


@pytest.fixture
def kms() -> Iterator[ScriptedKms]:
    with scripted_kms() as kms:
        yield kms


@pytest.fixture
def provider(kms: ScriptedKms) -> Iterator[TransitKeyProvider]:
    clock = FakeClock()
    settings = TransitSettings(kms.address, token=TOKEN, timeout_seconds=20)
    provider = TransitKeyProvider(settings, clock, sleep=clock.advance)
    yield provider
    provider.close()


def shown(outcome: object) -> str:
    """What becomes of a result at most when somebody logs it, keys that were asked for left out."""
    if isinstance(outcome, DatavaultError):
        return all_that_hangs_on(outcome)
    if isinstance(outcome, list):
        return "\n".join(shown(one) for one in outcome if not isinstance(one, bytes))
    return repr(outcome)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
def test_nothing_secret_gets_out(
    kms: ScriptedKms,
    provider: TransitKeyProvider,
    caplog: pytest.LogCaptureFixture,
    call: Callable[[TransitKeyProvider], object],
    answer: Reply | None,
) -> None:
    """Errors with all they lead to, results, logs down to urllib3's, and the objects' own reprs."""
    kms.answers = [answer]
    kms.token_answers = [LOOKED_UP, answer]
    caplog.set_level(logging.DEBUG)
    outcome: object
    with structlog.testing.capture_logs() as logs:
        try:
            outcome = call(provider)
        except DatavaultError as error:
            outcome = error
    parts = [provider, *vars(provider).values(), *vars(provider._batches).values(), vars(provider._transport)]
    for text in (shown(outcome), repr(logs), caplog.text, *map(repr, parts)):
        for secret in SECRETS:
            assert secret not in text


def raise_over_a_secret() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        raise DatavaultError("clean") from None


def test_the_search_would_find_a_secret() -> None:
    """An error that is raised while a secret one is handled leads to it, `from None` or not."""
    with pytest.raises(DatavaultError) as caught:
        raise_over_a_secret()
    assert SECRET.decode() in all_that_hangs_on(caught.value)
