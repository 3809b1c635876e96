"""What to do next about a refused call, and the server's words as those of the command line."""

import re
from collections.abc import Mapping
from typing import Final

_NEXT: Final[Mapping[str, str]] = {
    "CONFIGURATION": "give --addr, --cacert, --cert and --key, or set DATAVAULT_ADDR, DATAVAULT_CACERT, "
    "DATAVAULT_CLIENT_CERT and DATAVAULT_CLIENT_KEY",
    "UNREACHABLE": "check --addr and that the server is up",
    "TLS_FAILED": "check that --addr, --cacert and --cert belong to the same installation; if the host of "
    "--addr is not in the server's certificate, give a name that is by --server-name, or add the host to "
    "DATAVAULT_SERVER_NAMES on the server",
    "UNAUTHENTICATED": "callers.yaml must name the SPIFFE id or DNS name of this certificate, and --addr the "
    "mTLS port",
    "NOT_PERMITTED": "ask the security team for a rule; `datavault policy explain` shows what decides",
    "REQUIRE_ALL": "leave --require-all out to get what is permitted, and the reason of each denial",
    "PURPOSE_NOT_LEAF": "name one of the purposes below it",
    "REQUEST_ID_REUSED": "use a new --request-id for new content",
    "VERSION_MISMATCH": "read again, then write with the current version",
    "QUOTA_EXCEEDED": "wait for the next hour, or ask for a larger quota in callers.yaml",
    "OVERLOADED": "try again in a moment",
    "DEADLINE_EXCEEDED": "try again; a write that carries the same --request-id happens once",
    "AUDIT_UNAVAILABLE": "nothing is released while the audit log cannot be written: see `datavault doctor`",
    "STORE_UNAVAILABLE": "see `datavault doctor` on the server",
    "KEYS_UNAVAILABLE": "see `datavault doctor` on the server",
    "SHUTTING_DOWN": "try again in a moment",
}
_JWT_PORT: Final = "tokens are taken on the port of DATAVAULT_LISTEN_JWT alone, not on the mTLS port"
_NEXT_BY_TOKEN: Final[Mapping[str, str]] = {
    "UNAUTHENTICATED": "the token must be unexpired, for this audience, and its issuer and subject in "
    "callers.yaml",
    "UNREACHABLE": f"{_NEXT['UNREACHABLE']}; {_JWT_PORT}",
    "TLS_FAILED": f"{_JWT_PORT}; {_NEXT['TLS_FAILED']}",
}
_WRONG_TYPE: Final = re.compile(
    r"writes\[[0-9]+\]\.value: ([a-z0-9-]+) is a ([a-z0-9]+): set [a-z0-9]+_value"
)
_KINDS: Final[Mapping[str, str]] = {"string": "", "json": ":", "int64": ":int"}


def next_step(reason: str, *, by_token: bool = False) -> str:
    """What to do about an error of this reason, '' where there is nothing to say."""
    return (_NEXT_BY_TOKEN.get(reason) if by_token else None) or _NEXT.get(reason, "")


def as_assignments(text: str) -> str:
    """The server's text with values of another type named as `subject write` takes them."""
    return _WRONG_TYPE.sub(_assignment, text)


def _assignment(match: re.Match[str]) -> str:
    attribute, kind = match[1], match[2]
    return f"{attribute} is a {kind}: write {attribute}{_KINDS.get(kind, f':{kind}')}=..."
