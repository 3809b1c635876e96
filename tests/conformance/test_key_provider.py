"""One suite for every KeyProvider and every kind of server.

The local key file; OpenBao in dev mode; OpenBao as in production (TLS of its own CA, AppRole, the operator's
least-privilege policy); and HashiCorp's program in dev mode, where there is one on PATH.
"""

import base64
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.support.crypto import local_provider
from tests.support.transit_production import (  # noqa: F401  the second is a fixture
    ProductionTransit,
    production_transit,
)
from tests.support.transit_server import provider_on, transit_server  # noqa: F401  the second is a fixture
from tests.support.transit_ways import approle, settings_on
from vault.crypto.dev_server import DevTransit, start_dev_transit
from vault.crypto.local import LocalKeyProvider
from vault.crypto.names import STANDARD_CLASSES, class_key
from vault.crypto.transit import TransitKeyProvider
from vault.crypto.transit_formats import hcl
from vault.crypto.transit_policies import Role, policy
from vault.domain.errors import (
    DatavaultError,
    IntegrityError,
    InvalidArgumentError,
    KeysUnavailableError,
    KeyTooOldError,
)
from vault.domain.protocols import KeyProvider, UnwrapItem, WrapItem
from vault.domain.system import SystemClock

Provider = LocalKeyProvider | TransitKeyProvider
CLASSES = tuple(f"class-{number}" for number in range(60))
"""Each test that needs a key of its own takes one; a policy can only name what is known beforehand."""
SERVERS = ["local", "openbao-dev", "openbao-production", *(["vault-dev"] if shutil.which("vault") else [])]


@pytest.fixture(scope="module", params=SERVERS)
def keys(request: pytest.FixtureRequest) -> tuple[str, Iterator[str]]:
    """The kind of server, and the classes that no test has taken yet."""
    return request.param, iter(CLASSES)


@pytest.fixture(scope="module")
def vault_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTransit]:
    server = start_dev_transit(tmp_path_factory.mktemp("vault"), "vault")
    try:
        provider_on(server).ensure_keys(STANDARD_CLASSES)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def role(
    production_transit: ProductionTransit,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """An AppRole with the operator's policy, as `keys init` writes it."""
    text = hcl(policy(Role.OPERATOR, "transit", (*STANDARD_CLASSES, *CLASSES)))
    return approle(production_transit, tmp_path_factory.mktemp("role"), policy=text)


@pytest.fixture
def provider(
    keys: tuple[str, Iterator[str]], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Provider]:
    provider: Provider
    match keys[0]:
        case "local":
            provider = local_provider(tmp_path)
        case "openbao-dev":
            provider = provider_on(request.getfixturevalue("transit_server"))
        case "vault-dev":
            provider = provider_on(request.getfixturevalue("vault_server"))
        case _:
            server = request.getfixturevalue("production_transit")
            provider = TransitKeyProvider(
                settings_on(server, **request.getfixturevalue("role")), SystemClock()
            )
    yield provider
    provider.close()


@pytest.fixture
def key(keys: tuple[str, Iterator[str]], provider: Provider, request: pytest.FixtureRequest) -> str:
    """A wrapping key that no other test uses."""
    key_class = next(keys[1])
    if keys[0] == "openbao-production":
        # the service's own token may not make keys
        request.getfixturevalue("production_transit").make_key(class_key(key_class))
    else:
        provider.ensure_keys([key_class])
    return class_key(key_class)


def items(count: int) -> list[WrapItem]:
    return [WrapItem(number.to_bytes(32, "big"), b"context %d" % number) for number in range(count)]


def wrapped(provider: KeyProvider, key: str, count: int) -> list[UnwrapItem]:
    made = items(count)
    texts = provider.wrap(key, made)
    return [UnwrapItem(text, item.context) for text, item in zip(texts, made, strict=True)]


def changed(text: bytes) -> bytes:
    """A wrapped key with one bit of its content flipped."""
    head, _, body = text.rpartition(b":")
    raw = bytearray(base64.b64decode(body))
    raw[20] ^= 1
    return head + b":" + base64.b64encode(bytes(raw))


def test_the_provider_says_which_it_is(provider: Provider) -> None:
    """Its name is one of the two that the configuration knows."""
    assert provider.name in ("local", "transit")


def test_what_is_wrapped_unwraps(provider: Provider, key: str) -> None:
    """A wrapped key is ASCII text that opens to the same bytes."""
    [item] = wrapped(provider, key, 1)
    assert item.wrapped.isascii()
    assert provider.unwrap(key, [item]) == [items(1)[0].plaintext]


def test_wrapping_twice_gives_two_texts(provider: Provider, key: str) -> None:
    """Equal keys cannot be told from their wrapped texts."""
    one, two = provider.wrap(key, [WrapItem(bytes(32), b"c"), WrapItem(bytes(32), b"c")])
    assert one != two


def test_an_empty_batch_is_answered_emptily(provider: Provider, key: str) -> None:
    """Nothing asked, nothing answered."""
    assert (provider.wrap(key, []), provider.unwrap(key, []), provider.rewrap(key, [])) == ([], [], [])


def test_three_hundred_items_come_back_in_order(provider: Provider, key: str) -> None:
    """A batch larger than the server takes in one request is split, and put together again."""
    assert provider.unwrap(key, wrapped(provider, key, 300)) == [item.plaintext for item in items(300)]


def test_three_hundred_items_are_rewrapped(provider: Provider, key: str) -> None:
    """The same holds for a rewrap."""
    old = wrapped(provider, key, 300)
    texts = provider.rewrap(key, old)
    assert all(isinstance(text, bytes) for text in texts)
    renewed = [UnwrapItem(bytes(text), item.context) for text, item in zip(texts, old, strict=True)]  # type: ignore[arg-type]
    assert provider.unwrap(key, renewed) == [item.plaintext for item in items(300)]


def test_another_context_does_not_open(provider: Provider, key: str) -> None:
    """A wrapped key is bound to the context it was wrapped under."""
    [item] = wrapped(provider, key, 1)
    assert isinstance(provider.unwrap(key, [UnwrapItem(item.wrapped, b"other")])[0], IntegrityError)


def test_another_key_does_not_open(provider: Provider, key: str) -> None:
    """A wrapped key of one class does not open as one of another, whatever its context."""
    [item] = wrapped(provider, key, 1)
    assert isinstance(provider.unwrap("datavault-contact", [item])[0], IntegrityError)


BAD: dict[str, Callable[[bytes], bytes]] = {
    "changed": changed,
    "empty": lambda text: b"",
    "no prefix": lambda text: text.rpartition(b":")[2],
    "no content": lambda text: text.rpartition(b":")[0] + b":",
    "too short": lambda text: text.rpartition(b":")[0] + b":AAAA",
    "no base64": lambda text: text[:-4] + b"!!!!",
    "no ASCII": lambda text: text[:-4] + b"\xff\xfe\xfd\xfc",
    "another version": lambda text: text.replace(b":v1:", b":v9:"),
    "absurd version": lambda text: text.replace(b":v1:", b":v99999999999999999999:"),
    "no version": lambda text: text.replace(b":v1:", b":v:"),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_one_bad_item_leaves_its_neighbours_alone(
    provider: Provider, key: str, spoil: Callable[[bytes], bytes]
) -> None:
    """Among good ones a bad item gets its own error, and the good ones their keys."""
    batch = wrapped(provider, key, 3)
    batch[1] = UnwrapItem(spoil(batch[1].wrapped), batch[1].context)
    answers = provider.unwrap(key, batch)
    assert [answers[0], answers[2]] == [items(3)[0].plaintext, items(3)[2].plaintext]
    assert isinstance(answers[1], IntegrityError)


def test_one_bad_item_leaves_its_neighbours_alone_in_a_rewrap(provider: Provider, key: str) -> None:
    """The rewrap of a table with one spoilt row goes on."""
    batch = wrapped(provider, key, 3)
    batch[1] = UnwrapItem(changed(batch[1].wrapped), batch[1].context)
    kinds = [isinstance(answer, DatavaultError) for answer in provider.rewrap(key, batch)]
    assert kinds == [False, True, False]


def test_a_rotated_key_opens_old_and_new(provider: Provider, key: str) -> None:
    """What was wrapped before a rotation goes on opening, what is rewrapped bears the new version."""
    [old] = wrapped(provider, key, 1)
    assert provider.rotate(key) == 2
    assert provider.info(key).latest_version == 2
    [text] = provider.rewrap(key, [old])
    assert isinstance(text, bytes)
    assert (b":v1:" in old.wrapped, b":v2:" in text) == (True, True)
    assert provider.unwrap(key, [old, UnwrapItem(text, old.context)]) == [items(1)[0].plaintext] * 2


def test_a_new_key_is_described(provider: Provider, key: str) -> None:
    """Its state is version 1 of an AES-256-GCM key."""
    info = provider.info(key)
    assert (info.name, info.latest_version, info.min_decryption_version) == (key, 1, 1)
    assert info.kind == "aes256-gcm96"


@pytest.mark.parametrize(
    "use",
    [
        lambda provider, key: provider.wrap(key, items(1)),
        lambda provider, key: provider.unwrap(key, [UnwrapItem(b"local:v1:AAAA", b"c")]),
        lambda provider, key: provider.rewrap(key, [UnwrapItem(b"local:v1:AAAA", b"c")]),
        lambda provider, key: provider.sign(key, b"message"),
        lambda provider, key: provider.public_key(key),
        lambda provider, key: provider.info(key),
        lambda provider, key: provider.rotate(key),
    ],
    ids=["wrap", "unwrap", "rewrap", "sign", "public_key", "info", "rotate"],
)
def test_an_unknown_key_is_unavailable(provider: Provider, use: Callable[[Provider, str], object]) -> None:
    """No key is made by a misspelt name."""
    with pytest.raises(KeysUnavailableError):
        use(provider, "datavault-unknown")


def test_a_signature_verifies(provider: Provider) -> None:
    """It is pure Ed25519 over the raw message, 64 bytes."""
    message = "note — with a dash\n".encode()
    signature = provider.sign("datavault-log", message)
    public = Ed25519PublicKey.from_public_bytes(provider.public_key("datavault-log").raw)
    public.verify(signature, message)
    with pytest.raises(InvalidSignature):
        public.verify(signature, message + b"\n")


def test_the_newest_signing_key_signs(provider: Provider) -> None:
    """After a rotation the public key is the new one, and signatures verify under it."""
    before = provider.public_key("datavault-receipt")
    provider.rotate("datavault-receipt")
    after = provider.public_key("datavault-receipt")
    assert after.version == before.version + 1
    assert after.raw != before.raw
    signature = provider.sign("datavault-receipt", b"m")
    Ed25519PublicKey.from_public_bytes(after.raw).verify(signature, b"m")


def test_a_key_serves_its_own_kind_of_use(provider: Provider) -> None:
    """Signing keys do not wrap, wrapping keys do not sign."""
    with pytest.raises(KeysUnavailableError):
        provider.wrap("datavault-log", items(1))
    with pytest.raises(KeysUnavailableError):
        provider.sign("datavault-contact", b"message")
    with pytest.raises(KeysUnavailableError):
        provider.public_key("datavault-contact")


def test_making_keys_again_changes_nothing(provider: Provider, key: str) -> None:
    """`keys init` can be run twice: what was wrapped goes on opening."""
    batch = wrapped(provider, key, 1)
    provider.ensure_keys([key.removeprefix("datavault-")])
    assert provider.unwrap(key, batch) == [items(1)[0].plaintext]
    assert provider.info(key).latest_version == 1


def test_threads_share_a_provider(provider: Provider, key: str) -> None:
    """Eight threads at once get their own answers."""
    batch = wrapped(provider, key, 8)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda item: provider.unwrap(key, [item])[0], batch))
    assert answers == [item.plaintext for item in items(8)]


def test_a_working_provider_is_healthy(provider: Provider) -> None:
    """Health says so in a sentence."""
    health = provider.health()
    assert health.healthy
    assert health.detail
    assert health.token_seconds_left is None or health.token_seconds_left > 0


def test_a_wrapped_key_tells_its_version(provider: Provider, key: str) -> None:
    """Of old and new ones alike, without asking the server."""
    [old] = wrapped(provider, key, 1)
    provider.rotate(key)
    [new] = wrapped(provider, key, 1)
    assert [provider.wrapped_version(each.wrapped) for each in (old, new)] == [1, 2]


@pytest.mark.parametrize(
    "text", [b"", b"v1", b"local:v1", b"vault:v:AAAA", b"vault:v0:AAAA", b"local:vx:AAAA", b"\xff"]
)
def test_what_is_no_wrapped_key_has_no_version(provider: Provider, text: bytes) -> None:
    """It counts as changed."""
    with pytest.raises(IntegrityError):
        provider.wrapped_version(text)


def test_a_retired_version_opens_no_more(provider: Provider, key: str) -> None:
    """What was rewrapped before opens; what was not is told as too old, its neighbours open."""
    old, moved = wrapped(provider, key, 2)
    provider.rotate(key)
    [text] = provider.rewrap(key, [moved])
    assert isinstance(text, bytes)
    provider.retire(key, 2)
    new = UnwrapItem(text, moved.context)
    answers = provider.unwrap(key, [old, new])
    assert isinstance(answers[0], KeyTooOldError)
    assert answers[1] == items(2)[1].plaintext
    assert isinstance(provider.rewrap(key, [old])[0], KeyTooOldError)
    assert provider.info(key).min_decryption_version == 2


def test_retiring_never_brings_a_version_back(provider: Provider, key: str) -> None:
    """Neither an older nor the same version changes anything."""
    for _ in range(2):
        provider.rotate(key)
    for before in (3, 2, 1, 3):
        provider.retire(key, before)
        assert provider.info(key).min_decryption_version == 3


@pytest.mark.parametrize("before", [-1, 0, 2, 99])
def test_a_version_that_is_not_there_cannot_be_retired_to(provider: Provider, key: str, before: int) -> None:
    """Nothing would open any more."""
    [item] = wrapped(provider, key, 1)
    with pytest.raises(InvalidArgumentError):
        provider.retire(key, before)
    assert provider.unwrap(key, [item]) == [items(1)[0].plaintext]


def test_every_version_of_a_signing_key_signs(provider: Provider) -> None:
    """An older one goes on signing, and verifies under its own public key alone."""
    name = "datavault-log"
    before = provider.public_key(name).version
    newest = provider.rotate(name)
    public = {version: provider.public_key(name, version) for version in (before, newest)}
    assert provider.public_key(name) == public[newest]
    for version, other in ((before, newest), (newest, before)):
        signature = provider.sign(name, b"message", version)
        Ed25519PublicKey.from_public_bytes(public[version].raw).verify(signature, b"message")
        with pytest.raises(InvalidSignature):
            Ed25519PublicKey.from_public_bytes(public[other].raw).verify(signature, b"message")


def test_a_version_that_is_not_there_does_not_sign(provider: Provider) -> None:
    """Nor does it have a public key."""
    with pytest.raises(KeysUnavailableError):
        provider.sign("datavault-log", b"message", 99)
    with pytest.raises(KeysUnavailableError):
        provider.public_key("datavault-log", 99)


def test_closing_twice_is_harmless(provider: Provider) -> None:
    """A stop that is asked for again finds nothing to do."""
    provider.public_key("datavault-log")
    provider.close()
    provider.close()
