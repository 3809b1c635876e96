"""The chart as Helm renders it, kept in tests/golden/chart: what is judged there is what a cluster would
get, also on a machine without Helm.

    python deploy/helm/render.py           # writes it (make chart)
    python deploy/helm/render.py --check   # exit code 1 when Helm renders something else
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

HELM_FOLDER: Final = Path(__file__).resolve().parent
CHART: Final = HELM_FOLDER / "datavault"
GOLDEN: Final = HELM_FOLDER.parents[1] / "tests" / "golden" / "chart"
VALUES: Final = (HELM_FOLDER / "examples" / "production.yaml", GOLDEN / "policies.yaml")
RENDERED: Final = GOLDEN / "production.yaml"
KUBERNETES: Final = "1.31.0"
"""The oldest that the chart takes."""


def sources() -> str:
    """Hex SHA-256 of all that the rendered text is made of."""
    files = [*sorted(path for path in CHART.rglob("*") if path.is_file()), *VALUES]
    parts = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def heading() -> str:
    """The first line of the rendered text: a change of the chart without `make chart` is found by it."""
    return f"# helm template, of {sources()}: make chart\n"


def render(helm: str) -> str:
    """What `helm template` prints, with the heading.

    Raises:
        subprocess.CalledProcessError: the chart or its values are not good; Helm has said why.
    """
    values = [word for path in VALUES for word in ("--values", str(path))]
    command = [
        helm,
        "template",
        "datavault",
        str(CHART),
        "--namespace",
        "vault",
        "--kube-version",
        KUBERNETES,
    ]
    done = subprocess.run([*command, *values], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return heading() + done.stdout


def main(arguments: list[str]) -> int:
    """Exit code."""
    helm = shutil.which("helm")
    if helm is None:
        sys.exit("helm is not on PATH: make helm builds it with Go")
    rendered = render(helm)
    if arguments == ["--check"]:
        return int(RENDERED.read_text("utf-8") != rendered)
    RENDERED.write_text(rendered, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
