"""Services that tests share: one per process of the test run. Whoever disturbs one starts its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import RunningService, policies_copy
from tests.support.transit_server import transit_server

__all__ = ["transit_server"]

MORE_ATTRIBUTES = """\
  # Of types, and of a size, that the bank has no use for.
  counter: {type: int64, category: pd:Preference, key_class: behaviour, forms: [clear, exists]}
  sensor-reading: {type: double, category: pd:Preference, key_class: behaviour, forms: [clear, exists]}
  long-note: {type: string, category: pd:Communication, key_class: behaviour, forms: [clear, exists]}
"""
OTHER_TENANT = """\
  other-bank-auditor:
    tenant: private
    description: "Audit of another bank in the same house"
    identities: [{spiffe: "spiffe://bank.example/other-bank-auditor"}]
  other-bank-importer:
    tenant: private
    description: "Loads customers of another bank"
    identities: [{spiffe: "spiffe://bank.example/other-bank-importer"}]
  throttled:
    tenant: retail
    description: "Has used up its hour after two customers"
    identities: [{spiffe: "spiffe://bank.example/throttled"}]
    quotas: {subjects_per_hour: {fraud-detection: 2}}
"""
OTHER_ROLES = """\
g, other-bank-auditor, auditing
g, other-bank-importer, loading
g, throttled, fraud-analysis
"""


@pytest.fixture(scope="session")
def test_policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's policies, with a double, a large text, a second tenant and a caller of small quota."""
    return policies_copy(
        tmp_path_factory.mktemp("policies") / "policies",
        {
            "attributes.yaml": lambda text: text + MORE_ATTRIBUTES,
            "callers.yaml": lambda text: text + OTHER_TENANT,
            "policy.csv": lambda text: text + OTHER_ROLES,
        },
    )


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, test_policies: Path) -> Iterator[RunningService]:
    """A service that tests read and write side by side, each its own customers."""
    folder = tmp_path_factory.mktemp("service")
    with RunningService.start(folder, policies=test_policies, jwt=True) as running:
        yield running


@pytest.fixture(scope="session")
def casbin_service(tmp_path_factory: pytest.TempPathFactory, test_policies: Path) -> Iterator[RunningService]:
    """The same, with Casbin itself deciding."""
    folder = tmp_path_factory.mktemp("casbin")
    with RunningService.start(folder, policies=test_policies, engine="casbin") as running:
        yield running


@pytest.fixture(params=["compiled", "casbin"])
def either(request: pytest.FixtureRequest) -> RunningService:
    """Each engine in turn: what is tested holds for both."""
    name = "service" if request.param == "compiled" else "casbin_service"
    running: RunningService = request.getfixturevalue(name)
    return running
