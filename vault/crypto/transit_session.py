"""A session with the KMS: clients that carry a valid token, renewed before it ends."""

import threading
import weakref

import hvac
import requests
from hvac.adapters import RawAdapter

from vault.crypto.transit_bounds import BoundedAdapter
from vault.crypto.transit_keeper import TokenKeeper
from vault.crypto.transit_login import Exchange, login_of
from vault.crypto.transit_settings import TransitSettings
from vault.crypto.transit_socket import SocketAdapter
from vault.crypto.transit_token import TokenDesk
from vault.domain.protocols import Clock, Randomness
from vault.domain.system import SystemRandomness


class TransitSession:
    """Thread-safe. hvac's clients are not, so each thread has one of its own. The KMS is first asked when the
    first client is; from then on a thread renews the token until `close`.

    Raises:
        ConfigurationError: there is nothing to log in with, or it is kept carelessly.
    """

    def __init__(self, settings: TransitSettings, clock: Clock, randomness: Randomness | None = None) -> None:
        self._settings = settings
        login = login_of(settings)
        # told at start, not with the first call
        _ = login.body() if isinstance(login, Exchange) else login.read()
        desk = TokenDesk(login, clock, _new_client(settings))
        self._keeper = TokenKeeper(login, desk, clock, randomness or SystemRandomness())
        # for one that nobody closes: its thread knows the keeper alone, and ends with the session
        weakref.finalize(self, self._keeper.stop)
        self._threads = threading.local()
        self._clients: weakref.WeakSet[hvac.Client] = weakref.WeakSet()
        self._guard = threading.Lock()

    def log_in(self) -> None:
        """Log in unless that is done, so that what is wrong with it is told at start. With a token there is
        nothing to ask of the KMS yet.

        Raises:
            ConfigurationError: the KMS refuses; names the way to log in, its mount and the role.
            KeysUnavailableError: it does not answer.
        """
        self._keeper.token()

    def client(self) -> hvac.Client:
        """This thread's client, with the token that is in force now. Logs in when nobody has yet.

        Raises:
            ConfigurationError: the KMS refuses the first login. KeysUnavailableError: it does not answer, or
                the session was closed.
        """
        token = self._keeper.token()
        client: hvac.Client | None = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = _new_client(self._settings)
            with self._guard:
                self._clients.add(client)
        client.token = token
        return client

    def refused(self, token: str) -> bool:
        """To be told when the KMS answered 403 to a call made with `token`. Finds out whether the token is to
        blame, and if so gets another one. Of several threads one asks, the others share its answer; a refusal
        of the KMS is taken as its word for a second.

        Returns:
            Whether there is another token than `token` now, so that the call is worth repeating. If not, the
            KMS accepts the token, and it is the call that it refuses.

        Raises:
            KeysUnavailableError: the token is to blame and there is no other, or the KMS cannot say.
        """
        return self._keeper.refused(token)

    def token_seconds_left(self) -> int | None:
        """The rest of the token's lifetime; None where it never ends or is not known."""
        return self._keeper.seconds_left()

    def close(self) -> None:
        """Renew no more, give back a token that was got by logging in, and close the connections. Harmless
        when it was called before. Takes three times `timeout_seconds` at most."""
        self._keeper.close(2 * self._settings.timeout_seconds)
        with self._guard:
            clients = list(self._clients)
        for client in clients:
            client.token = ""
            client.adapter.close()


def _new_client(settings: TransitSettings) -> hvac.Client:
    session = requests.Session()
    # neither an environment's proxy nor its .netrc concerns a KMS on this machine
    session.trust_env = not settings.loopback
    session.verify = str(settings.ca_certificate) if settings.ca_certificate else True
    if settings.client_certificate and settings.client_key:
        session.cert = (str(settings.client_certificate), str(settings.client_key))
    for scheme in ("https://", "http://"):
        session.mount(scheme, SocketAdapter(settings.socket) if settings.socket else BoundedAdapter())
    return hvac.Client(
        url=settings.url,
        # not None, for which hvac reads the environment and the home folder behind the settings' back
        token="",
        cert=session.cert or (),
        verify=session.verify,
        timeout=settings.timeout_seconds,
        session=session,
        namespace=settings.namespace or None,
        # requests would send the token header on to wherever a redirect points
        allow_redirects=False,
        adapter=RawAdapter,
        ignore_exceptions=True,
    )
