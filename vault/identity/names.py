"""The names a certificate can prove: SPIFFE ids and DNS names."""

import re
from typing import Final

SPIFFE_ID_BYTES: Final = 2_048
DNS_NAME_CHARACTERS: Final = 253

_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}((?:/[A-Za-z0-9._-]+)+)")
_DNS_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS: Final = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*")


def is_spiffe_id(uri: str) -> bool:
    """Whether `uri` names a workload (SPIFFE-ID, sections 2.1 to 2.3; X509-SVID, section 3.1).

    Lower-case scheme and trust domain, a path of at least one segment, no empty, `.` or `..` segment, no
    query, fragment, port, user information or percent-encoding, at most 2,048 bytes.
    """
    match = _SPIFFE.fullmatch(uri) if len(uri) <= SPIFFE_ID_BYTES else None
    return match is not None and not {".", ".."}.intersection(match[1].split("/"))


def is_dns_name(name: str) -> bool:
    """Whether `name` is one lower-case host name (RFC 1123, section 2.1, and `_`, which container names use).

    Wildcards name no single host and are none.
    """
    return len(name) <= DNS_NAME_CHARACTERS and _DNS.fullmatch(name) is not None
