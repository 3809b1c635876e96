"""Audit records and their exact bytes (audit.md, "Record").

`encode` builds the text from cached fragments: keys are written in sorted order, every optional field is
either a whole `"key":value,` or nothing, and `v` stands last, so no comma is ever left over. A property test
holds it to `json.dumps`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quote
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from vault.audit.entries import Entries
from vault.domain.canonical import canonical_json
from vault.domain.errors import IntegrityError, InvalidArgumentError, RecordTooLargeError, unchained
from vault.domain.limits import LIMITS

VERSION: Final = 1
_CACHED_ATTRIBUTES: Final = 32
_INT64: Final = range(-(2**63), 2**63)
_ENCODABLE: Final = "must hold Unicode text and 64-bit integers"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class AttributeEntry(NamedTuple):
    """What was decided for one attribute: a NamedTuple, because fragments are cached by its hash.

    `act` is the form given (`read.mask`), or the strongest asked where denied; `reason` is set for denials
    only; `bases` are those that held, in the order the caller gives (sorted, by convention); `rule` is the
    deciding rule, '' when none matched.
    """

    act: str
    reason: str = ""
    bases: tuple[str, ...] = ()
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One audited call for one subject. '' , empty and None mean absent: the key is left out.

    `time` is microseconds since 1970 UTC; `subject` the pseudonym or `unknown`; `policy` the bundle hash;
    `consents` the ids of the events that decided; `detail` names what an operation was about, where no other
    field does (the lost checkpoint of `log.adopt-restore`), by strings and 64-bit integers. Never a value.
    """

    id: str
    time: int
    tenant: str
    caller: str
    identity: str
    action: str
    subject: str
    outcome: str
    purpose: str = ""
    attributes: Mapping[str, AttributeEntry] = field(default_factory=lambda: _NOTHING)
    max_form: str = ""
    require_all: int | None = None
    policy: str = ""
    consents: tuple[str, ...] = ()
    request: str = ""
    detail: Mapping[str, str | int] = field(default_factory=lambda: _NOTHING)
    v: int = VERSION


def encode(record: Record) -> bytes:
    """The record's bytes, those of `json.dumps(o, sort_keys=True, separators=(",", ":"))`.

    Raises:
        RecordTooLargeError: more than LIMITS.record_bytes.
        InvalidArgumentError: a lone surrogate, or an integer of more than 64 bits.
    """
    text = (
        f"{{{_low('action', record.action)}{_entries(record.attributes)}"
        f"{_low('caller', record.caller)}{_consents(record.consents)}{_detail(record.detail)}"
        f"{_high('id', record.id)}"
        f"{_middle(record.identity, record.max_form, record.outcome, record.policy, record.purpose)}"
        f"{_high('request', record.request)}{_flag(record.require_all)}{_high('subject', record.subject)}"
        f'{_low("tenant", record.tenant)}"time":{record.time:d},"v":{record.v:d}}}'
    )
    if "\\ud" in text or record.time not in _INT64 or record.v not in _INT64:
        _refuse_unencodable(record)
    if len(text) > LIMITS.record_bytes:
        raise RecordTooLargeError(f"the audit record of this call is larger than {LIMITS.record_bytes} bytes")
    return text.encode("ascii")


def parse(entry: bytes) -> Record:
    """The record whose bytes are exactly `entry`.

    Raises:
        IntegrityError: not a record, or not in canonical form.
    """
    try:
        record = _from_document(orjson.loads(entry))
        if encode(record) == entry:
            return record
    except (orjson.JSONDecodeError, InvalidArgumentError, RecordTooLargeError):
        pass
    raise IntegrityError("the log entry is not a canonical audit record")


def as_document(record: Record) -> dict[str, Any]:
    """The JSON object of a record, absent fields left out."""
    document = {item.name: getattr(record, item.name) for item in fields(record)}
    document["attributes"] = {
        name: _present(entry._asdict() | {"bases": list(entry.bases)})
        for name, entry in record.attributes.items()
    }
    document["consents"] = list(record.consents)
    document["detail"] = dict(record.detail)
    return _present(document)


def _present(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value not in ("", None, [], {})}


# --- fragments --------------------------------------------------------------------------------------------


def _high(name: str, value: str) -> str:
    return f'"{name}":{_quote(value)},' if value else ""


_low: Final = lru_cache(maxsize=4_096)(_high)
"""For fields with few different values."""


@lru_cache(maxsize=4_096)
def _middle(identity: str, max_form: str, outcome: str, policy: str, purpose: str) -> str:
    return (
        _high("identity", identity)
        + _high("max_form", max_form)
        + _high("outcome", outcome)
        + _high("policy", policy)
        + _high("purpose", purpose)
    )


def _entries(entries: Mapping[str, AttributeEntry]) -> str:
    return entries.text if isinstance(entries, Entries) else _attributes(tuple(entries.items()))


def shared_entries(entries: Mapping[str, AttributeEntry]) -> Entries:
    """Entries whose text is made once, for many records."""
    return Entries(entries, _attributes(tuple(entries.items())))


def _attributes(items: tuple[tuple[str, AttributeEntry], ...]) -> str:
    # long lists are rare and whoever asks chooses their names: they must not fill the memory
    return _few_attributes(items) if len(items) <= _CACHED_ATTRIBUTES else _all_attributes(items)


def _all_attributes(items: tuple[tuple[str, AttributeEntry], ...]) -> str:
    if not items:
        return ""
    return '"attributes":{' + ",".join([_attribute(name, entry) for name, entry in sorted(items)]) + "},"


_few_attributes: Final = lru_cache(maxsize=2_048)(_all_attributes)


@lru_cache(maxsize=8_192)
def _attribute(name: str, entry: AttributeEntry) -> str:
    bases = _strings("bases", entry.bases)
    body = _high("act", entry.act) + bases + _high("reason", entry.reason) + _high("rule", entry.rule)
    return f"{_quote(name)}:{{{body[:-1]}}}"


def _consents(ids: tuple[str, ...]) -> str:
    return _strings("consents", ids) if ids else ""


def _strings(name: str, values: tuple[str, ...]) -> str:
    return f'"{name}":[{",".join([_quote(value) for value in values])}],' if values else ""


def _detail(detail: Mapping[str, str | int]) -> str:
    if not detail:
        return ""
    if not _is_detail(detail):
        raise InvalidArgumentError.of("record", _ENCODABLE)
    return f'"detail":{_canonical(dict(detail))},'


def _flag(value: int | None) -> str:
    return "" if value is None else f'"require_all":{1 if value else 0},'


def _canonical(document: object) -> str:
    try:
        return canonical_json(document).decode("ascii")
    except ValueError:
        raise unchained(InvalidArgumentError.of("record", _ENCODABLE)) from None


def _refuse_unencodable(record: Record) -> None:
    # `\ud` is there for every character beyond the BMP too: only the slow encoder tells them apart
    _canonical(as_document(record))
    if record.time not in _INT64 or record.v not in _INT64:
        raise InvalidArgumentError.of("record", _ENCODABLE)


# --- strict reading ---------------------------------------------------------------------------------------


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _INT64


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_detail(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_text(item) or _is_integer(item) for item in value.values())


def _is_attributes(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(entry, dict)
        and entry.keys() <= _ENTRY.keys()
        and "act" in entry
        and all(_ENTRY[name](item) for name, item in entry.items())
        for entry in value.values()
    )


_ENTRY: Final[Mapping[str, Callable[[object], bool]]] = {
    "act": _is_text,
    "reason": _is_text,
    "bases": _is_texts,
    "rule": _is_text,
}
_FIELDS: Final[Mapping[str, Callable[[object], bool]]] = {
    **{item.name: _is_text for item in fields(Record)},
    "time": _is_integer,
    "v": _is_integer,
    "require_all": _is_integer,
    "attributes": _is_attributes,
    "consents": _is_texts,
    "detail": _is_detail,
}
_REQUIRED: Final = frozenset(
    {"v", "id", "time", "tenant", "caller", "identity", "action", "subject", "outcome"}
)


def _from_document(document: object) -> Record:
    if (
        not isinstance(document, dict)
        or not _REQUIRED <= document.keys() <= _FIELDS.keys()
        or not all(_FIELDS[name](value) for name, value in document.items())
        or document["v"] != VERSION
    ):
        raise InvalidArgumentError.of("record", "must have the fields of an audit record")
    attributes = {
        name: AttributeEntry(**(entry | {"bases": tuple(entry.get("bases", ()))}))
        for name, entry in document.get("attributes", {}).items()
    }
    return Record(**(document | {"attributes": attributes, "consents": tuple(document.get("consents", ()))}))
