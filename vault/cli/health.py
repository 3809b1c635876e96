"""`datavault health`: what a supervisor that cannot speak grpc.health.v1 asks, such as a container engine."""

import os
from typing import Final

import click

from vault.cli.exits import CommandError, ExitCode

_SECONDS: Final = 3.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared with, not bound to
"""Where a server that listens on all addresses is asked from its own machine."""


@click.command()
@click.argument("address", metavar="[HOST:PORT]", required=False)
@click.option(
    "--timeout", default=_SECONDS, show_default=True, metavar="SECONDS", help="How long it may take."
)
def health(address: str | None, timeout: float) -> int:
    """Ask whether the service serves: exit code 0 when it does, 1 when it does not or does not answer.

    It asks the health port, which needs no certificate; by default the one of DATAVAULT_LISTEN_HEALTH.

    \b
    Example:
      datavault health 127.0.0.1:8081
    """
    # gRPC writes lines of its own, and reads this when it is first imported
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    target = reachable(address or _listen_health())
    status = ask(target, timeout)
    if status != "SERVING":
        raise CommandError(f"{target}: {status}", "the service's log says why: not_serving")
    click.echo(status)
    return ExitCode.OK


def ask(target: str, timeout: float) -> str:
    """The status that the service says of itself, for example NOT_SERVING.

    Raises:
        CommandError: it does not answer in `timeout` seconds, or what answers knows nothing of health.
    """
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(target, options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            raise CommandError(
                f"{target}: no answer: {error.code().name}",
                "is the service running, and is this its health port (DATAVAULT_LISTEN_HEALTH)?",
            ) from None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def reachable(address: str) -> str:
    """The address under which this machine reaches a server that listens on `address`."""
    host, colon, port = address.rpartition(":")
    return f"{_ANY.get(host, host)}{colon}{port}"


def _listen_health() -> str:
    from vault.config import load_settings

    address = load_settings().listen_health
    if not address:
        raise CommandError(
            "the health port is off", "set DATAVAULT_LISTEN_HEALTH, or name it", ExitCode.USAGE
        )
    return address
