"""The bearer token in a call's metadata."""

import pytest

from vault.domain.errors import UnauthenticatedError
from vault.identity.bearer import bearer_token


@pytest.mark.parametrize(
    "value", ["Bearer abc.DEF-1._~+/x==", "bearer  abc.DEF-1._~+/x==", "BEARER abc.DEF-1._~+/x=="]
)
def test_the_token_is_what_follows_the_scheme(value: str) -> None:
    """The scheme's case and number of spaces do not matter; the token is taken as it is."""
    assert bearer_token([("user-agent", "x"), ("authorization", value)]) == "abc.DEF-1._~+/x=="


@pytest.mark.parametrize(
    ("metadata", "check"),
    [
        ([], "no authorization"),
        ([("x-authorization", "Bearer abc")], "no authorization"),
        ([("authorization", "Bearer abc"), ("authorization", "Bearer abc")], "more than one"),
        ([("authorization", "Bearer abc"), ("Authorization", "Bearer def")], "more than one"),
        ([("authorization", "")], "not of the form"),
        ([("authorization", "Bearer")], "not of the form"),
        ([("authorization", "Bearer ")], "not of the form"),
        ([("authorization", "abc")], "not of the form"),
        ([("authorization", "Basic abc")], "not of the form"),
        ([("authorization", "Bearer a b")], "not of the form"),
        ([("authorization", "Bearer a\n")], "not of the form"),
        ([("authorization", "Bearer a=b")], "not of the form"),
        ([("authorization", "Bearer \u0430")], "not of the form"),
        ([("authorization", b"Bearer abc")], "not of the form"),
        ([("authorization", "Bearer " + "a" * 8_193)], "too long"),
    ],
)
def test_anything_but_one_bearer_token_is_refused(
    metadata: list[tuple[str, str | bytes]], check: str
) -> None:
    """No token, two tokens, another scheme and malformed or oversized text are unauthenticated."""
    with pytest.raises(UnauthenticatedError, match=check):
        bearer_token(metadata)


def test_the_longest_token_is_accepted() -> None:
    """A token of exactly 8,192 characters passes."""
    assert len(bearer_token([("authorization", "Bearer " + "a" * 8_192)])) == 8_192
