"""The name of a bundle is fixed: other tools compute it too."""

import hashlib

from tests.support.policy import example_bundle, example_files
from vault.policy.files import bundle_hash

EXAMPLE_HASH = "cf432b8bce9cf0addb8ce668d20f78aaa8ea9245a3680426456ef902befc1c3d"


def test_the_hash_of_the_example_never_changes() -> None:
    """A golden value: a change of the hash rule would rename every bundle that ever served."""
    assert example_bundle().hash == EXAMPLE_HASH


def test_the_hash_is_what_a_shell_computes() -> None:
    """`sha256sum` of each file, `sort`, `sha256sum`: sorted lines of digest, two spaces, path."""
    files = {"b": b"1", "a/c": b"2", "tests/t.yaml": b"3"}
    lines = sorted(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in ("a/c", "b"))
    assert bundle_hash(files) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_order_of_the_files_does_not_matter() -> None:
    """A folder has no order."""
    files = example_files()
    assert bundle_hash(dict(reversed(files.items()))) == EXAMPLE_HASH
