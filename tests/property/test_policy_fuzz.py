"""Whatever lies in the files: a bundle, or a PolicyError with places inside the files."""

import json

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.policy import example_files
from vault.policy.bundle import bundle_from_files
from vault.policy.problems import PolicyError, PolicyProblem

PATHS = sorted(example_files())
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["consent", "email"]),
)


def loads_or_refuses(files: dict[str, bytes]) -> None:
    problems: tuple[PolicyProblem, ...] = ()
    try:
        bundle_from_files(files)
    except PolicyError as error:
        problems = error.errors or (PolicyProblem("", 0, 0, ""),)
    for problem in problems:
        assert problem.message
        assert problem.column >= 1
        assert 1 <= problem.line <= files.get(problem.path, b"").count(b"\n") + 1


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PATHS), st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(path: str, content: bytes) -> None:
    """No file content gets another exception out of the loader."""
    loads_or_refuses({**example_files(), path: content})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), st.data())
def test_a_damaged_file_loads_or_is_refused(path: str, data: st.DataObject) -> None:
    """A piece cut out, doubled, moved or replaced is told as a problem, or is a policy."""
    content = example_files()[path]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    middle = data.draw(
        st.one_of(st.binary(max_size=6), st.sampled_from([b"{", b"*", b"&", b"!", b"\t", b": ", b"- "]))
    )
    loads_or_refuses({**example_files(), path: content[:start] + middle + content[end:]})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([path for path in PATHS if path.endswith(".yaml")]), st.data())
def test_any_value_at_any_place_of_the_yaml_files_is_checked(path: str, data: st.DataObject) -> None:
    """Every scalar, list and mapping can be replaced by any other plain data."""
    tree = yaml.safe_load(example_files()[path])
    node, key = {"": tree}, ""
    while isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    node[key] = data.draw(
        st.recursive(
            LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner), max_leaves=5
        )
    )
    changed = tree if node is not tree or key else node[key]
    loads_or_refuses({**example_files(), path: json.dumps(changed).encode()})


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=20), max_size=4))
def test_arbitrary_file_names_are_refused(extra: dict[str, bytes]) -> None:
    """An unknown file is an error, however it is called."""
    loads_or_refuses({**example_files(), **extra})
