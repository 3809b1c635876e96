"""The lookup keys of a tenant: a customer number's MAC, and the number itself encrypted (keys.md).

There is one version, but while a rotation is under way: then a customer may be indexed under the older or the
newer one, or both, and each MAC asked for is made under every version in force.
"""

import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from vault.crypto.encoding import lp
from vault.crypto.envelope import CUSTOMER_NUMBER, DataKey, dek_id_of
from vault.crypto.opaque import Opaque, derive
from vault.domain.errors import IntegrityError, InvalidArgumentError, OtherLookupKeyError, unchained
from vault.domain.protocols import Randomness, TenantKeyRow
from vault.domain.types import ValueScope

_NUMBER_INFO: Final = b"datavault customer number key v1"
_FINGERPRINT_INFO: Final = b"datavault request fingerprint key v1"


class LookupKey(Opaque):
    """One version of a tenant's lookup key."""

    __slots__ = ("_fingerprints", "_macs", "_numbers", "_tenant", "number_key_id", "tenant", "version")

    def __init__(self, tenant: str, version: int, raw: bytes) -> None:
        self.tenant: Final = tenant
        self.version: Final = version
        self._tenant = utf8("tenant", tenant)
        # keyed once and copied: hmac.digest lets go of the interpreter lock, which under load costs more
        self._macs = hmac.new(raw, digestmod="sha256")
        self._fingerprints = derive(raw, _FINGERPRINT_INFO)
        self._numbers = DataKey(derive(raw, _NUMBER_INFO))
        self.number_key_id: Final = self._numbers.id

    def mac(self, number: str) -> bytes:
        """32 bytes by which `subject_lookup` knows a customer number.

        HMAC-SHA-256 of LP(tenant) || LP(number as given), untruncated.

        Raises:
            InvalidArgumentError: the number is not UTF-8.
        """
        mac = self._macs.copy()
        mac.update(lp(self._tenant, utf8("customer_number", number)))
        return mac.digest()

    def fingerprint(self, content: bytes) -> bytes:
        """32 bytes that tell whether a repeated request has the same content, and nothing else of it."""
        return hmac.digest(self._fingerprints, content, "sha256")

    def seal_number(self, subject: bytes, number: str, randomness: Randomness) -> bytes:
        """The customer number as an envelope, the reserved attribute `$customer-number` of the subject.

        Raises:
            InvalidArgumentError: the number is not UTF-8.
        """
        return self._numbers.seal(self._scope(subject), utf8("customer_number", number), randomness)

    def open_number(self, subject: bytes, envelope: bytes) -> str:
        """The customer number.

        Raises:
            IntegrityError: not this subject's, not under this version of the key, or changed.
        """
        try:
            return self._numbers.open(self._scope(subject), envelope).decode()
        except UnicodeDecodeError:
            # the codec error would carry the number itself
            raise unchained(IntegrityError("a stored customer number is not text")) from None

    def _scope(self, subject: bytes) -> ValueScope:
        # a number never changes: sealed anew under another lookup key it is still the first version
        return ValueScope(self.tenant, subject, CUSTOMER_NUMBER, 1, 1)


class LookupKeys(Opaque):
    """All versions of a tenant's lookup key that are kept, as the store held them at one moment.

    `rows` are those of the store: while they equal the store's, what is not found does not exist, and what is
    inserted will be found by everyone. `newest` is the version that new numbers are sealed under; `kept` are
    all of them, retired ones too, the newest first.
    """

    __slots__ = ("_in_force", "_numbers", "_only", "kept", "newest", "rows", "tenant")

    def __init__(self, tenant: str, rows: Sequence[TenantKeyRow], keys: Mapping[int, LookupKey]) -> None:
        """`keys` by version; a retired version may lack.

        Raises:
            IntegrityError: no version is in force.
        """
        in_force = [keys[row.version] for row in reversed(rows) if not row.retired_at]
        if not in_force:
            raise IntegrityError("no lookup key of a tenant is in force")
        self.tenant: Final = tenant
        self.rows: Final = tuple(rows)
        self.newest: Final = in_force[0]
        self._in_force: Final = tuple(in_force)
        self._only: Final = in_force[0] if len(in_force) == 1 else None
        self._numbers: Final = {key.number_key_id: key for key in in_force}
        self.kept: Final = tuple(keys[row.version] for row in reversed(rows) if row.version in keys)

    @property
    def version(self) -> int:
        """The newest one's."""
        return self.newest.version

    @property
    def in_force(self) -> tuple[LookupKey, ...]:
        """The newest first; more than one while a rotation is under way."""
        return self._in_force

    def mac(self, number: str) -> bytes:
        """The MAC of a customer number under the newest version; see `macs` for finding one.

        Raises:
            InvalidArgumentError: the number is not UTF-8.
        """
        return self.newest.mac(number)

    def macs(self, number: str) -> tuple[bytes, ...]:
        """The MACs of a customer number under every version in force, the newest first.

        Raises:
            InvalidArgumentError: the number is not UTF-8.
        """
        if self._only is not None:
            return (self._only.mac(number),)
        return tuple([key.mac(number) for key in self._in_force])

    def seal_number(self, subject: bytes, number: str, randomness: Randomness) -> bytes:
        """As `LookupKey.seal_number`, under the newest version."""
        return self.newest.seal_number(subject, number, randomness)

    def open_number(self, subject: bytes, envelope: bytes) -> str:
        """The customer number, sealed under any version in force.

        Raises:
            OtherLookupKeyError: sealed under a version that is not among them.
            IntegrityError: not this subject's, or changed.
        """
        key = self._numbers.get(dek_id_of(envelope))
        if key is None:
            raise OtherLookupKeyError("a customer number is sealed under another lookup key")
        return key.open_number(subject, envelope)

    def fingerprint(self, content: bytes) -> bytes:
        """The fingerprint to keep with a request."""
        return self.newest.fingerprint(content)

    def fingerprints(self, content: bytes) -> tuple[bytes, ...]:
        """The fingerprints that a request with this content may have been kept with, the newest first.

        Retired versions are among them, so that a repeat is known as one after a rotation too.
        """
        return tuple([key.fingerprint(content) for key in self.kept])


def utf8(field: str, text: str) -> bytes:
    """
    Raises:
        InvalidArgumentError: the text is not UTF-8; it names the field and not the text.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        # the codec error would carry the text itself
        raise unchained(InvalidArgumentError.of(field, "must be UTF-8 text")) from None
