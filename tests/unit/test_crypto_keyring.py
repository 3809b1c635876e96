"""The DEK cache: when it answers, when it asks, and that one item's fate is never its neighbour's."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.crypto import KEY_SCOPE, SUBJECT, VALUE_SCOPE, ObservedProvider, local_provider
from vault.crypto.envelope import DataKey
from vault.crypto.keyring import Keyring
from vault.domain.errors import DatavaultError, IntegrityError, KeysUnavailableError
from vault.domain.protocols import WrapItem
from vault.domain.system import SystemRandomness
from vault.domain.types import KeyScope, WrappedKey
from vault.testing import FakeClock


@pytest.fixture
def provider(tmp_path: Path) -> ObservedProvider:
    return ObservedProvider(local_provider(tmp_path))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def keyring(provider: ObservedProvider, clock: FakeClock) -> Keyring:
    return Keyring(provider, clock, SystemRandomness(), lifetime_seconds=60, max_entries=4)


@pytest.fixture
def cold(provider: ObservedProvider, clock: FakeClock) -> Keyring:
    """A second keyring on the same provider, which has none of the first one's keys."""
    return Keyring(provider, clock, SystemRandomness(), lifetime_seconds=60, max_entries=4)


def scope_of(number: int, key_class: str = "contact") -> KeyScope:
    return KeyScope("retail", number.to_bytes(16, "big"), key_class)


def cached(keyring: Keyring, scope: KeyScope, row: WrappedKey) -> DataKey | None:
    """The DEK of a row that stands in this scope, if it is in the cache."""
    return keyring.cached_of(scope.tenant, scope.subject, [row._replace(key_class=scope.key_class)]).get(
        row.dek_id
    )


def made(keyring: Keyring, scope: KeyScope) -> WrappedKey:
    return keyring.create([scope])[0][0]


def opened(answer: DataKey | DatavaultError) -> DataKey:
    assert isinstance(answer, DataKey)
    return answer


def test_a_created_key_is_unwrapped_elsewhere_to_the_same_key(keyring: Keyring, cold: Keyring) -> None:
    """What one process seals under a new key, another opens after unwrapping it."""
    [(row, key)] = keyring.create([KEY_SCOPE])
    envelope = key.seal(VALUE_SCOPE, b"value", SystemRandomness())
    assert opened(cold.unwrap([(KEY_SCOPE, row)])[0]).open(VALUE_SCOPE, envelope) == b"value"


def test_created_keys_come_in_the_order_of_their_scopes(keyring: Keyring, cold: Keyring) -> None:
    """Batches per class do not mix up whose key is whose."""
    scopes = [scope_of(1), scope_of(1, "identity"), scope_of(2)]
    rows = [row for row, _ in keyring.create(scopes)]
    assert [row.key_class for row in rows] == ["contact", "identity", "contact"]
    assert all(isinstance(answer, DataKey) for answer in cold.unwrap(list(zip(scopes, rows, strict=True))))


def test_creating_is_one_wrap_per_class(keyring: Keyring, provider: ObservedProvider) -> None:
    """Three keys of one class and one of another go out in two calls."""
    keyring.create([scope_of(1), scope_of(2), scope_of(3), scope_of(1, "identity")])
    assert sorted(provider.wraps) == [("datavault-contact", 3), ("datavault-identity", 1)]


def test_creating_without_a_provider_makes_no_key(keyring: Keyring, provider: ObservedProvider) -> None:
    """When one class cannot be wrapped nothing is made or cached."""
    provider.failing["datavault-identity"] = KeysUnavailableError("down")
    with pytest.raises(KeysUnavailableError):
        keyring.create([scope_of(1), scope_of(1, "identity")])
    assert keyring.entries == 0


def test_a_created_key_is_cached(keyring: Keyring) -> None:
    """A read just after the write asks the provider for nothing."""
    [(row, key)] = keyring.create([KEY_SCOPE])
    assert cached(keyring, KEY_SCOPE, row) is key


def test_an_unwrapped_key_is_cached(keyring: Keyring, cold: Keyring, provider: ObservedProvider) -> None:
    """The second request for the same row is answered from memory, with the same object."""
    row = made(keyring, KEY_SCOPE)
    first = cold.unwrap([(KEY_SCOPE, row)])[0]
    assert cold.unwrap([(KEY_SCOPE, row)])[0] is first
    assert cached(cold, KEY_SCOPE, row) is first
    assert provider.unwraps == [("datavault-contact", 1)]


@pytest.mark.parametrize(
    ("scope", "change"),
    [
        (KEY_SCOPE._replace(tenant="private"), {}),
        (KEY_SCOPE._replace(subject=bytes(16)), {}),
        (KEY_SCOPE._replace(key_class="identity"), {}),
        (KEY_SCOPE, {"wrapped": b"local:v1:AAAA"}),
        (KEY_SCOPE, {"dek_id": bytes(32)}),
    ],
    ids=["tenant", "subject", "class", "wrapped bytes", "dek id"],
)
def test_the_cache_answers_for_the_very_row_alone(
    keyring: Keyring, scope: KeyScope, change: dict[str, bytes]
) -> None:
    """A cached key is not given for another scope, or a row whose bytes changed."""
    row = made(keyring, KEY_SCOPE)
    assert cached(keyring, scope, row._replace(**change)) is None


def test_a_key_leaves_the_cache_at_the_end_of_its_lifetime(keyring: Keyring, clock: FakeClock) -> None:
    """Until 60 s it is there, at 60 s it is not."""
    row = made(keyring, KEY_SCOPE)
    clock.advance(59.9)
    assert cached(keyring, KEY_SCOPE, row) is not None
    clock.advance(0.1)
    assert cached(keyring, KEY_SCOPE, row) is None
    assert keyring.entries == 0


def test_use_does_not_prolong_a_lifetime(keyring: Keyring, clock: FakeClock) -> None:
    """A key in constant use is asked for again after 60 s all the same."""
    row = made(keyring, KEY_SCOPE)
    for _ in range(3):
        clock.advance(25)
        cached(keyring, KEY_SCOPE, row)
        keyring.unwrap([(KEY_SCOPE, row)]) if clock.monotonic() < 60 else None
    assert cached(keyring, KEY_SCOPE, row) is None


def test_the_least_recently_used_key_makes_room(keyring: Keyring) -> None:
    """With room for four, the fifth displaces the one not used for longest."""
    rows = [made(keyring, scope_of(number)) for number in range(4)]
    cached(keyring, scope_of(0), rows[0])
    made(keyring, scope_of(9))
    assert keyring.entries == 4
    assert cached(keyring, scope_of(0), rows[0]) is not None
    assert cached(keyring, scope_of(1), rows[1]) is None


def test_forgotten_keys_are_gone_and_others_stay(keyring: Keyring) -> None:
    """Erasing one class of a subject leaves the caches of other classes and subjects alone."""
    scopes = [scope_of(1), scope_of(1, "identity"), scope_of(2)]
    rows = [row for row, _ in keyring.create(scopes)]
    keyring.forget([scopes[0]])
    there = [cached(keyring, scope, row) is not None for scope, row in zip(scopes, rows, strict=True)]
    assert there == [False, True, True]


def test_a_key_forgotten_while_it_is_fetched_is_not_cached(
    keyring: Keyring, cold: Keyring, provider: ObservedProvider
) -> None:
    """An erasure during an unwrap is not undone by the unwrap's end."""
    row = made(keyring, KEY_SCOPE)
    provider.gate.clear()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(cold.unwrap, [(KEY_SCOPE, row)])
        assert provider.arrived.wait(30)
        cold.forget([KEY_SCOPE])
        provider.gate.set()
        assert isinstance(asked.result()[0], DataKey)
    assert cold.entries == 0


def test_counters_tell_hits_misses_and_entries(keyring: Keyring) -> None:
    """They are plain numbers for metrics; who asks says what was wanted."""
    made(keyring, KEY_SCOPE)
    keyring.count(2, 0)
    keyring.count(0, 1)
    assert (keyring.hits, keyring.misses, keyring.entries) == (2, 1, 1)


def test_one_request_per_class(keyring: Keyring, cold: Keyring, provider: ObservedProvider) -> None:
    """Misses of a class go out together, and the same key twice goes out once."""
    scopes = [scope_of(1), scope_of(1, "identity"), scope_of(2), scope_of(1)]
    rows = [made(keyring, scope) for scope in scopes[:3]]
    cold.unwrap(list(zip(scopes, [*rows, rows[0]], strict=True)))
    assert sorted(provider.unwraps) == [("datavault-contact", 2), ("datavault-identity", 1)]


def test_concurrent_misses_of_one_key_make_one_request(
    keyring: Keyring, cold: Keyring, provider: ObservedProvider
) -> None:
    """Who asks while the key is being fetched waits for it, and gets the same object."""
    row = made(keyring, KEY_SCOPE)
    provider.gate.clear()
    joined = threading.Semaphore(0)

    def ask() -> DataKey | DatavaultError:
        joined.release()
        return cold.unwrap([(KEY_SCOPE, row)])[0]

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask) for _ in range(8)]
        assert all(joined.acquire(timeout=30) for _ in asked)
        assert provider.arrived.wait(30)
        provider.gate.set()
        answers = {id(one.result()) for one in asked}
    assert len(answers) == 1
    assert provider.unwraps == [("datavault-contact", 1)]


def test_two_askers_that_need_each_others_keys_both_end(
    keyring: Keyring, cold: Keyring, provider: ObservedProvider
) -> None:
    """Each fetches its own before it waits for the other's, so they cannot wait in a circle."""
    one, two = (scope_of(1), made(keyring, scope_of(1))), (scope_of(2), made(keyring, scope_of(2)))
    provider.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(cold.unwrap, pair) for pair in ([one, two], [two, one])]
        assert provider.arrived.wait(30)
        provider.gate.set()
        answers = [future.result(30) for future in asked]
    assert answers[0] == answers[1][::-1]


def test_a_failed_fetch_is_not_remembered(
    keyring: Keyring, cold: Keyring, provider: ObservedProvider
) -> None:
    """When the provider is back, so is the key."""
    row = made(keyring, KEY_SCOPE)
    provider.failing["datavault-contact"] = KeysUnavailableError("down")
    assert isinstance(cold.unwrap([(KEY_SCOPE, row)])[0], KeysUnavailableError)
    provider.failing.clear()
    assert isinstance(cold.unwrap([(KEY_SCOPE, row)])[0], DataKey)


def test_a_class_that_fails_leaves_the_others_working(
    keyring: Keyring, cold: Keyring, provider: ObservedProvider
) -> None:
    """Each item of the failed class gets KeysUnavailableError, each of the other its key."""
    scopes = [scope_of(1), scope_of(1, "identity"), scope_of(2)]
    rows = [made(keyring, scope) for scope in scopes]
    provider.failing["datavault-contact"] = KeysUnavailableError("down")
    kinds = [type(answer) for answer in cold.unwrap(list(zip(scopes, rows, strict=True)))]
    assert kinds == [KeysUnavailableError, DataKey, KeysUnavailableError]


def test_an_unknown_class_is_unavailable(keyring: Keyring) -> None:
    """A class that would use the log's key gets no key at all."""
    row = made(keyring, KEY_SCOPE)
    assert isinstance(keyring.unwrap([(scope_of(1, "log"), row)])[0], KeysUnavailableError)


def test_one_bad_row_leaves_its_neighbours_alone(keyring: Keyring, cold: Keyring) -> None:
    """Among good rows, the one that was tampered with is the one that fails."""
    scopes = [scope_of(number) for number in range(3)]
    rows = [row for row, _ in keyring.create(scopes)]
    rows[1] = rows[1]._replace(wrapped=rows[1].wrapped[:-8] + b"AAAAAAA=")
    kinds = [type(answer) for answer in cold.unwrap(list(zip(scopes, rows, strict=True)))]
    assert kinds == [DataKey, IntegrityError, DataKey]


@pytest.mark.parametrize("change", [{"tenant": "private"}, {"subject": bytes(16)}, {"key_class": "identity"}])
def test_a_wrapped_key_moved_elsewhere_does_not_unwrap(
    keyring: Keyring, cold: Keyring, change: dict[str, object]
) -> None:
    """A wrapped key copied to another tenant, subject or class is refused by the provider."""
    row = made(keyring, KEY_SCOPE)
    moved = KEY_SCOPE._replace(**change)  # type: ignore[arg-type]
    assert isinstance(cold.unwrap([(moved, row)])[0], IntegrityError)


def test_swapped_wrapped_keys_of_one_scope_are_noticed(keyring: Keyring, cold: Keyring) -> None:
    """Two keys of one scope, each with the other's wrapped bytes: the dek ids tell."""
    rows = [made(keyring, KEY_SCOPE), made(keyring, KEY_SCOPE)]
    swapped = [rows[0]._replace(wrapped=rows[1].wrapped), rows[1]._replace(wrapped=rows[0].wrapped)]
    answers = cold.unwrap([(KEY_SCOPE, row) for row in swapped])
    assert [type(answer) for answer in answers] == [IntegrityError, IntegrityError]
    assert cold.entries == 0


def test_a_corrupted_dek_is_an_integrity_error(
    keyring: Keyring, cold: Keyring, provider: ObservedProvider
) -> None:
    """A provider that answers other bytes than were wrapped is not believed."""
    row = made(keyring, KEY_SCOPE)
    provider.answers[row.wrapped] = bytes(32)
    assert isinstance(cold.unwrap([(KEY_SCOPE, row)])[0], IntegrityError)


def test_a_dek_of_another_size_is_an_integrity_error(cold: Keyring, provider: ObservedProvider) -> None:
    """A wrapped key that holds 16 bytes opens, and is refused."""
    [wrapped] = provider.wrap("datavault-contact", [WrapItem(bytes(16), b"context")])
    provider.answers[wrapped] = bytes(16)
    row = WrappedKey("contact", bytes(32), wrapped)
    assert isinstance(cold.unwrap([(KEY_SCOPE, row)])[0], IntegrityError)


def test_nobody_waits_for_ever_when_the_provider_breaks(
    keyring: Keyring, cold: Keyring, provider: ObservedProvider
) -> None:
    """A provider that raises what it must not ends the waiting of the others with an error of theirs."""
    row = made(keyring, KEY_SCOPE)
    provider.gate.clear()
    provider.failing["datavault-contact"] = RuntimeError("a bug")
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(cold.unwrap, [(KEY_SCOPE, row)])
        assert provider.arrived.wait(30)
        waiting = cold._under_way[next(iter(cold._under_way))]
        assert not waiting.landed.is_set()
        provider.gate.set()
        with pytest.raises(RuntimeError):
            broken.result(30)
    assert waiting.landed.is_set()
    [answer] = waiting.answers.values()
    assert isinstance(answer, KeysUnavailableError)
    assert SUBJECT.hex() not in str(answer)
