"""When a token is renewed, replaced and looked into: a clock that is told to move, and answers made up."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from structlog.testing import capture_logs

from vault.crypto.transit_keeper import TokenKeeper
from vault.crypto.transit_login import Exchange, HeldToken, Login
from vault.crypto.transit_token import TokenDesk, TokenLease
from vault.domain.errors import ConfigurationError, DatavaultError, KeysUnavailableError
from vault.domain.system import SystemRandomness
from vault.testing import FakeClock

BY_LOGIN = Exchange("approle", "/v1/auth/approle/login", "approle at auth/approle", dict)
HELD = HeldToken("token", lambda: "")
DOWN = KeysUnavailableError("the KMS does not answer (ConnectTimeout)")
REFUSED = ConfigurationError("DATAVAULT_TRANSIT_AUTH: the KMS refuses the login, says /a/path")


class ScriptedDesk(TokenDesk):
    """Gives tokens t1, t2 ... of `lease` seconds; what is in `failing` for a question is raised instead.

    `token` is what a held token is read as; `renewals` are the next leases of renewals, 0 refuses; `accepts`
    is the answer to lookups.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.token = ""
        self.lease = 60.0
        self.renewable = True
        self.renewals: list[float] = []
        self.accepts = True
        self.failing: dict[str, DatavaultError] = {}
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def obtain(self) -> TokenLease:
        self._note("obtain")
        if self.token:
            return TokenLease(self.token, self.clock.monotonic())
        number = self.asked.count("obtain")
        return TokenLease(f"t{number}", self.clock.monotonic(), self.lease, self.renewable)

    def renewed(self, lease: TokenLease) -> TokenLease | None:
        self._note("renew")
        seconds = self.renewals.pop(0) if self.renewals else self.lease
        return TokenLease(lease.token, self.clock.monotonic(), seconds, True) if seconds else None

    def looked_up(self, token: str) -> TokenLease | None:
        self._note("look up")
        seconds = self.lease - self.clock.monotonic()
        return TokenLease(token, self.clock.monotonic(), seconds) if self.accepts else None

    def give_back(self, lease: TokenLease) -> None:
        self._note(f"give back {lease.token}")

    def _note(self, question: str) -> None:
        self.asked.append(question)
        assert self.gate.wait(30)
        if question in self.failing:
            raise self.failing[question]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def desk(clock: FakeClock) -> ScriptedDesk:
    return ScriptedDesk(clock)


@pytest.fixture
def keep(
    clock: FakeClock, desk: ScriptedDesk, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Login], TokenKeeper]]:
    """Makes keepers whose own thread does nothing: the tests call `tend` themselves; and ends them."""
    monkeypatch.setattr(TokenKeeper, "_tend_on", lambda keeper: None)
    made: list[TokenKeeper] = []

    def make(login: Login) -> TokenKeeper:
        made.append(TokenKeeper(login, desk, clock, SystemRandomness()))
        return made[-1]

    yield make
    for keeper in made:
        keeper.stop()


@pytest.fixture
def keeper(keep: Callable[[Login], TokenKeeper]) -> TokenKeeper:
    return keep(BY_LOGIN)


def test_nobody_logs_in_before_a_token_is_wanted(keeper: TokenKeeper, desk: ScriptedDesk) -> None:
    """Making a provider asks nothing of the KMS."""
    assert (keeper.seconds_left(), desk.asked) == (None, [])
    assert keeper.token() == "t1"
    assert (keeper.seconds_left(), desk.asked) == (60, ["obtain"])


def test_a_lease_is_renewed_at_two_thirds(keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock) -> None:
    """Not before, and once: the new lease has two thirds of its own."""
    keeper.token()
    clock.advance(39)
    assert keeper.tend() == pytest.approx(1)
    assert desk.asked == ["obtain"]
    clock.advance(1)
    assert keeper.tend() == pytest.approx(40)
    assert desk.asked == ["obtain", "renew"]
    assert (keeper.token(), keeper.seconds_left()) == ("t1", 60)


def test_a_shorter_lease_means_a_new_login(keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock) -> None:
    """A renewal cut short tells that the token's greatest age is near: another one takes its place."""
    keeper.token()
    desk.renewals = [59]
    clock.advance(40)
    keeper.tend()
    assert desk.asked == ["obtain", "renew", "obtain"]
    assert (keeper.token(), keeper.seconds_left()) == ("t2", 60)


def test_a_refused_renewal_means_a_new_login(
    keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock
) -> None:
    """A token that was revoked is replaced at its renewal, should nobody notice before."""
    keeper.token()
    desk.renewals = [0]
    clock.advance(40)
    keeper.tend()
    assert keeper.token() == "t2"


def test_a_batch_token_is_replaced_and_not_renewed(
    keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock
) -> None:
    """Batch tokens cannot be renewed: at two thirds there is a new login."""
    desk.renewable = False
    keeper.token()
    clock.advance(40)
    keeper.tend()
    assert (desk.asked, keeper.token()) == (["obtain", "obtain"], "t2")


def test_a_token_without_end_is_left_alone(keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock) -> None:
    """A root token has nothing to renew."""
    desk.lease = math.inf
    keeper.token()
    clock.advance(1e9)
    assert (keeper.tend(), keeper.seconds_left(), desk.asked) == (math.inf, None, ["obtain"])


@pytest.mark.parametrize("failing", ["renew", "obtain"])
def test_the_token_serves_on_while_its_renewal_fails(
    keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock, failing: str
) -> None:
    """Attempts go on, ever slower, at random moments, to the token's end and after it; then one succeeds."""
    keeper.token()
    desk.failing[failing] = DOWN
    desk.renewals = [20.0] * 99
    clock.advance(40)
    pauses = []
    with capture_logs() as lines:
        for _ in range(12):
            pauses.append(keeper.tend())
            assert keeper.token() == "t1"
            clock.advance(pauses[-1])
    assert 0.25 <= pauses[0] <= 0.5
    assert max(pauses) <= 30
    assert {line["event"] for line in lines} == {"token_renewal_failed"}
    del desk.failing[failing]
    desk.renewals = []
    clock.advance(30)
    keeper.tend()
    # the pauses were drawn: their sum is a float like any other
    assert keeper.seconds_left() in (59, 60)


def test_many_attempts_fit_into_what_is_left(
    keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock
) -> None:
    """Before the token ends the KMS gets several chances."""
    keeper.token()
    desk.failing["renew"] = DOWN
    clock.advance(40)
    while clock.monotonic() < 60:
        clock.advance(keeper.tend())
    assert desk.asked.count("renew") > 6


def test_the_date_is_not_looked_at(keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock) -> None:
    """A machine's date that jumps by ten years, either way, neither renews nor ends a token."""
    keeper.token()
    for jump in (10, -20):
        clock._now += jump * 365 * 86_400 * 1_000_000
        assert keeper.tend() == pytest.approx(40)
        assert keeper.seconds_left() == 60
    assert desk.asked == ["obtain"]


def test_a_good_token_is_not_replaced(keeper: TokenKeeper, desk: ScriptedDesk) -> None:
    """A refusal of something else than the token costs a lookup, and no login."""
    token = keeper.token()
    assert [keeper.refused(token) for _ in range(3)] == [False] * 3
    assert desk.asked == ["obtain", *["look up"] * 3]


def test_a_token_revoked_right_after_it_was_found_good_is_replaced(
    keeper: TokenKeeper, desk: ScriptedDesk
) -> None:
    """What was found out before a refusal says nothing of it."""
    token = keeper.token()
    assert not keeper.refused(token)
    desk.accepts = False
    assert keeper.refused(token)
    assert keeper.token() == "t2"


def test_a_look_that_is_under_way_is_older_than_the_refusal(
    keeper: TokenKeeper, desk: ScriptedDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is refused meanwhile has the token looked up once more; those who wait with them share that."""
    token = keeper.token()
    looking = threading.Event()
    arrived = threading.Semaphore(0)
    together, look = keeper._together, desk.looked_up

    def counted(*arguments: Any) -> None:
        arrived.release()
        together(*arguments)

    def looked_up(token: str) -> TokenLease | None:
        looking.set()
        return look(token)

    monkeypatch.setattr(keeper, "_together", counted)
    monkeypatch.setattr(desk, "looked_up", looked_up)
    desk.gate.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(keeper.refused, token)
        assert looking.wait(30)
        later = [pool.submit(keeper.refused, token) for _ in range(4)]
        for _ in range(5):
            assert arrived.acquire(timeout=30)
        desk.gate.set()
        assert [each.result(30) for each in (first, *later)] == [False] * 5
    assert desk.asked == ["obtain", "look up", "look up"]


def test_a_revoked_token_is_replaced_once(keeper: TokenKeeper, desk: ScriptedDesk) -> None:
    """Of eight threads one finds out and logs in; all are told that there is another token."""
    token = keeper.token()
    desk.accepts = False
    desk.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        told = [pool.submit(keeper.refused, token) for _ in range(8)]
        desk.gate.set()
        assert [each.result(30) for each in told] == [True] * 8
    assert desk.asked == ["obtain", "look up", "obtain"]
    assert keeper.token() == "t2"


def test_a_kms_that_refuses_every_token_gets_no_storm(
    keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock
) -> None:
    """At most one login a second, however often the tokens it gives are refused."""
    keeper.token()
    desk.accepts = False
    for _ in range(100):
        with contextlib.suppress(KeysUnavailableError):
            keeper.refused(keeper.token())
        clock.advance(0.1)
    assert 5 <= desk.asked.count("obtain") <= 12


def test_a_login_that_is_refused_later_hides_why(keeper: TokenKeeper, desk: ScriptedDesk) -> None:
    """The reason is for the log; callers get a sentence without paths, at once for a second."""
    token = keeper.token()
    desk.accepts = False
    desk.failing["obtain"] = REFUSED
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(KeysUnavailableError, match="gives no new one") as caught:
                keeper.refused(token)
            assert caught.value.retry_after_seconds
    assert [line["reason"] for line in lines] == [REFUSED.message]
    assert desk.asked.count("obtain") == 2


def test_a_kms_that_cannot_say_is_asked_again(keeper: TokenKeeper, desk: ScriptedDesk) -> None:
    """An outage is no verdict: the next refusal is looked into anew."""
    token = keeper.token()
    desk.failing["look up"] = DOWN
    with pytest.raises(KeysUnavailableError):
        keeper.refused(token)
    desk.failing.clear()
    assert not keeper.refused(token)


def test_a_first_login_that_is_refused_is_the_operators(
    keeper: TokenKeeper, desk: ScriptedDesk, clock: FakeClock
) -> None:
    """It says why, costs the KMS one login a second, and can succeed later."""
    desk.failing["obtain"] = REFUSED
    for _ in range(5):
        with pytest.raises(ConfigurationError, match="refuses the login"):
            keeper.token()
    assert desk.asked == ["obtain"]
    desk.failing.clear()
    clock.advance(1)
    assert keeper.token() == "t2"


def test_threads_share_the_failure_of_a_first_login(
    keeper: TokenKeeper, desk: ScriptedDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads do not wait for eight timeouts one after the other."""
    desk.failing["obtain"] = DOWN
    desk.gate.clear()
    arrived = threading.Semaphore(0)
    together = keeper._together

    def counted(*arguments: Any) -> None:
        arrived.release()
        together(*arguments)

    monkeypatch.setattr(keeper, "_together", counted)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(keeper.token) for _ in range(8)]
        for _ in asking:
            assert arrived.acquire(timeout=30)
        desk.gate.set()
        errors = [each.exception(30) for each in asking]
    assert all(isinstance(error, KeysUnavailableError) for error in errors)
    assert len({id(error) for error in errors}) == 8
    assert desk.asked.count("obtain") < 8


def test_a_held_token_is_renewed_too(keep: Callable[[Login], TokenKeeper], desk: ScriptedDesk) -> None:
    """A renewal tells how long it lives."""
    desk.token = "held"
    keeper = keep(HELD)
    assert keeper.token() == "held"
    keeper.tend()
    assert (keeper.seconds_left(), desk.asked) == (60, ["obtain", "renew", "obtain"])


def test_a_held_token_that_ends_is_read_again(
    keep: Callable[[Login], TokenKeeper], desk: ScriptedDesk, clock: FakeClock
) -> None:
    """One that cannot be renewed is looked for in its file more and more often, and its end is told."""
    desk.token, desk.renewals = "held", [0.0] * 99
    keeper = keep(HELD)
    keeper.token()
    with capture_logs() as lines:
        pauses = []
        while clock.monotonic() < 59:
            pauses.append(keeper.tend())
            clock.advance(pauses[-1])
    assert pauses[:2] == [pytest.approx(40), pytest.approx(40 / 3)]
    assert {line["event"] for line in lines} == {"token_ends"}
    assert len(pauses) < 20
    desk.token, desk.renewals = "fresh", []
    keeper.tend()
    assert (keeper.token(), keeper.seconds_left()) == ("fresh", 60)


def test_the_end_of_a_held_token_that_was_renewed_is_told(
    keep: Callable[[Login], TokenKeeper], desk: ScriptedDesk, clock: FakeClock
) -> None:
    """When renewals give less and less its greatest age is near, and only an operator can help."""
    desk.token, desk.renewals = "held", [60.0, 60.0, 20.0]
    keeper = keep(HELD)
    keeper.token()
    told = []
    for _ in range(3):
        with capture_logs() as lines:
            keeper.tend()
            clock.advance(40)
        told.append("token_ends" in {line["event"] for line in lines})
    assert told == [False, False, True]


def test_a_held_token_is_renewed_though_its_file_is_bad(
    keep: Callable[[Login], TokenKeeper], desk: ScriptedDesk, clock: FakeClock
) -> None:
    """A file that somebody has opened to all is not read, and the token that is in use lives on."""
    desk.token = "held"
    keeper = keep(HELD)
    keeper.token()
    keeper.tend()
    desk.failing["obtain"] = ConfigurationError("others may read the file")
    with capture_logs() as lines:
        clock.advance(40)
        keeper.tend()
    assert keeper.seconds_left() == 60
    assert [line["event"] for line in lines] == ["token_renewed", "token_renewal_failed"]


def test_the_end_gives_the_token_back(keeper: TokenKeeper, desk: ScriptedDesk) -> None:
    """After it there is no token, no renewal and no further login."""
    keeper.token()
    keeper.close(1)
    keeper.close(1)
    assert desk.asked == ["obtain", "give back t1"]
    with pytest.raises(KeysUnavailableError, match="ended"):
        keeper.token()
    assert desk.asked == ["obtain", "give back t1"]
