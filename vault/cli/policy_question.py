"""Refuses a question of `policy explain` that is misspelt: its answer would be a plain "not permitted"."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import click

from vault.domain.faults import did_you_mean
from vault.domain.types import ANY_BASIS, OPERATION_BASIS, Basis

if TYPE_CHECKING:
    from vault.policy.bundle import Bundle


def check_bases(bases: Iterable[str]) -> None:
    """Raises: click.UsageError: one of them is no legal basis."""
    known = {basis.value for basis in Basis} - {ANY_BASIS, OPERATION_BASIS}
    for basis in bases:
        _require(basis, known, "--basis", "a legal basis: one of " + ", ".join(sorted(known)))


def check_question(bundle: "Bundle", caller: str, purpose: str, attributes: Iterable[str]) -> None:
    """Raises: click.UsageError: the policies do not know a name. A purpose may have others below it."""
    _require(caller, bundle.callers, "CALLER", "a caller of callers.yaml")
    _require(purpose, bundle.purposes, "PURPOSE", "a purpose of purposes.yaml")
    for attribute in attributes:
        _require(attribute, bundle.attributes, "ATTRIBUTES", "an attribute of attributes.yaml")


def _require(word: str, known: Collection[str], place: str, expected: str) -> None:
    if word not in known:
        raise click.UsageError(f"{place}: {word!r} is not {expected}{did_you_mean(word, known)}")
