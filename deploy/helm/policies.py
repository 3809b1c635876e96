"""The values of the Helm chart for a policies folder, which is checked first:

    python deploy/helm/policies.py policies > policies-values.yaml

Without tests/: they are run where the policies are written (`datavault policy test`), and count for no hash.
"""

import sys
from pathlib import Path
from typing import Final

import yaml

from vault.policy.bundle import load_bundle
from vault.policy.problems import PolicyError

_CONFIGMAP_BYTES: Final = 1024 * 1024
"""What Kubernetes lets a ConfigMap hold."""


def values(folder: Path) -> str:
    """The YAML text.

    Raises:
        PolicyError: the policies are not good.
        SystemExit: they do not fit into a ConfigMap.
    """
    bundle = load_bundle(folder)
    texts = {
        path: content.decode() for path, content in bundle.files.items() if not path.startswith("tests/")
    }
    size = sum(len(path) + len(bundle.files[path]) for path in texts)
    if size >= _CONFIGMAP_BYTES:
        sys.exit(f"{folder}: {size} bytes, and a ConfigMap holds {_CONFIGMAP_BYTES}: mount a volume instead")
    return f"# bundle {bundle.hash}\n" + yaml.safe_dump({"policies": texts}, allow_unicode=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: policies.py FOLDER")
    try:
        sys.stdout.write(values(Path(sys.argv[1])))
    except PolicyError as error:
        sys.exit("\n".join(str(problem) for problem in error.errors))
