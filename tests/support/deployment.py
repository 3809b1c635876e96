"""What stands in deploy/ and in the Dockerfile, as values that tests compare."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.compose import DEPLOY, REPOSITORY

CHART: Final = DEPLOY / "helm" / "datavault"
_ENV: Final = re.compile(r"^ENV (.*?[^\\])$", re.MULTILINE | re.DOTALL)
_OURS: Final = re.compile(r"\b(?:DATAVAULT|VAULT)_[A-Z_]+\b")


def script(path: Path) -> Any:
    """A Python file of deploy/ as a module."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # a dataclass looks its own module up
    specification.loader.exec_module(module)
    return module


RENDER: Final = script(DEPLOY / "helm" / "render.py")


def rendered() -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of the chart, by kind and name, as Helm renders it for the example."""
    documents = yaml.safe_load_all(RENDER.RENDERED.read_text("utf-8"))
    return {(each["kind"], each["metadata"]["name"]): each for each in documents if each}


def pods() -> dict[str, dict[str, Any]]:
    """Object -> the specification of its pods."""
    return {
        f"{kind}/{name}": each["spec"]["template"]["spec"]
        for (kind, name), each in rendered().items()
        if kind in ("Deployment", "Job")
    }


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All of a pod, those that run first too."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def variables(container: dict[str, Any]) -> dict[str, str]:
    """The environment of a container."""
    return {each["name"]: each["value"] for each in container["env"]}


def dockerfile() -> str:
    return (REPOSITORY / "Dockerfile").read_text("utf-8")


def image_environment() -> dict[str, str]:
    """What the image sets."""
    words = _ENV.findall(dockerfile())[-1].replace("\\\n", " ").split()
    return dict(word.split("=", 1) for word in words)


def unit() -> dict[str, list[str]]:
    """The settings of [Service] in the systemd unit, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / "datavault.service").read_text("utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> float:
    """`40s` -> 40.0."""
    return float(text.removesuffix("s"))


def named_variables() -> dict[str, set[str]]:
    """File of deploy/ -> the variables of ours that it names anywhere, comments too."""
    files = [
        REPOSITORY / "Dockerfile",
        *(path for path in DEPLOY.rglob("*") if path.suffix not in (".txt", ".pyc")),
    ]
    texts = {
        path.relative_to(REPOSITORY).as_posix(): path.read_text("utf-8") for path in files if path.is_file()
    }
    return {name: set(_OURS.findall(text)) for name, text in texts.items()}
