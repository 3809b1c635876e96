"""The compiled build: who uses it, and what compiled code may not do (docs/adr/0027).

`make test-compiled` runs this on it, `make test` on the Python sources.
"""

import ast
import importlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import vault
from tests.support.deployment import script
from tests.support.pipelines import House, open_house
from tests.support.service import REPOSITORY
from vault.audit.merkle import leaf_hash
from vault.audit.record import Record, encode
from vault.build import BUILD
from vault.crypto.encoding import lp, owner_binding
from vault.crypto.envelope import DataKey
from vault.domain.errors import IntegrityError
from vault.domain.types import Attribute, ValueType
from vault.domain.values import decode_value, encode_value
from vault.reads import Attempt
from vault.server.wire import ResponseWriter, varint

SETUP = script(REPOSITORY / "setup.py")
SOURCES: list[Path] = [REPOSITORY / path for path in SETUP.COMPILED]
MODULES = [path.removesuffix(".py").replace("/", ".") for path in SETUP.COMPILED]
CANARY = "canary-4711"


def native_classes() -> Iterator[type]:
    """Classes that mypyc compiled."""
    for name in MODULES:
        for found in vars(importlib.import_module(name)).values():
            own = isinstance(found, type) and found.__module__ == name and "__mypyc_attrs__" in vars(found)
            # nothing is made of a protocol
            if own and not getattr(found, "_is_protocol", False):
                yield found


def run(*arguments: str, folder: Path) -> str:
    """What a process says that is started as tests and benchmarks start theirs."""
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_this_build_is_that_of_the_tree_that_the_tests_stand_in() -> None:
    """build/compiled is compiled, and a checkout is not; vault is never that of another tree."""
    expected = "compiled" if REPOSITORY.parts[-2:] == ("build", "compiled") else "python"
    assert expected == BUILD
    assert Path(vault.__file__) == REPOSITORY / "vault" / "__init__.py"


@pytest.mark.parametrize("name", MODULES)
def test_all_of_the_read_path_is_compiled_or_nothing(name: str) -> None:
    """BUILD tells of every module on the list of setup.py."""
    origin = importlib.import_module(name).__file__ or ""
    assert origin.endswith(tuple(EXTENSION_SUFFIXES)) == (BUILD == "compiled")


def test_processes_that_tests_start_use_the_build_of_the_tests(tmp_path: Path) -> None:
    """From another folder too, by module or by the installed command."""
    told = run(sys.executable, "-c", "from vault.build import BUILD; print(BUILD)", folder=tmp_path)
    assert told == BUILD
    commands = ([sys.executable, "-m", "vault.cli"], [str(Path(sys.executable).with_name("datavault"))])
    for command in commands:
        assert run(*command, "--version", folder=tmp_path).endswith(f"(build: {BUILD})")


def without_compiler(*arguments: str, compile_it: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository on a machine that has none."""
    environment = os.environ | {"CC": "no-such-compiler"} | ({"DATAVAULT_COMPILE": "1"} if compile_it else {})
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_a_compiler_a_compiled_build_fails_with_one_line() -> None:
    """Which says what is missing; so does the tree for tests and benchmarks."""
    for done in (
        without_compiler("setup.py", "--version", compile_it=True),
        without_compiler("compiled_tree.py"),
    ):
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "no C compiler (no-such-compiler)" in done.stderr


def test_without_a_compiler_the_python_sources_are_built_and_measured() -> None:
    """Nobody needs one who does not ask for it; a benchmark says which build it measures."""
    assert without_compiler("setup.py", "--version").stdout.strip() == vault.__version__
    told = without_compiler("compiled_tree.py", "auto", "-c", "print('ran')").stdout.splitlines()
    assert told == ["the Python build, since there is no C compiler (no-such-compiler)", "ran"]


def test_no_object_of_a_compiled_class_can_be_referred_to_weakly() -> None:
    """mypyc forgets to clear such references when the object goes, and the next use of one ends the process.
    A compiled class has room for them when it has a base class that is not compiled."""
    assert [found.__name__ for found in native_classes() if found.__weakrefoffset__] == []


def test_compiled_classes_are_there_to_be_looked_at() -> None:
    """The test above looks at something where it should."""
    assert bool(list(native_classes())) == (BUILD == "compiled")


@pytest.mark.parametrize("path", SOURCES, ids=[path.stem for path in SOURCES])
def test_an_error_is_raised_from_none_by_unchained_alone(path: Path) -> None:
    """mypyc leaves out what stands behind `from`: the error under way would be shown, and a value in it."""
    raised = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Raise)]
    chained = [node for node in raised if node.cause is not None]
    assert [ast.unparse(node) for node in chained if not is_unchained(node)] == []


def is_unchained(node: ast.Raise) -> bool:
    return ast.unparse(node).startswith("raise unchained(") and ast.unparse(node).endswith(" from None")


def test_what_unchained_raises_shows_nothing_of_the_error_under_way() -> None:
    """A date that is none is quoted by the error that says so, and that error is not shown."""
    attribute = Attribute("x", ValueType.DATE, 1, "pd:X", "contact", ())
    with pytest.raises(ValueError, match="calendar date") as caught:
        encode_value(attribute, "1984-13-99")
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: DataKey(bytes(32)).open_at(CANARY, 1, 1, CANARY.encode()),  # type: ignore[arg-type]
        lambda: DataKey(bytes(32)).seal((CANARY,), b"", None),  # type: ignore[arg-type]
        lambda: decode_value(ValueType.STRING, CANARY),  # type: ignore[arg-type]
        lambda: lp(CANARY),  # type: ignore[arg-type]
        lambda: owner_binding(CANARY, CANARY),  # type: ignore[arg-type]
        lambda: leaf_hash(CANARY),  # type: ignore[arg-type]
        lambda: varint(CANARY),  # type: ignore[arg-type]
        lambda: ResponseWriter().finish([CANARY], "", 1, ""),  # type: ignore[list-item]
        lambda: encode(Record(CANARY, CANARY, *[""] * 6)),  # type: ignore[arg-type]
        lambda: Attempt(CANARY).read.purpose,  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_an_argument_of_another_type_is_refused_without_being_shown(call: Callable[[], Any]) -> None:
    """Compiled code checks types where Python code fails later, or never: its message names types alone."""
    with pytest.raises(Exception) as caught:
        call()
    assert CANARY not in str(caught.value)


def test_keys_are_neither_copied_nor_told_by_their_class() -> None:
    """A data key has the attributes of its class and no room for others."""
    key: Any = DataKey(bytes(32))
    assert not hasattr(key, "__dict__")
    with pytest.raises(AttributeError):
        key.note = "x"
    assert "__reduce_ex__" in {name for each in type(key).__mro__[:-1] for name in vars(each)}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.mark.parametrize("step", ["is_request_id", "Recorder.draft", "LogBook.of"])
def test_each_read_of_a_group_offers_the_interpreter_lock(house: House, step: str) -> None:
    """Before step 1, in step 4 and in step 5: compiled loops never offer it, calls of Python functions do.
    Without these the event loop would wait for a whole group of reads."""
    numbers = [f"c{number}" for number in range(20)]
    house.write_group([house.draft(number, {"email": "a@b.example"}) for number in numbers])
    group = [house.ask("fraud-detection", number, "fraud-detection", ["email"]) for number in numbers]
    house.read_group(group)
    calls = python_calls(lambda: house.pipelines.disclosure.disclose([Attempt(read) for read in group]))
    assert calls[step] >= len(group)


def python_calls(work: Callable[[], Any]) -> Counter[str]:
    """How often `work` calls each Python function: compiled ones are not seen."""
    calls: Counter[str] = Counter()

    def seen(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_a_compiled_function_says_where_its_source_is() -> None:
    """Tracebacks name files and lines of the Python sources, which stand beside what was compiled."""
    with pytest.raises(IntegrityError) as caught:
        DataKey(bytes(32)).open_at(b"", 1, 1, b"")
    place = caught.traceback[-1]
    source = (REPOSITORY / "vault" / "crypto" / "envelope.py").read_text("utf-8").splitlines()
    assert Path(place.path).name == "envelope.py"
    assert "raise IntegrityError" in source[place.lineno]
