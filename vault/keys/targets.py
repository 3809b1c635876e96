"""What operators name by one word: a key of the provider, and where the keys that it wraps are stored."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from vault.crypto.encoding import lp
from vault.crypto.envelope import key_context
from vault.crypto.names import INDEX, LOG, LOOKUP, PSEUDONYM, RECEIPT, class_key
from vault.domain.errors import InvalidArgumentError
from vault.domain.faults import did_you_mean
from vault.domain.types import KeyScope
from vault.store.key_rows import EVIDENCE_CLASS, KeySource, KeyTable, Place

LOG_WORD: Final = "log"
_OF_TENANTS: Final[Mapping[str, str]] = {"lookup": LOOKUP, "index": INDEX, "pseudonym": PSEUDONYM}
_SIGNING: Final[Mapping[str, str]] = {LOG_WORD: LOG, "receipt": RECEIPT}


@dataclass(frozen=True, slots=True)
class KeyTarget:
    """A key: operators' word, name at the provider, and the sources of what it wraps (none: it signs)."""

    word: str
    name: str
    sources: tuple[KeySource, ...] = ()


def targets(classes: Iterable[str]) -> dict[str, KeyTarget]:
    """Every key that there is with these key classes, by word.

    Raises:
        ConfigurationError: see `class_key`.
    """
    found = [KeyTarget(word, class_key(word), _sources_of(word)) for word in classes]
    found += [
        KeyTarget(word, name, (KeySource(KeyTable.TENANT, word),)) for word, name in _OF_TENANTS.items()
    ]
    found += [KeyTarget(word, name) for word, name in _SIGNING.items()]
    return {target.word: target for target in found}


def find_target(classes: Iterable[str], word: str, *, wrapping: bool = False) -> KeyTarget:
    """The key that `word` names.

    Raises:
        InvalidArgumentError: there is none, or `wrapping` is asked of a key that signs.
    """
    known = targets(classes)
    found = known.get(word)
    if found is None:
        raise _unknown(word, [each.word for each in known.values() if each.sources or not wrapping])
    if wrapping and not found.sources:
        raise InvalidArgumentError.of("key", f"{word} signs and wraps no keys: there is nothing to rewrap")
    return found


def wrapping_context(source: KeySource, place: Place) -> bytes:
    """What the wrapped key of a row is bound to.

    Raises:
        InvalidArgumentError: a name is not UTF-8.
    """
    tenant = str(place[0])
    if source.table is KeyTable.TENANT:
        try:
            return lp(tenant.encode(), source.use.encode())
        except UnicodeEncodeError:
            raise InvalidArgumentError.of("tenant", "must be UTF-8 text") from None
    return key_context(KeyScope(tenant, bytes(place[1]), source.use))


def _sources_of(key_class: str) -> tuple[KeySource, ...]:
    tables = [KeyTable.SUBJECT]
    if key_class == EVIDENCE_CLASS:
        tables.append(KeyTable.EVIDENCE)
    return tuple(KeySource(table, key_class) for table in tables)


def _unknown(word: str, known: Collection[str]) -> InvalidArgumentError:
    hint = did_you_mean(word, known)
    return InvalidArgumentError.of("key", f"there is no such key{hint}: one of {', '.join(sorted(known))}")
