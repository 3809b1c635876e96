"""What rules cost: decisions, loading, memory and start at 10, 1,000 and 10,000 of them.

The smallest have the first of the bank's own rules (policies/); the others have all of them, and as many more
as are missing, drawn from its roles, purposes, attributes, forms and legal bases. Each size is measured in a
process of its own: `python -m bench.scale_rules RULES`. Loading and compiling are CPU time.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.measuring import MEBIBYTE, rss_bytes
from tests.support.service import POLICIES, RunningService, policies_copy
from vault.domain.types import ANY_BASIS, OPERATION_BASIS, Basis
from vault.policy.bundle import Bundle, bundle_from_files
from vault.policy.engine import CompiledEngine
from vault.policy.files import read_folder
from vault.policy.rules import POLICY_FILE

SIZES: Final = (10, 1_000, 10_000)
QUESTIONS: Final = 512
_REPEATED: Final = 200
_TIMED: Final = 64
_BASES: Final = tuple(basis.value for basis in Basis if basis.value not in (ANY_BASIS, OPERATION_BASIS))

Question = tuple[str, str, str, frozenset[str]]


def policy_text(files: Mapping[str, bytes], rules: int) -> bytes:
    """`policy.csv` with so many rules: the bank's and drawn ones, or the first where they are fewer."""
    bank = bundle_from_files(files)
    missing = rules - len(bank.rules)
    if missing < 0:
        kept = {rule.id for rule in bank.rules[:rules]}
        lines = files[POLICY_FILE].decode().splitlines()
        return "\n".join(line for line in lines if not line.startswith("p,") or _id(line) in kept).encode()
    draw = random.Random(3)  # noqa: S311  no secret
    roles, leaves = sorted(bank.roles), sorted(one.id for one in bank.purposes.values() if one.leaf)
    rows = []
    for number in range(missing):
        name = draw.choice(sorted(bank.attributes))
        form = draw.choice(bank.attributes[name].forms).form
        fields = (draw.choice(roles), draw.choice(leaves), name, form.act, draw.choice(_BASES))
        rows.append(f"p, drawn-{number}, {', '.join(fields)}, allow\n")
    return files[POLICY_FILE] + b"\n" + "".join(rows).encode()


def policy_files(rules: int) -> dict[str, bytes]:
    """A whole folder, without the bank's tests, which speak of its own rules, and justifications likewise."""
    files = read_folder(POLICIES)
    kept = {path: content for path, content in files.items() if not path.startswith("tests/")}
    return {**kept, POLICY_FILE: policy_text(files, rules), "justifications.yaml": b"{}\n"}


def scale_rules(folder: Path, say: Callable[[str], None]) -> list[dict[str, float]]:
    """A row for each size."""
    rows = []
    for size in SIZES:
        done = subprocess.run(
            [sys.executable, "-m", "bench.scale_rules", str(size)], stdout=subprocess.PIPE, check=True
        )
        rows.append(json.loads(done.stdout) | _start(folder / f"rules-{size}", size))
        say(f"{size:,} rules: {rows[-1]}")
    return rows


def _start(folder: Path, rules: int) -> dict[str, float]:
    """Seconds until a service with these policies serves, and what its process holds."""
    files = policy_files(rules)
    folder.mkdir()
    policies = policies_copy(folder / "policies")
    for path in [one for one in policies.rglob("*") if one.is_file()]:
        if path.relative_to(policies).as_posix() not in files:
            path.unlink()
    for name, content in files.items():
        (policies / name).write_bytes(content)
    began = time.monotonic()
    with RunningService.start(folder, policies=policies) as service:
        return {
            "start_seconds": round(time.monotonic() - began, 2),
            "service_mebibytes": round(rss_bytes(service.process.pid) / MEBIBYTE, 1),
        }


def _measure(rules: int) -> dict[str, float]:
    files = policy_files(rules)
    _engine(read_folder(POLICIES))  # what is imported and cached once does not count
    before = rss_bytes()
    began = time.process_time()
    bundle = bundle_from_files(files)
    read = time.process_time()
    engine = CompiledEngine(bundle)
    compiled = time.process_time()
    after = rss_bytes()
    asked = _questions(bundle)
    return {
        "rules": len(bundle.rules),
        "load_milliseconds": round((read - began) * 1e3, 1),
        "compile_milliseconds": round((compiled - read) * 1e3, 1),
        "bytes_per_rule": round((after - before) / rules),
        "decide_again_us": _each(lambda one: engine.decide(*one, None), asked),
        "decide_first_us": _each(lambda one: engine.decide_once(*one, None), asked),
    }


def _engine(files: Mapping[str, bytes]) -> CompiledEngine:
    return CompiledEngine(bundle_from_files(files))


def _questions(bundle: Bundle) -> list[Question]:
    draw = random.Random(5)  # noqa: S311  no secret
    callers, names = sorted(bundle.callers), sorted(bundle.attributes)
    leaves = sorted(one.id for one in bundle.purposes.values() if one.leaf)
    return [
        (
            draw.choice(callers), draw.choice(leaves), draw.choice(names),
            frozenset(draw.sample(_BASES, draw.randint(0, 2))),
        )
        for _ in range(QUESTIONS)
    ]  # fmt: skip


def _each(ask: Callable[[Question], Any], asked: Sequence[Question]) -> float:
    """Microseconds: the median over questions of the mean of repetitions, the loop included."""
    return round(median(_mean(ask, question) for question in asked[:_TIMED]) * 1e6, 3)


def _mean(ask: Callable[[Question], Any], question: Question) -> float:
    ask(question)
    began = time.perf_counter()
    for _ in range(_REPEATED):
        ask(question)
    return (time.perf_counter() - began) / _REPEATED


def _id(line: str) -> str:
    return line.split(",")[1].strip()


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
