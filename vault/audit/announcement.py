"""How a log announces its next key: a record in the log itself, signed by both keys (ADR 0013).

That the record stands in a signed tree is not enough. Whoever can write to the database can append a record,
the service signs the tree with it, and anybody can add a signature line of their own key to that checkpoint.
So both keys sign the announcement by itself, over a text that no checkpoint can have: its first line is no
origin.

    datavault log key v1
    <verifier key that announces>
    <verifier key that is announced>
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vault.audit.checkpoint import VerifierKey, decode64, parse_vkey, vkey
from vault.audit.record import parse
from vault.domain.errors import ConfigurationError, IntegrityError
from vault.domain.protocols import Signer
from vault.domain.types import Outcome

ACTION: Final = "log.key"
_HEADER: Final = "datavault log key v1"
_DETAIL: Final = ("previous", "verifier_key", "previous_signature", "signature")


@dataclass(frozen=True, slots=True)
class Announcement:
    """A verified announcement: two verifier keys of one origin, both of which signed it."""

    previous: str
    verifier_key: str


def announcement_text(previous: str, verifier_key: str) -> bytes:
    """What both keys sign: three lines, each ended by LF."""
    return f"{_HEADER}\n{previous}\n{verifier_key}\n".encode()


def announcement_detail(origin: str, previous: Signer, following: Signer) -> dict[str, str | int]:
    """The `detail` of the record by which one key of the log `origin` announces the next.

    Raises:
        KeysUnavailableError: one of them does not answer.
    """
    keys = [vkey(origin, signer.public_key()) for signer in (previous, following)]
    text = announcement_text(keys[0], keys[1])
    signatures = [base64.b64encode(signer.sign(text)).decode("ascii") for signer in (previous, following)]
    return dict(zip(_DETAIL, (*keys, *signatures), strict=True))


def parse_announcement(entry: bytes) -> Announcement:
    """The announcement that a log entry is.

    Raises:
        IntegrityError: it is none, or not signed by both keys that it names.
    """
    record = parse(entry)
    if record.action != ACTION or record.outcome != Outcome.AUTHORISED:
        raise IntegrityError("the record announces no log key")
    return verified_announcement(record.detail)


def verified_announcement(detail: Mapping[str, str | int]) -> Announcement:
    """The announcement whose record has this `detail`.

    Raises: as `parse_announcement`.
    """
    texts = [value if isinstance(value := detail.get(name), str) else "" for name in _DETAIL]
    try:
        keys = [parse_vkey(text) for text in texts[:2]]
    except ConfigurationError:
        raise IntegrityError("the record announces something that is no verifier key") from None
    if keys[0].name != keys[1].name or keys[0].public_key == keys[1].public_key:
        raise IntegrityError("the record announces no other key of the same log")
    for key, text in zip(keys, texts[2:], strict=True):
        _require_signature(key, decode64(text), announcement_text(texts[0], texts[1]))
    return Announcement(texts[0], texts[1])


def _require_signature(key: VerifierKey, signature: bytes | None, text: bytes) -> None:
    try:
        if signature is None:
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, text)
    except InvalidSignature:
        raise IntegrityError("the announcement of a log key is not signed by both keys") from None
