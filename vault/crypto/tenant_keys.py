"""Keys of a tenant: lookup (customer number -> subject id) and pseudonyms (keys.md; policy.md, "Pseudonyms").

Each is 32 random bytes, wrapped by the provider and kept by the store. Every secret use of one has a key of
its own, derived by HKDF with an info string of its own, so no output of one use means anything in another.
"""

import hmac
import threading
from typing import Final

from vault.crypto.encoding import lp
from vault.crypto.envelope import CUSTOMER_NUMBER, DataKey
from vault.crypto.names import LOOKUP, PSEUDONYM
from vault.crypto.opaque import KEY_BYTES, Opaque, derive
from vault.domain.errors import DatavaultError, IntegrityError, InvalidArgumentError
from vault.domain.protocols import KeyProvider, Randomness, TenantKeyRepository, UnwrapItem, WrapItem
from vault.domain.types import ValueScope

_NUMBER_INFO: Final = b"datavault customer number key v1"
_FINGERPRINT_INFO: Final = b"datavault request fingerprint key v1"
_PSEUDONYM_INFO: Final = b"datavault pseudonym key v1"
_FIRST_VERSION: Final = 1


class LookupKey(Opaque):
    """One version of a tenant's lookup key."""

    __slots__ = ("_fingerprints", "_macs", "_numbers", "_tenant", "tenant", "version")

    def __init__(self, tenant: str, version: int, raw: bytes) -> None:
        self.tenant: Final = tenant
        self.version: Final = version
        self._tenant = _utf8("tenant", tenant)
        # keyed once and copied: hmac.digest lets go of the interpreter lock, which under load costs more
        self._macs = hmac.new(raw, digestmod="sha256")
        self._fingerprints = derive(raw, _FINGERPRINT_INFO)
        self._numbers = DataKey(derive(raw, _NUMBER_INFO))

    def mac(self, number: str) -> bytes:
        """32 bytes by which `subject_lookup` knows a customer number.

        HMAC-SHA-256 of LP(tenant) || LP(number as given), untruncated.

        Raises:
            InvalidArgumentError: the number is not UTF-8.
        """
        mac = self._macs.copy()
        mac.update(lp(self._tenant, _utf8("customer_number", number)))
        return mac.digest()

    def fingerprint(self, content: bytes) -> bytes:
        """32 bytes that tell whether a repeated request has the same content, and nothing else of it."""
        return hmac.digest(self._fingerprints, content, "sha256")

    def seal_number(self, subject: bytes, number: str, randomness: Randomness) -> bytes:
        """The customer number as an envelope, the reserved attribute `$customer-number` of the subject.

        Raises:
            InvalidArgumentError: the number is not UTF-8.
        """
        return self._numbers.seal(self._scope(subject), _utf8("customer_number", number), randomness)

    def open_number(self, subject: bytes, envelope: bytes) -> str:
        """The customer number.

        Raises:
            IntegrityError: not this subject's, not under this version of the key, or changed.
        """
        try:
            return self._numbers.open(self._scope(subject), envelope).decode()
        except UnicodeDecodeError:
            # the codec error would carry the number itself
            raise IntegrityError("a stored customer number is not text") from None

    def _scope(self, subject: bytes) -> ValueScope:
        # written once with the subject and never changed in place: it has no versions to count
        return ValueScope(self.tenant, subject, CUSTOMER_NUMBER, 1, 1)


class PseudonymKey(Opaque):
    """The key of one (tenant, caller, attribute) or (tenant, caller, attribute, purpose)."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def pseudonym(self, stored: bytes) -> bytes:
        """32 bytes: HMAC-SHA-256 of the value's stored bytes. Equal values have equal pseudonyms here."""
        return hmac.digest(self._raw, stored, "sha256")


class TenantKeys:
    """Thread-safe. A tenant's keys are made on first use and held in memory for the life of the process.

    The first use blocks on the provider and the store, so it must not happen inside a transaction.
    """

    def __init__(
        self, provider: KeyProvider, repository: TenantKeyRepository, randomness: Randomness
    ) -> None:
        self._provider = provider
        self._repository = repository
        self._randomness = randomness
        self._lock = threading.Lock()
        self._lookups: dict[str, LookupKey] = {}
        self._roots: dict[str, bytes] = {}
        self._pseudonyms: dict[tuple[str, str, str, str | None], PseudonymKey] = {}

    def lookup(self, tenant: str) -> LookupKey:
        """The newest lookup key of the tenant.

        Raises:
            KeysUnavailableError, StoreUnavailableError: on first use.
            IntegrityError: the stored key does not open for this tenant.
        """
        found = self._lookups.get(tenant)
        if found is None:
            with self._lock:
                found = self._lookups.get(tenant)
                if found is None:
                    version, raw = self._newest(tenant, "lookup", LOOKUP)
                    found = self._lookups[tenant] = LookupKey(tenant, version, raw)
        return found

    def warm(self, tenant: str) -> None:
        """Make or fetch all keys of a tenant now, so that no read waits for the provider.

        Raises: as `lookup`.
        """
        self.lookup(tenant)
        self._root(tenant)

    def pseudonym_key(self, tenant: str, caller: str, attribute: str, purpose: str | None) -> PseudonymKey:
        """The key for one caller and attribute, and for one purpose where the form's scope says so.

        Raises: as `lookup`.
        """
        at = (tenant, caller, attribute, purpose)
        found = self._pseudonyms.get(at)
        if found is None:
            parts = [_utf8("name", part) for part in at if part is not None]
            found = PseudonymKey(derive(self._root(tenant), lp(_PSEUDONYM_INFO, *parts)))
            found = self._pseudonyms.setdefault(at, found)
        return found

    def _root(self, tenant: str) -> bytes:
        with self._lock:
            root = self._roots.get(tenant)
            if root is None:
                _, root = self._newest(tenant, "pseudonym", PSEUDONYM)
                self._roots[tenant] = root
            return root

    def _newest(self, tenant: str, use: str, key: str) -> tuple[int, bytes]:
        context = lp(_utf8("tenant", tenant), use.encode())
        rows = self._repository.load(tenant, use) or self._first(tenant, use, key, context)
        version, wrapped = rows[-1]
        # also when this process made it: what serves is what the table holds and the provider opens again
        raw = self._provider.unwrap(key, [UnwrapItem(wrapped, context)])[0]
        if isinstance(raw, DatavaultError):
            raise raw
        if len(raw) != KEY_BYTES:
            raise IntegrityError(f"the {use} key of a tenant is not 32 bytes long")
        return version, raw

    def _first(self, tenant: str, use: str, key: str, context: bytes) -> list[tuple[int, bytes]]:
        raw = self._randomness.token(KEY_BYTES)
        wrapped = self._provider.wrap(key, [WrapItem(raw, context)])[0]
        return self._repository.insert_first(tenant, use, _FIRST_VERSION, wrapped)


def _utf8(field: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # the codec error would carry the text itself
        raise InvalidArgumentError.of(field, "must be UTF-8 text") from None
