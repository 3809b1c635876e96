"""Tokens that end while the service reads: short leases on a real OpenBao, and no call that fails of it."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.transit_production import SERVICE_POLICY, ProductionTransit
from tests.support.transit_ways import approle, secret_file, settings_on
from vault.crypto.transit import TransitKeyProvider
from vault.domain.errors import KeyForbiddenError
from vault.domain.protocols import UnwrapItem, WrapItem
from vault.domain.system import SystemClock

CONTACT = "datavault-contact"
SECONDS = 30.0


@pytest.fixture
def server(production_transit: ProductionTransit) -> ProductionTransit:
    return production_transit


@pytest.fixture
def open_provider(server: ProductionTransit) -> Iterator[Callable[..., TransitKeyProvider]]:
    """Makes providers, and closes them."""
    made: list[TransitKeyProvider] = []

    def make(**login: Any) -> TransitKeyProvider:
        made.append(TransitKeyProvider(settings_on(server, **login), SystemClock()))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with capture_logs() as caught:
        yield caught


def wait_until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, f"within {SECONDS} s it did not {what}"
        time.sleep(0.02)


class Readers:
    """Threads that unwrap one key each without pause; `errors` are what they met."""

    def __init__(self, provider: TransitKeyProvider, count: int) -> None:
        self.errors: list[object] = []
        self.reads = 0
        self._provider = provider
        self._done = threading.Event()
        keys = [WrapItem(secrets.token_bytes(32), b"context %d" % number) for number in range(count)]
        wrapped = provider.wrap(CONTACT, keys)
        self._threads = [
            threading.Thread(target=self._read, args=(key.plaintext, UnwrapItem(text, key.context)))
            for key, text in zip(keys, wrapped, strict=True)
        ]

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _read(self, plaintext: bytes, item: UnwrapItem) -> None:
        while not self._done.wait(0.002):
            try:
                [answer] = self._provider.unwrap(CONTACT, [item])
            except Exception as error:
                answer = error  # type: ignore[assignment]
            self.reads += 1
            if answer != plaintext:
                self.errors.append(answer)


def count(lines: list[Any], event: str) -> int:
    return sum(line["event"] == event for line in lines)


def test_reads_notice_neither_renewals_nor_new_logins(
    open_provider: Callable[..., TransitKeyProvider],
    server: ProductionTransit,
    tmp_path: Path,
    lines: list[Any],
) -> None:
    """Leases of 2 s and a greatest age of 4 s: tokens are renewed and replaced under load, no read fails."""
    provider = open_provider(**approle(server, tmp_path, token_ttl="2s", token_max_ttl="4s"))
    with Readers(provider, 3) as readers:
        wait_until(
            lambda: count(lines, "token_login") >= 2 and count(lines, "token_renewed") >= 2,
            "renew and log in anew",
        )
    assert readers.errors == []
    assert readers.reads > 100
    # a server that is short of processors answers a renewal with 500 now and then: made good in time
    assert all("status 5" in line["reason"] for line in lines if line["event"] == "token_renewal_failed")


def test_a_token_revoked_right_after_a_forbidden_key_is_replaced(
    open_provider: Callable[..., TransitKeyProvider], server: ProductionTransit, tmp_path: Path
) -> None:
    """A replica that may not use a class, and has just been told so, does not take the next refusal for
    another such key: it logs in, and its own class is used on."""
    behaviour = SERVICE_POLICY.replace("datavault-*", "datavault-behaviour")
    provider = open_provider(**approle(server, tmp_path, policy=behaviour))
    keys = [WrapItem(secrets.token_bytes(32), b"context")]
    with pytest.raises(KeyForbiddenError):
        provider.wrap(CONTACT, keys)
    server.api("POST", "sys/leases/revoke-prefix/auth/approle/login")
    [wrapped] = provider.wrap("datavault-behaviour", keys)
    assert provider.unwrap("datavault-behaviour", [UnwrapItem(wrapped, b"context")]) == [keys[0].plaintext]


def test_batch_tokens_are_replaced_under_load(
    open_provider: Callable[..., TransitKeyProvider],
    server: ProductionTransit,
    tmp_path: Path,
    lines: list[Any],
) -> None:
    """Tokens that cannot be renewed are followed by others before they end."""
    provider = open_provider(**approle(server, tmp_path, token_ttl="2s", token_type="batch"))
    with Readers(provider, 2) as readers:
        wait_until(lambda: count(lines, "token_login") >= 3, "log in anew")
    assert readers.errors == []


def test_a_revoked_token_costs_no_read(
    open_provider: Callable[..., TransitKeyProvider],
    server: ProductionTransit,
    tmp_path: Path,
    lines: list[Any],
) -> None:
    """When somebody revokes the token all reads go on with another one, got by one login."""
    provider = open_provider(**approle(server, tmp_path))
    with Readers(provider, 3) as readers:
        server.revoke(provider.session.client().token)
        wait_until(lambda: count(lines, "token_login") >= 2, "log in anew")
        seen = readers.reads
        wait_until(lambda: readers.reads > seen + 50, "read on")
    assert readers.errors == []
    assert count(lines, "token_login") == 2


def test_a_token_file_is_followed_before_its_token_ends(
    open_provider: Callable[..., TransitKeyProvider], server: ProductionTransit, tmp_path: Path
) -> None:
    """An Agent that replaces the file is followed though nobody reads meanwhile."""
    file = secret_file(tmp_path / "token", server.new_token(ttl="3s", explicit_max_ttl="3s"))
    provider = open_provider(token_file=file)
    provider.info(CONTACT)
    secret_file(file, server.new_token(ttl="1h"))
    wait_until(lambda: (provider.session.token_seconds_left() or 0) > 3000, "take the new token")


def test_a_renewal_waits_for_a_sealed_kms(
    open_provider: Callable[..., TransitKeyProvider],
    server: ProductionTransit,
    tmp_path: Path,
    lines: list[Any],
) -> None:
    """While the KMS is sealed renewals fail and are repeated; once it is back they succeed by themselves."""
    provider = open_provider(**approle(server, tmp_path, token_ttl="2s", token_max_ttl="1h"))
    provider.info(CONTACT)
    server.seal()
    try:
        wait_until(lambda: count(lines, "token_renewal_failed") >= 2, "try to renew")
    finally:
        server.unseal()
    wait_until(lambda: (provider.session.token_seconds_left() or 0) > 0, "renew")
    assert provider.info(CONTACT).latest_version >= 1


def test_a_session_that_nobody_closed_ends_its_thread(
    open_provider: Callable[..., TransitKeyProvider], server: ProductionTransit, tmp_path: Path
) -> None:
    """One-shot commands that forget a provider leave no thread that renews for ever."""

    def renewing() -> int:
        return sum(thread.name == "kms-token" for thread in threading.enumerate())

    wait_until(lambda: renewing() == 0, "end the threads of other tests")
    provider = TransitKeyProvider(settings_on(server, **approle(server, tmp_path)), SystemClock())
    provider.session.log_in()
    assert renewing() == 1
    del provider
    wait_until(lambda: renewing() == 0, "end")
