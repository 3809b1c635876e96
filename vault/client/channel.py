"""What both channels, the synchronous and the asyncio one, are made of."""

import json
from typing import Any, Final

import grpc

from vault.client.connection import Connection, Token
from vault.client.methods import ONCE, STREAMING, UNARY
from vault.client.pacing import RetryPolicy

MESSAGE_BYTES: Final = 4 * 1024 * 1024
# the server measures the answer before the envelope of batches is added
_RECEIVE_BYTES: Final = MESSAGE_BYTES + 64 * 1024
_KEEPALIVE_MILLISECONDS: Final = 60_000
_KEEPALIVE_TIMEOUT_MILLISECONDS: Final = 20_000
# grpc 1.85 lets a third of the calls hang until their deadline when the backoff is one millisecond
_SHORTEST_BACKOFF_SECONDS: Final = 0.01


def credentials(connection: Connection) -> grpc.ChannelCredentials:
    """mTLS, or TLS with a token at every call.

    Raises:
        ClientConfigurationError: a file is missing, unreadable or does not match.
    """
    material = connection.read()
    channel = grpc.ssl_channel_credentials(material.ca, material.key, material.certificate)
    if connection.token is None:
        return channel
    bearer = grpc.metadata_call_credentials(_Bearer(connection.token), name="datavault-token")
    return grpc.composite_channel_credentials(channel, bearer)


def options(connection: Connection, retry: RetryPolicy) -> list[tuple[str, Any]]:
    """Channel arguments: limits, keepalive, retries."""
    chosen: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.max_receive_message_length", _RECEIVE_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MILLISECONDS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MILLISECONDS),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", service_config(retry)),
        # a TXT record of the DNS must not decide how often a write is sent
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.primary_user_agent", "datavault-client"),
    ]
    if connection.server_name:
        chosen.append(("grpc.ssl_target_name_override", connection.server_name))
    return chosen


def service_config(retry: RetryPolicy) -> str:
    """The gRPC service config: unary calls are retried on UNAVAILABLE, and on CANCELLED, with which a server
    lets go of calls that came in crowds or while it stops (gRFC A6). A call that the caller cancels is not.

    Writes may be retried because they carry a request id. Streams are not: the client resumes them, and
    gRPC's own replay would multiply the attempts.
    """
    unary: dict[str, Any] = {"name": [_name(method.path) for method in UNARY]}
    if retry.attempts > 1:
        unary["retryPolicy"] = {
            "maxAttempts": retry.attempts,
            "initialBackoff": f"{max(retry.first_seconds, _SHORTEST_BACKOFF_SECONDS):.3f}s",
            "maxBackoff": f"{max(retry.longest_seconds, _SHORTEST_BACKOFF_SECONDS):.3f}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
        }
    others = {"name": [_name(method.path) for method in (*STREAMING, *ONCE)]}
    return json.dumps({"methodConfig": [unary, others]})


def _name(path: str) -> dict[str, str]:
    _, service, method = path.split("/")
    return {"service": service, "method": method}


class _Bearer(grpc.AuthMetadataPlugin):
    """Adds the token to each call (RFC 6750). Says nothing of it when it cannot be had."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            token = (self._token() if callable(self._token) else self._token).strip()
            usable = bool(token) and token.isascii() and token.isprintable()
        except Exception as error:
            # the kind alone: the text could quote the token
            callback((), RuntimeError(f"the token could not be had ({type(error).__name__})"))
            return
        if usable:
            callback((("authorization", f"Bearer {token}"),), None)
        else:
            callback((), RuntimeError("the token is empty or no token"))
