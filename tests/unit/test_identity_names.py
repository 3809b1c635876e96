"""SPIFFE ids and DNS names as certificates may carry them."""

import pytest

from vault.identity.names import is_dns_name, is_spiffe_id

LONGEST = "spiffe://bank.example/" + "a" * (2_048 - len("spiffe://bank.example/"))


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://bank.example/engine",
        "spiffe://td/a/b/c",
        "spiffe://t_d-1.x/A.b-c_9",
        LONGEST,
        "spiffe://d/...",
    ],
)
def test_a_workload_id_is_valid(uri: str) -> None:
    """Ids that the SPIFFE specification allows for workloads are accepted."""
    assert is_spiffe_id(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://bank.example",
        "spiffe://bank.example/",
        "spiffe://bank.example/engine/",
        "spiffe://bank.example//engine",
        "spiffe://bank.example/./engine",
        "spiffe://bank.example/../engine",
        "spiffe://bank.example/a/..",
        "spiffe:///engine",
        "SPIFFE://bank.example/engine",
        "spiffe://Bank.example/engine",
        "spiffe://bank.example:443/engine",
        "spiffe://user@bank.example/engine",
        "spiffe://bank.example/engine?x=1",
        "spiffe://bank.example/engine#x",
        "spiffe://bank.example/%65ngine",
        "spiffe://bank.example/engin\u0435",
        "spiffe://bank.example/engine\n",
        " spiffe://bank.example/engine",
        "https://bank.example/engine",
        "spiffe://" + "a" * 256 + "/engine",
        LONGEST + "a",
    ],
)
def test_anything_else_is_no_workload_id(uri: str) -> None:
    """Every part the specification forbids makes the id invalid."""
    assert not is_spiffe_id(uri)


@pytest.mark.parametrize("name", ["localhost", "a.b", "engine-2.bank.example", "my_service", "a" * 63, "0.x"])
def test_a_host_name_is_valid(name: str) -> None:
    """Lower-case host names are accepted, single labels too."""
    assert is_dns_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "A",
        "*.bank.example",
        "a b",
        "a\x00b",
        "é",
        "a" * 64,
        "a." * 126 + "ab",
    ],
)
def test_anything_else_is_no_host_name(name: str) -> None:
    """Wildcards, upper case, empty labels, control characters and overlong names are refused."""
    assert not is_dns_name(name)
