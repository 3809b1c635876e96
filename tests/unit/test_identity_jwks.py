"""Key sets: what counts as a usable key, and when they are fetched."""

import threading

import pytest

from tests.support.identity import FAKES_ARE_FINE, ISSUER, NOW, Server, jwk, key_set, signing_key
from vault.domain.errors import ConfigurationError, UnauthenticatedError
from vault.identity.fetch import Source, check_source
from vault.identity.jwks import KeySet, KeySetTimes, parse_key_set
from vault.testing import FakeClock

pytestmark = FAKES_ARE_FINE

TIMES = KeySetTimes(fresh_seconds=300, retry_seconds=10, stale_seconds=3_600)
URL = "https://idp.bank.example/keys"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def server() -> Server:
    return Server(key_set(jwk("ES256", "k1")))


@pytest.fixture
def keys(clock: FakeClock, server: Server) -> KeySet:
    return KeySet(ISSUER, URL, clock, server, TIMES)


def refused(keys: KeySet, kid: str | None = "k2") -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        keys.find(kid, "ES256")
    return caught.value.message


def test_keys_of_every_kind_are_read() -> None:
    """RSA, EC and Ed25519 keys are usable for their algorithms and no other."""
    found = parse_key_set(key_set(jwk("RS256", "r"), jwk("ES256", "e"), jwk("EdDSA", "o")))
    fits = {
        key.kid: [name for name in ("RS256", "PS512", "ES256", "ES384", "EdDSA") if key.fits(name)]
        for key in found
    }
    assert fits == {"r": ["RS256", "PS512"], "e": ["ES256"], "o": ["EdDSA"]}


def test_a_declared_algorithm_binds_the_key() -> None:
    """A key declared for one algorithm fits that one alone."""
    (key,) = parse_key_set(key_set(jwk("RS256", alg="RS512")))
    assert (key.fits("RS256"), key.fits("RS512")) == (False, True)


@pytest.mark.parametrize("algorithm", ["HS256", "none", "", "RS1"])
def test_no_key_fits_a_symmetric_algorithm(algorithm: str) -> None:
    """Whatever a set declares, symmetric and unknown algorithms have no key."""
    (key,) = parse_key_set(key_set(jwk("RS256", alg=algorithm)))
    assert not key.fits(algorithm)


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"},
        jwk("ES256", use="enc"),
        jwk("ES256", key_ops=["sign"]),
        jwk("ES256", key_ops="verify"),
        jwk("ES256", d="AAAA"),
        jwk("ES256", crv="P-384"),
        jwk("ES256", crv="secp256k1"),
        jwk("ES256", x="AAAA"),
        jwk("ES256", y=None),
        jwk("RS256", n="AQAB"),
        jwk("RS-1024"),
        jwk("RS256", e="!"),
        jwk("ES256", kty=["EC"]),
        {**jwk("ES256"), "kid": 7},
        {"kty": "RSA"},
        {},
        "k1",
        None,
    ],
)
def test_an_unusable_entry_is_left_out(entry: dict[str, object]) -> None:
    """Secret, private, malformed, weak, unknown keys and those for other uses are as if not there."""
    found = parse_key_set(key_set(entry, jwk("EdDSA", "good")))
    assert [key.kid for key in found] == ["good"]


@pytest.mark.parametrize(
    "document",
    [
        b"", b"\xff", b"[]", b"{}", b'{"keys": 1}', b'{"keys": []}', b'{"keys": [], "keys": []}',
        b"[" * 100_000, key_set(*[jwk("EdDSA")] * 101),
    ],
)  # fmt: skip
def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    """A document without usable keys, or with absurdly many, is refused."""
    with pytest.raises(UnauthenticatedError):
        parse_key_set(document)


def test_keys_are_fetched_once_and_kept(keys: KeySet, server: Server, clock: FakeClock) -> None:
    """While the set is fresh no further fetch is made."""
    first = keys.find("k1", "ES256")
    clock.advance(299)
    assert keys.find("k1", "ES256") is first
    assert first == signing_key("ES256").public_key()
    assert (server.fetched, server.sources) == (1, [URL])


def test_keys_are_refreshed_when_no_longer_fresh(keys: KeySet, server: Server, clock: FakeClock) -> None:
    """After the fresh time a withdrawn key is no longer accepted."""
    keys.find("k1", "ES256")
    server.document = key_set(jwk("ES256", "k2", number=1))
    clock.advance(300)
    assert "no single key" in refused(keys, "k1")
    assert server.fetched == 2


def test_an_unknown_key_is_looked_for_once(keys: KeySet, server: Server, clock: FakeClock) -> None:
    """Tokens with unknown key ids cause one fetch per retry interval, however many come."""
    keys.find("k1", "ES256")
    clock.advance(10)
    for _ in range(50):
        refused(keys)
    assert server.fetched == 2
    clock.advance(10)
    refused(keys)
    assert server.fetched == 3


def test_a_new_key_is_found(keys: KeySet, server: Server, clock: FakeClock) -> None:
    """A key that the issuer added is accepted on its first use."""
    keys.find("k1", "ES256")
    server.document = key_set(jwk("ES256", "k1"), jwk("ES256", "k2", number=1))
    clock.advance(10)
    assert keys.find("k2", "ES256") == signing_key("ES256", 1).public_key()


def test_keys_go_on_while_the_issuer_is_down(keys: KeySet, server: Server, clock: FakeClock) -> None:
    """After failed fetches known keys keep working, until they are stale."""
    keys.find("k1", "ES256")
    server.down = True
    clock.advance(3_600)
    assert keys.find("k1", "ES256")
    clock.advance(1)
    assert "not available" in refused(keys, "k1")


def test_a_broken_document_does_not_replace_good_keys(keys: KeySet, server: Server, clock: FakeClock) -> None:
    """A refresh that brings no usable key leaves those at hand in use."""
    keys.find("k1", "ES256")
    server.document = b"<html>"
    clock.advance(300)
    assert keys.find("k1", "ES256")


def test_a_failed_first_fetch_is_tried_again_later(keys: KeySet, server: Server, clock: FakeClock) -> None:
    """Without any keys all is refused; the next try is made after the retry interval."""
    server.down = True
    assert "not available" in refused(keys, "k1")
    server.down = False
    assert "not available" in refused(keys, "k1")
    clock.advance(10)
    assert keys.find("k1", "ES256")
    assert server.fetched == 2


def test_load_says_whether_there_are_keys(keys: KeySet, server: Server, clock: FakeClock) -> None:
    """Loading at start reports success and failure and never raises."""
    server.down = True
    assert not keys.load()
    server.down = False
    clock.advance(10)
    assert keys.load()


def test_without_a_key_id_the_only_fitting_key_is_used(keys: KeySet, server: Server) -> None:
    """A token without key id is matched with the one key for its algorithm; others do not disturb."""
    server.document = key_set(jwk("ES256", "k1"), jwk("RS256", "k2"))
    assert keys.find(None, "ES256") == signing_key("ES256").public_key()


def test_without_a_key_id_two_keys_are_too_many(keys: KeySet, server: Server) -> None:
    """Where two keys fit the algorithm a token must say which."""
    server.document = key_set(jwk("ES256", "k1"), jwk("ES256", "k2", number=1))
    assert "no single key" in refused(keys, None)


def test_two_keys_of_one_id_are_refused(keys: KeySet, server: Server) -> None:
    """An ambiguous key id is no key."""
    server.document = key_set(jwk("ES256", "k1"), jwk("ES256", "k1", number=1))
    assert "no single key" in refused(keys, "k1")


def test_a_slow_fetch_holds_up_no_one_whose_key_is_known(clock: FakeClock) -> None:
    """While one thread waits for the issuer, others go on with the keys at hand."""
    good = Server(key_set(jwk("ES256", "k1")))
    asked, answer = threading.Event(), threading.Event()

    def fetch(source: Source) -> bytes:
        if good.fetched:
            asked.set()
            answer.wait(30)
        return good(source)

    keys = KeySet(ISSUER, URL, clock, fetch, TIMES)
    keys.find("k1", "ES256")
    clock.advance(300)
    slow = threading.Thread(target=keys.load)
    slow.start()
    try:
        assert asked.wait(30)
        clock.advance(10)
        assert keys.find("k1", "ES256")
        assert good.fetched == 1
    finally:
        answer.set()
        slow.join(30)
    assert good.fetched == 2


@pytest.mark.parametrize(
    "source",
    [
        "http://idp.bank.example/keys", "ftp://idp.bank.example/keys", "file:///etc/keys", "HTTPS//x://y",
        "https:///keys", "https://user:secret@idp.bank.example/keys", "https://idp.bank.example/keys#x",
        "https://idp.bank.example:bad/keys", "https://[::1/keys",
    ],
)  # fmt: skip
def test_keys_come_over_https_or_from_a_file(source: str) -> None:
    """Any other URL is a configuration error, whose message keeps passwords in the URL to itself."""
    with pytest.raises(ConfigurationError) as caught:
        check_source(source)
    assert "secret" not in caught.value.message
