"""The `authorization` metadata of a call -> bearer token (RFC 6750, section 2.1)."""

import re
from collections.abc import Iterable
from typing import Final

from vault.domain.errors import UnauthenticatedError

AUTHORIZATION: Final = "authorization"
TOKEN_CHARACTERS: Final = 8_192

_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)", re.ASCII)


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The one bearer token in the metadata of a call, at most 8,192 characters.

    Raises:
        UnauthenticatedError: none, more than one `authorization`, another scheme, malformed, or too long.
    """
    found = [value for key, value in metadata if key.lower() == AUTHORIZATION]
    if not found:
        raise UnauthenticatedError("the call carries no authorization metadata")
    # with two of them a proxy and this service might each believe another one
    if len(found) > 1:
        raise UnauthenticatedError("the call carries more than one authorization")
    return _token(found[0])


def _token(value: str | bytes) -> str:
    if len(value) > TOKEN_CHARACTERS + len("Bearer "):
        raise UnauthenticatedError("the token is too long")
    match = _BEARER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise UnauthenticatedError("the authorization is not of the form: Bearer TOKEN")
    return match[1]
