"""What the formats make of drawn inputs, line by line: test_compiled_formats.py compares two builds by it.

    python -m tests.support.answers SEED COUNT [--sources]

With --sources the Python sources of vault are loaded, also where compiled modules stand beside them.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from typing import Any, Final

_LETTERS: Final = 'aZ9 "\\/\x00\x1f\x7fäß€\u2028\U0001f600@.,-'
_NAMES: Final = ("email", "income", "birth-date", "nothing")


class Sources(MetaPathFinder):
    """Finds vault as Python sources, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: object = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "vault":
            return None
        found = (
            FileFinder(each, (SourceFileLoader, [".py"])).find_spec(fullname) for each in path or sys.path
        )
        return next(filter(None, found), None)


def answers(seed: int, count: int) -> Iterator[str]:
    """For each drawn input what came of it, or which error."""
    draw = random.Random(seed)  # noqa: S311 - inputs, no keys
    cases = (_record, _parsed, _envelope, _wire, _merkle, _value, _form, _bases, _decision)
    for number in range(count):
        case = cases[number % len(cases)]
        yield f"{case.__name__} {_told(case, draw)}"


def _told(case: Callable[[random.Random], Any], draw: random.Random) -> str:
    try:
        return repr(case(draw))
    except Exception as error:
        return f"{type(error).__name__}: {error} {error.__suppress_context__}"


def _text(draw: random.Random, most: int = 12) -> str:
    lone = "\ud800" if draw.random() < 0.01 else ""
    return "".join(draw.choices(_LETTERS, k=draw.randrange(most))) + lone


def _integer(draw: random.Random) -> int:
    beyond = draw.random() < 0.1
    return draw.choice(
        (2**63, 2**64, -1, -(2**63) - 1) if beyond else (0, 1, 127, 128, 2**31, 2**62, 2**63 - 1)
    )


def _bytes(draw: random.Random, most: int = 40) -> bytes:
    return draw.randbytes(draw.randrange(most))


def _one_record(draw: random.Random) -> Any:
    from vault.audit.record import AttributeEntry, Record

    bases = tuple(_text(draw) for _ in range(draw.randrange(3)))
    entries = {_text(draw): AttributeEntry(_text(draw), _text(draw), bases, _text(draw)) for _ in range(3)}
    return Record(
        *("x" + _text(draw),), _integer(draw), *(_text(draw) or "y" for _ in range(6)),
        purpose=_text(draw), attributes=draw.choice(({}, entries)), require_all=draw.choice((None, 0, 1)),
        consents=bases, detail=draw.choice(({}, {_text(draw): _integer(draw), "a": _text(draw)})),
    )  # fmt: skip


def _record(draw: random.Random) -> bytes:
    from vault.audit.record import encode

    return encode(_one_record(draw))


def _parsed(draw: random.Random) -> Any:
    from vault.audit.record import encode, parse

    entry = bytearray(encode(_one_record(draw)))
    if draw.random() < 0.7:
        entry[draw.randrange(len(entry))] = draw.randrange(256)
    return parse(bytes(entry))


def _envelope(draw: random.Random) -> Any:
    from vault.crypto.envelope import DataKey, dek_id_of, key_context
    from vault.domain.types import KeyScope, ValueScope

    class Drawn:
        def token(self, size: int) -> bytes:
            return draw.randbytes(size)

    key, plain = DataKey(draw.randbytes(32)), _bytes(draw)
    scope = ValueScope(_text(draw), _bytes(draw), _text(draw), _integer(draw), draw.randrange(9))
    context = key_context(KeyScope("t", scope.subject, _text(draw, 2)))
    sealed = key.seal(scope, plain, Drawn())
    changed = bytearray(sealed)
    changed[draw.randrange(len(sealed))] ^= draw.choice((0, 1))
    del changed[draw.choice((len(sealed), 20)) :]
    return context, sealed, dek_id_of(sealed), key.open(scope, sealed), key.open(scope, bytes(changed))


def _wire(draw: random.Random) -> Any:
    from vault.domain.types import Form, Reason, ValueType
    from vault.server.wire import ResponseWriter, batch_result, varint

    writer, kind = ResponseWriter(), draw.choice(list(ValueType))
    part = writer.given("name", draw.choice(list(Form)), kind)(_of(kind, draw), draw.getrandbits(20))
    parts = [part, writer.denied("other", draw.choice(list(Reason)))]
    answer = writer.finish(parts, "record", abs(_integer(draw)), "hash")
    return varint(_integer(draw)), writer.size(parts), batch_result(draw.randrange(300), answer)


def _of(kind: str, draw: random.Random) -> Any:
    """A value of the type more often than not."""
    number = _integer(draw)
    drawn: dict[str, Any] = {
        "int64": number, "timestamp": number % 2**57, "bool": number % 2 == 0, "bytes": _bytes(draw),
        "decimal": f"{number}.{draw.randrange(100):02d}", "json": '{"b":[1,null],"a":"€"}',
        "date": f"{draw.randrange(1, 9999):04d}-{draw.randrange(1, 14):02d}-{draw.randrange(1, 30):02d}",
        "double": draw.choice((0.0, -0.0, 1e300, float("nan"), draw.uniform(-1e6, 1e6))),
    }  # fmt: skip
    return draw.choice((*[drawn.get(kind, "".join(draw.choices("abcd@.", k=8)))] * 4, _text(draw), number))


def _merkle(draw: random.Random) -> Any:
    from vault.audit.merkle import (
        consistency_proof,
        inclusion_proof,
        leaf_hash,
        perfect_root,
        root,
        verify_consistency,
        verify_inclusion,
    )

    leaves = [leaf_hash(draw.randbytes(3)) for _ in range(draw.randrange(1, 700))]

    def tiles(level: int, index: int) -> bytes:
        hashes = leaves if level == 0 else [
            perfect_root(b"".join(leaves[at : at + 256])) for at in range(0, len(leaves) // 256 * 256, 256)
        ]  # fmt: skip
        return b"".join(hashes[index * 256 : (index + 1) * 256])

    size = len(leaves)
    index, old = draw.randrange(size), draw.randrange(size + 1)
    whole, proof = root(size, tiles), inclusion_proof(index, size, tiles)
    growth = consistency_proof(old, size, tiles)
    verify_consistency(old, root(old, tiles), size, whole, growth)
    wrong = draw.random() < 0.3
    verify_inclusion(leaves[index], 0 if wrong else index, size, proof[wrong:], whole)
    return whole, proof, growth


def _declared(draw: random.Random) -> Any:
    from vault.domain.types import Attribute, ValueType

    return Attribute("x", draw.choice(list(ValueType)), 1, "pd:X", "contact", (), scale=draw.randrange(3))


def _value(draw: random.Random) -> Any:
    from vault.domain.values import decode_value, encode_value

    attribute = _declared(draw)
    stored = encode_value(attribute, _of(attribute.type, draw))
    return stored, decode_value(attribute.type, draw.choice((stored, stored, _bytes(draw, 10))))


def _form(draw: random.Random) -> Any:
    from vault.domain.types import Form, FormSpec
    from vault.policy.forms import apply_form

    parameters: tuple[dict[str, Any], ...] = (
        {"style": "email"}, {"keep_first": draw.randrange(5), "keep_last": draw.randrange(5), "with": "*"},
        {"bands": ("-5", "0", "10.5")}, {"width": draw.choice(("10", "0.25"))}, {"prefix": draw.randrange(5)},
        {"to": draw.choice(("year", "decade", "month"))}, {"groups": {"a": ("abcd",)}, "other": "rest"}, {},
    )  # fmt: skip
    attribute = _declared(draw)
    spec = FormSpec(draw.choice(list(Form)), draw.choice(parameters))
    return apply_form(attribute, spec, _of(attribute.type, draw), lambda stored: b"p" + stored)


def _bases(draw: random.Random) -> Any:
    from tests.support.consent import EMAIL, INCOME, tree
    from vault.consent.bases import effective
    from vault.domain.types import ConsentEntry, ConsentState, Subject

    purposes = tree()

    def entry(seq: int) -> ConsentEntry:
        state = draw.choice(list(ConsentState))
        covered = frozenset(draw.sample((EMAIL, INCOME), draw.randrange(3)))
        until = draw.choice((0, 1_000, 3_000))
        where, version = draw.choice(list(purposes)), draw.randrange(4)
        return ConsentEntry(where, state.lane, seq, f"e{seq}", state, version, until, covered, "offers")

    jurisdictions = draw.choice(((), ("EU",), ("US-CA",), ("EU", "GB"), ("XX",)))
    subject = Subject(b"s", "p", jurisdictions, draw.choice((0, 0, 3)))
    leaf = draw.choice((*purposes, "nothing"))
    held = effective(purposes, subject, [entry(seq) for seq in range(draw.randrange(7))], leaf, 2_000)
    reasons = [
        held.reason(category, sorted({"consent", "contract", "opt-out"})) for category in (EMAIL, INCOME)
    ]
    declared, consent, scope, *rest = held.same
    return (
        held.events,
        sorted(declared),
        consent,
        sorted(scope),
        rest,
        sorted(held.for_category(EMAIL)),
        reasons,
    )


def _decision(draw: random.Random) -> Any:
    from tests.support.policy import example_bundle
    from vault.domain.types import Form
    from vault.policy.engine import CompiledEngine

    engine = CompiledEngine(example_bundle())
    caller, purpose = draw.choice(("engine", "fraud", "nobody")), draw.choice(("personalised-offers", "none"))
    bases = frozenset(draw.sample(("consent", "contract", "opt-out", "any"), draw.randrange(4)))
    decision = engine.decide(caller, purpose, draw.choice(_NAMES), bases, draw.choice((None, *Form)))
    told = decision.form, decision.reason, decision.rule, decision.rules, sorted(decision.wanted)
    return (
        told,
        engine.permits(caller, purpose, "email", "read.mask", bases),
        engine.act(caller, "audit.read"),
    )


if __name__ == "__main__":
    if "--sources" in sys.argv:
        sys.meta_path.insert(0, Sources())
    import vault.disclosure

    sys.stdout.write(f"{vault.disclosure.__file__}\n")
    for line in answers(int(sys.argv[1]), int(sys.argv[2])):
        sys.stdout.write(ascii(line) + "\n")
