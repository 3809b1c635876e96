"""Lookup and pseudonym keys: made once, bound to their tenant, each use apart from the others."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.crypto import SUBJECT, MemoryTenantKeys, ObservedProvider, local_provider
from vault.crypto.encoding import lp
from vault.crypto.envelope import DataKey
from vault.crypto.lookup_keys import LookupKey
from vault.crypto.tenant_keys import TenantKeys
from vault.domain.errors import IntegrityError, InvalidArgumentError, KeysUnavailableError
from vault.domain.protocols import WrapItem
from vault.domain.system import SystemRandomness
from vault.domain.types import ValueScope

LOOKUP = LookupKey("retail", 1, bytes(range(32)))


@pytest.fixture
def provider(tmp_path: Path) -> ObservedProvider:
    return ObservedProvider(local_provider(tmp_path))


@pytest.fixture
def repository() -> MemoryTenantKeys:
    return MemoryTenantKeys()


@pytest.fixture
def keys(provider: ObservedProvider, repository: MemoryTenantKeys) -> TenantKeys:
    return TenantKeys(provider, repository, SystemRandomness())


@pytest.fixture
def replica(provider: ObservedProvider, repository: MemoryTenantKeys) -> TenantKeys:
    """Another process on the same table."""
    return TenantKeys(provider, repository, SystemRandomness())


def test_two_replicas_find_a_customer_by_the_same_mac(keys: TenantKeys, replica: TenantKeys) -> None:
    """The first use makes the key, later uses anywhere read it."""
    assert keys.lookup("retail").mac("4711") == replica.lookup("retail").mac("4711")
    assert keys.lookup("retail").version == 1


def test_a_lookup_key_is_loaded_once(keys: TenantKeys, repository: MemoryTenantKeys) -> None:
    """It stays in memory for the life of the process."""
    assert keys.lookup("retail") is keys.lookup("retail")
    assert repository.loads == 1


def test_threads_that_ask_together_get_one_key(keys: TenantKeys, provider: ObservedProvider) -> None:
    """A first use by many makes one key."""
    with ThreadPoolExecutor(8) as pool:
        found = {id(key) for key in pool.map(keys.lookup, ["retail"] * 8)}
    assert len(found) == 1
    assert provider.wraps == [("datavault-lookup", 1)]


def test_the_row_in_the_table_wins_a_race(
    keys: TenantKeys, repository: MemoryTenantKeys, provider: ObservedProvider
) -> None:
    """When a replica inserts first, its key serves here too."""
    [repository.rival] = provider.wrap("datavault-lookup", [WrapItem(bytes(32), lp(b"retail", b"lookup"))])
    assert keys.lookup("retail").mac("4711") == LookupKey("retail", 1, bytes(32)).mac("4711")


def test_the_newest_version_serves(
    keys: TenantKeys, repository: MemoryTenantKeys, provider: ObservedProvider
) -> None:
    """Of several rows the last is the lookup key."""
    context = lp(b"retail", b"lookup")
    wrapped = provider.wrap("datavault-lookup", [WrapItem(bytes([n]) * 32, context) for n in (1, 2)])
    repository.rows[("retail", "lookup")] = {1: wrapped[0], 2: wrapped[1]}
    assert keys.lookup("retail").version == 2
    assert keys.lookup("retail").mac("4711") == LookupKey("retail", 2, b"\x02" * 32).mac("4711")


def test_a_key_copied_from_another_tenant_is_refused(keys: TenantKeys, repository: MemoryTenantKeys) -> None:
    """The wrapped key is bound to its tenant."""
    keys.lookup("retail")
    repository.rows[("private", "lookup")] = repository.rows[("retail", "lookup")]
    with pytest.raises(IntegrityError):
        keys.lookup("private")


def test_a_key_copied_from_another_use_is_refused(keys: TenantKeys, repository: MemoryTenantKeys) -> None:
    """A lookup key does not serve as a pseudonym root."""
    keys.lookup("retail")
    repository.rows[("retail", "pseudonym")] = repository.rows[("retail", "lookup")]
    with pytest.raises(IntegrityError):
        keys.pseudonym_key("retail", "analytics", "email", None)


def test_a_short_key_is_refused(
    keys: TenantKeys, repository: MemoryTenantKeys, provider: ObservedProvider
) -> None:
    """What opens and is not 32 bytes long is no key."""
    [short] = provider.wrap("datavault-lookup", [WrapItem(b"short", lp(b"retail", b"lookup"))])
    repository.rows[("retail", "lookup")] = {1: short}
    with pytest.raises(IntegrityError):
        keys.lookup("retail")


def test_an_unavailable_provider_is_asked_again_later(keys: TenantKeys, provider: ObservedProvider) -> None:
    """A failed first use leaves nothing behind."""
    provider.failing["datavault-lookup"] = KeysUnavailableError("down")
    with pytest.raises(KeysUnavailableError):
        keys.lookup("retail")
    provider.failing.clear()
    assert keys.lookup("retail").version == 1


def test_macs_differ_by_tenant_and_number() -> None:
    """Neither another tenant with the same key nor a shifted boundary gives the same mac."""
    macs = {
        LookupKey(tenant, 1, bytes(32)).mac(number)
        for tenant, number in [("a", "bc"), ("ab", "c"), ("a", "bd"), ("", "abc")]
    }
    assert len(macs) == 4
    assert {len(mac) for mac in macs} == {32}


def test_a_fingerprint_is_not_a_mac() -> None:
    """The two uses of a lookup key have keys of their own."""
    assert LOOKUP.fingerprint(lp(b"retail", b"4711")) != LOOKUP.mac("4711")


def test_a_customer_number_opens_for_its_subject_alone() -> None:
    """A number copied to another subject's row is refused."""
    envelope = LOOKUP.seal_number(SUBJECT, "4711-ß", SystemRandomness())
    assert LOOKUP.open_number(SUBJECT, envelope) == "4711-ß"
    with pytest.raises(IntegrityError):
        LOOKUP.open_number(bytes(16), envelope)


def test_a_customer_number_is_no_value_of_a_field() -> None:
    """The reserved attribute's key is apart from every DEK."""
    envelope = LOOKUP.seal_number(SUBJECT, "4711", SystemRandomness())
    with pytest.raises(IntegrityError):
        DataKey(bytes(range(32))).open(ValueScope("retail", SUBJECT, "$customer-number", 1, 1), envelope)


@pytest.mark.parametrize("use", ["mac", "seal"])
def test_a_number_that_is_no_text_is_a_domain_error_without_it(use: str) -> None:
    """The codec's error, which would show the number, does not get out."""
    number = "4711\ud800"
    with pytest.raises(InvalidArgumentError) as caught:
        LOOKUP.mac(number) if use == "mac" else LOOKUP.seal_number(SUBJECT, number, SystemRandomness())
    assert "4711" not in str(caught.value)


def test_pseudonyms_are_stable_over_replicas(keys: TenantKeys, replica: TenantKeys) -> None:
    """The same caller sees the same pseudonym of a value everywhere, 32 bytes long."""
    one = keys.pseudonym_key("retail", "analytics", "email", None).pseudonym(b"anna@bank.example")
    two = replica.pseudonym_key("retail", "analytics", "email", None).pseudonym(b"anna@bank.example")
    assert one == two
    assert len(one) == 32


def test_pseudonyms_differ_by_tenant_caller_attribute_and_purpose(keys: TenantKeys) -> None:
    """No two of them can be joined, nor any with a boundary shifted."""
    scopes = [
        ("retail", "analytics", "email", None),
        ("private", "analytics", "email", None),
        ("retail", "marketing", "email", None),
        ("retail", "analytics", "phone", None),
        ("retail", "analytics", "email", "reporting"),
        ("retail", "analyticse", "mail", None),
        ("retail", "analytics", "email", ""),
    ]
    pseudonyms = {keys.pseudonym_key(*scope).pseudonym(b"value") for scope in scopes}
    assert len(pseudonyms) == len(scopes)


def test_a_pseudonym_root_is_unwrapped_once(keys: TenantKeys, provider: ObservedProvider) -> None:
    """All pseudonym keys of a tenant come of one root."""
    for attribute in ("email", "phone", "email"):
        keys.pseudonym_key("retail", "analytics", attribute, None)
    assert provider.unwraps == [("datavault-pseudonym", 1)]


def test_tenant_keys_show_nothing(keys: TenantKeys) -> None:
    """Neither repr nor pickle gives key bytes away."""
    for key in (keys.lookup("retail"), keys.pseudonym_key("retail", "analytics", "email", None)):
        assert repr(key) == f"<{type(key).__name__}>"
        with pytest.raises(TypeError):
            pickle.dumps(key)
