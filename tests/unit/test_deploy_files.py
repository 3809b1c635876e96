"""Dockerfile, Compose file, chart and systemd unit agree with each other and with the code."""

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.compose import DEPLOY, REPOSITORY, compose_file
from tests.support.deployment import (
    containers,
    dockerfile,
    image_environment,
    named_variables,
    pods,
    seconds,
    unit,
    variables,
)
from vault.config import _OTHER_SETTINGS, Settings, settings_in_force
from vault.workers.crew import STOP_SECONDS

SETTINGS = {row.environment for row in settings_in_force(Settings())} | _OTHER_SETTINGS
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
IMAGE_FOLDERS = {"/var/lib/datavault", "/etc/datavault/policies"}
KILL_SECONDS = 5.0
"""What the supervisor gives a worker that it has killed."""


def pins(name: str) -> dict[str, Version]:
    """Package -> version, of those that have hashes."""
    text = (DEPLOY / name).read_text("utf-8")
    return {package.lower(): Version(version) for package, version, _ in PIN.findall(text)}


def extras(name: str) -> list[str]:
    """What an extra of pyproject.toml asks for."""
    found: list[str] = PROJECT["project"]["optional-dependencies"][name]
    return found


@pytest.mark.parametrize(("file", "names"), named_variables().items())
def test_every_variable_is_a_setting(file: str, names: set[str]) -> None:
    """A name that no setting has would end the service at its start."""
    assert names - SETTINGS == set()


def test_everything_runs_as_the_user_of_the_image() -> None:
    """10001, which owns the home folder: in the image, in Compose, and in every pod."""
    assert "USER 10001:10001" in dockerfile()
    assert re.search(r'"--owner", "datavault".*"/var/lib/datavault"', dockerfile())
    services = compose_file()["services"]
    ours = {name: each for name, each in services.items() if each["image"].startswith("datavault:")}
    assert {each["user"] for name, each in ours.items() if name != "prepare"} == {"10001:10001"}
    assert {pod["securityContext"]["runAsUser"] for pod in pods().values()} == {10_001}
    assert {pod["securityContext"]["fsGroup"] for pod in pods().values()} == {10_001}


def test_the_folders_are_those_of_the_image() -> None:
    """Home and policies are mounted where the image's settings say."""
    image = image_environment()
    deployment = pods()["Deployment/datavault"]["containers"][0]
    mounted = {each["mountPath"] for each in deployment["volumeMounts"]}
    compose = compose_file()["services"]["datavault-1"]
    in_compose = {volume.split(":")[1] for volume in compose["volumes"]}
    for name in ("DATAVAULT_HOME", "DATAVAULT_POLICIES"):
        assert image[name] == variables(deployment)[name] == compose["environment"][name]
        assert image[name] in mounted & in_compose


def test_every_file_of_a_setting_is_mounted() -> None:
    """No path points beside the mounts of its container."""
    for pod in pods().values():
        for container in containers(pod):
            folders = {each["mountPath"] for each in container["volumeMounts"]}
            paths = {value for value in variables(container).values() if value.startswith("/")}
            assert {path for path in paths if not any(path.startswith(folder) for folder in folders)} == set()
    for name, service in compose_file()["services"].items():
        folders = {volume.split(":")[1] for volume in service.get("volumes", ())} | {"/tmp"}  # noqa: S108
        paths = {value for value in service.get("environment", {}).values() if value.startswith("/")}
        beside = {path for path in paths if not any(path.startswith(folder) for folder in folders)}
        assert beside <= IMAGE_FOLDERS or name == "prepare"


def test_a_stop_has_the_time_that_it_takes() -> None:
    """Whoever ends the service waits until the workers have drained, and the last of them was killed."""
    needed = STOP_SECONDS + KILL_SECONDS
    pod = pods()["Deployment/datavault"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= before + needed
    assert seconds(unit()["TimeoutStopSec"][0]) >= needed
    servers = [each for each in compose_file()["services"].values() if each.get("command") == ["serve"]]
    assert all(seconds(each["stop_grace_period"]) >= needed for each in servers)


def test_the_connections_of_all_servers_fit() -> None:
    """Each process of the Compose file has its pool and one more; the role may have so many."""
    servers = [each for each in compose_file()["services"].values() if each.get("command") == ["serve"]]
    wanted = sum(int(each["environment"]["DATAVAULT_WORKERS"]) for each in servers) * (
        Settings().database_connections + 1
    )
    roles = (DEPLOY / "compose" / "roles.sql").read_text("utf-8")
    assert wanted <= int(re.findall(r"CONNECTION LIMIT (\d+)", roles)[0])


def test_the_image_has_every_dependency_in_a_version_that_is_allowed() -> None:
    """deploy/requirements.txt is no older than pyproject.toml: `make lock` writes it."""
    found = pins("requirements.txt")
    wanted = PROJECT["project"]["dependencies"] + extras("server") + extras("objects")
    for requirement in map(Requirement, wanted):
        assert found[requirement.name.lower()] in requirement.specifier, requirement


def test_the_image_is_built_with_what_builds_here() -> None:
    """setuptools as the build system requires it, and all of it what development compiles with."""
    found = pins("requirements-build.txt")
    lines = (DEPLOY / "requirements-build.in").read_text("utf-8").splitlines()
    asked = {line for line in lines if not line.startswith("#")}
    assert set(PROJECT["build-system"]["requires"]) <= asked <= set(extras("dev"))
    for requirement in map(Requirement, asked):
        assert found[requirement.name.lower()] in requirement.specifier, requirement


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt"])
def test_every_pin_has_hashes_and_no_registry_is_named(name: str) -> None:
    """pip takes what the hashes name, from wherever its own configuration says."""
    text = (DEPLOY / name).read_text("utf-8")
    assert len(pins(name)) == text.count("==")
    assert "://" not in text
    assert "--index" not in text


def test_the_versions_are_those_of_the_package() -> None:
    """Image, chart and Compose file carry the version of pyproject.toml."""
    version = metadata.version("datavault")
    chart = (DEPLOY / "helm" / "datavault" / "Chart.yaml").read_text("utf-8")
    assert f"ARG VERSION={version}" in dockerfile()
    assert f"\nappVersion: {version}\n" in chart
    images = {each["image"] for each in compose_file()["services"].values()}
    assert f"datavault:{version}" in images


def test_nothing_in_compose_runs_as_root_but_prepare() -> None:
    """And all of it on a read-only root, without capabilities but the one that `prepare` needs."""
    for name, service in compose_file()["services"].items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"].startswith("0:") == (name == "prepare")
        assert service.get("cap_add", []) == (["CHOWN"] if name == "prepare" else [])
