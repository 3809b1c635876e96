"""The Helm chart: what a cluster is given (tests/golden/chart), and its policies."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.compose import DEPLOY, REPOSITORY
from tests.support.deployment import RENDER, containers, pods, rendered, script, variables
from vault.policy.bundle import load_bundle
from vault.policy.problems import PolicyError
from vault.server.listening import ALIVE

SERVER = "Deployment/datavault"


def test_the_rendered_chart_is_that_of_the_templates() -> None:
    """A change of the chart is rendered anew before it is judged: `make chart`."""
    assert RENDER.RENDERED.read_text("utf-8").startswith(RENDER.heading())


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on PATH: make helm")
def test_helm_renders_what_is_kept() -> None:
    """The golden text was not edited by hand."""
    assert RENDER.render(str(shutil.which("helm"))) == RENDER.RENDERED.read_text("utf-8")


@pytest.mark.parametrize("pod", pods().values(), ids=pods().keys())
def test_a_pod_is_nobody(pod: dict[str, Any]) -> None:
    """Without root, capabilities, a way to more of them, a writable root or a token of Kubernetes."""
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"/tmp", "/var/lib/datavault"} <= {each["mountPath"] for each in container["volumeMounts"]}  # noqa: S108


def test_probes_ask_for_health_and_a_lost_database_kills_no_pod() -> None:
    """Readiness is the whole; liveness only what a restart mends, on the port that the service listens on."""
    (container,) = pods()[SERVER]["containers"]
    port = int(variables(container)["DATAVAULT_LISTEN_HEALTH"].rpartition(":")[2])
    assert container["readinessProbe"]["grpc"] == {"port": port}
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["grpc"] == {"port": port, "service": ALIVE}


def test_no_secret_stands_in_the_environment() -> None:
    """Passwords and tokens are files that only the service's group reads."""
    for pod in pods().values():
        for container in containers(pod):
            assert all("valueFrom" not in each for each in container["env"])
            assert "envFrom" not in container
        secrets = [each["secret"] for each in pod["volumes"] if "secret" in each]
        assert secrets
        assert {each["defaultMode"] for each in secrets} == {0o440}


def test_only_the_schema_job_has_the_owners_password() -> None:
    """It runs before the servers of an install or upgrade, and they never see it."""
    job = rendered()["Job", "datavault-schema"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    names = {
        name: {each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
        for name, pod in pods().items()
    }
    assert [name for name, secrets in names.items() if "datavault-database-owner" in secrets] == [
        "Job/datavault-schema"
    ]
    assert [each["args"] for each in containers(pods()["Job/datavault-schema"])] == [
        ["db", "upgrade"],
        ["db", "grant", "--service", "datavault", "--apply"],
    ]


def test_the_network_lets_through_what_is_needed() -> None:
    """In: callers to the main port, monitoring to the metrics. Out: DNS, PostgreSQL, the KMS, the bucket."""
    policy = rendered()["NetworkPolicy", "datavault"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [each["ports"][0]["port"] for each in policy["ingress"]] == [8443, 9464]
    assert policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == {"datavault-client": "true"}
    assert [each["ports"][-1]["port"] for each in policy["egress"]] == [53, 5432, 8200, 443]
    assert all(each["to"] for each in policy["egress"])
    job = rendered()["NetworkPolicy", "datavault-schema"]["spec"]
    assert "ingress" not in job
    assert [each["ports"][-1]["port"] for each in job["egress"]] == [53, 5432]


def test_one_pod_at_a_time_is_taken_away() -> None:
    """By a drain of its node, sick ones too, or by a rollout, which brings the new one first."""
    budget = rendered()["PodDisruptionBudget", "datavault"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    deployment = rendered()["Deployment", "datavault"]["spec"]
    assert budget["selector"] == deployment["selector"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert rendered()["Service", "datavault"]["spec"]["selector"] == deployment["selector"]["matchLabels"]


def test_policies_reach_a_pod_as_they_were_written(tmp_path: Path) -> None:
    """Folder -> values -> ConfigMap -> mount: the service loads the bundle that the security team tested."""
    values = yaml.safe_load(script(DEPLOY / "helm" / "policies.py").values(REPOSITORY / "policies"))
    version = tmp_path / "..2026_11_30"
    for path, text in values["policies"].items():
        file = version / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    (tmp_path / "..data").symlink_to(version.name)
    for entry in version.iterdir():
        (tmp_path / entry.name).symlink_to(Path("..data") / entry.name)
    assert load_bundle(tmp_path).hash == load_bundle(REPOSITORY / "policies").hash


def test_the_configmap_is_mounted_with_folders() -> None:
    """A key holds no slash: the volume puts it back."""
    data = rendered()["ConfigMap", "datavault-policies"]["data"]
    (volume,) = [each for each in pods()[SERVER]["volumes"] if each["name"] == "policies"]
    items = {each["key"]: each["path"] for each in volume["configMap"]["items"]}
    assert items.keys() == data.keys()
    given = yaml.safe_load((RENDER.GOLDEN / "policies.yaml").read_text("utf-8"))["policies"]
    assert {path: data[key] for key, path in items.items()} == given


def test_values_are_not_made_of_policies_that_would_be_refused(tmp_path: Path) -> None:
    """The pods would not start with them."""
    (tmp_path / "policy.csv").write_text("p, nobody\n", "utf-8")
    with pytest.raises(PolicyError, match="missing"):
        script(DEPLOY / "helm" / "policies.py").values(tmp_path)
