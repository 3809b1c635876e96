"""Signing with named versions of the log key, at one provider or, while keys move, at two."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.support.crypto import ObservedProvider, local_provider
from vault.crypto.names import LOG
from vault.crypto.signer import ProviderLogSigners
from vault.domain.errors import KeysUnavailableError


class Elsewhere(ObservedProvider):
    """A second provider."""

    name = "transit"


def test_each_version_signs_with_its_own_key(tmp_path: Path) -> None:
    """A signer of a version keeps to it, whatever is made at the provider meanwhile."""
    provider = local_provider(tmp_path)
    signers = ProviderLogSigners(provider)
    first = signers.signer("local", 1)
    assert provider.rotate(LOG) == 2
    second = signers.signer("local", 2)
    for signer in (first, second):
        Ed25519PublicKey.from_public_bytes(signer.public_key()).verify(signer.sign(b"m"), b"m")
    assert first.public_key() != second.public_key()
    assert signers.newest().raw == second.public_key()
    assert [key.raw for key in signers.versions()] == [first.public_key(), second.public_key()]


def test_retired_versions_are_not_offered(tmp_path: Path) -> None:
    """What the provider no longer signs with is no key to trust by it."""
    provider = local_provider(tmp_path)
    provider.rotate(LOG)
    provider.retire(LOG, 2)
    assert [key.version for key in ProviderLogSigners(provider).versions()] == [2]


def test_keys_of_two_providers_are_told_apart(tmp_path: Path) -> None:
    """While keys move both sign; the first one's key begins new logs."""
    (tmp_path / "b").mkdir()
    source, target = local_provider(tmp_path), Elsewhere(local_provider(tmp_path / "b"))
    signers = ProviderLogSigners(source, target)
    assert signers.providers == ("local", "transit")
    assert signers.signer("local", 1).public_key() == source.public_key(LOG).raw
    assert signers.signer("transit", 1).public_key() == target.public_key(LOG).raw
    assert signers.newest() == source.public_key(LOG)


def test_provider_that_is_not_at_hand_signs_nothing(tmp_path: Path) -> None:
    """The log key of another provider is named as such."""
    with pytest.raises(KeysUnavailableError, match="another key provider"):
        ProviderLogSigners(local_provider(tmp_path)).signer("transit", 1)
