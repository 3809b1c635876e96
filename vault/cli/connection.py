"""The connection options that all client commands share, and the client behind them."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from vault.client import Client

R = TypeVar("R")
BY_TOKEN: Final = "the caller proves itself by a token"
"""A note on errors, for the hint that goes with them."""
Factory = Callable[[dict[str, str]], Any]


@dataclass(frozen=True, slots=True)
class Connector:
    """Connection options as given (fields of `vault.client.Connection`); `open` makes the client."""

    options: dict[str, str]
    factory: Factory

    @property
    def target(self) -> str:
        """The address in force, for messages and the journal of an import; '' when there is none."""
        address = self.options.get("address") or os.environ.get("DATAVAULT_ADDR", "")
        return address.removeprefix("https://").removesuffix("/")

    @property
    def by_token(self) -> bool:
        """Whether the caller proves itself by a token: options replace the environment's identity whole."""
        given = self.options.keys() & {"client_certificate", "client_key"}
        return not given and bool(os.environ.get("DATAVAULT_TOKEN_FILE"))

    @contextlib.contextmanager
    def open(self) -> "Iterator[Client]":
        """The client, closed at the end of the block. Raises DatavaultClientError."""
        with self.factory(self.options) as client:
            try:
                yield client
            except Exception as error:
                if self.by_token:
                    error.add_note(BY_TOKEN)
                raise


def client_options(command: Callable[..., R]) -> Callable[..., R]:
    """Adds --addr, --cacert, --cert, --key and --server-name; the command gets them as `connector`.

    What is not given comes from the environment, which `Connection.from_environment` reads: reading it here
    too would let a certificate there win silently over a token there.
    """

    @click.option("--addr", metavar="HOST:PORT", help="Server address.  [env: DATAVAULT_ADDR]")
    @click.option("--cacert", metavar="FILE", help="CA of the server, PEM.  [env: DATAVAULT_CACERT]")
    @click.option("--cert", metavar="FILE", help="Your certificate, PEM.  [env: DATAVAULT_CLIENT_CERT]")
    @click.option("--key", metavar="FILE", help="Its private key, PEM.  [env: DATAVAULT_CLIENT_KEY]")
    @click.option(
        "--server-name", metavar="NAME", help="Name in the server's certificate, if not the host's."
    )
    @click.pass_context
    @functools.wraps(command)
    def with_connector(
        ctx: click.Context,
        /,
        *args: Any,
        addr: str | None,
        cacert: str | None,
        cert: str | None,
        key: str | None,
        server_name: str | None,
        **kwargs: Any,
    ) -> R:
        given = {
            "address": addr,
            "ca_certificate": cacert,
            "client_certificate": cert,
            "client_key": key,
            "server_name": server_name,
        }
        options = {name: value for name, value in given.items() if value}
        factory = ctx.obj if callable(ctx.obj) else _client
        return command(*args, connector=Connector(options, factory), **kwargs)

    return with_connector


def _client(options: dict[str, str]) -> Any:
    from vault.client import Client, Connection

    return Client(Connection.from_environment(**options))
