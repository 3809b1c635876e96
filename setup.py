"""What pyproject.toml cannot say: with DATAVAULT_COMPILE=1 the read path is compiled (docs/adr/0027).

Without it this is an empty call: no compiler is needed, and mypy is not looked for.
"""

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from setuptools import setup

COMPILED: Final = (
    # what each item of a group passes through, by the steps of vault/disclosure.py
    "vault/disclosure.py",
    "vault/disclosing/guard.py",
    "vault/disclosing/item.py",
    "vault/disclosing/loading.py",  # 1
    "vault/store/reader.py",
    "vault/crypto/lookup_keys.py",
    "vault/consent/bases.py",  # 2
    "vault/consent/lanes.py",
    "vault/disclosing/deciding.py",  # 3
    "vault/disclosing/decisions.py",
    "vault/policy/engine.py",
    "vault/disclosing/opening.py",  # 4
    "vault/crypto/encoding.py",
    "vault/crypto/envelope.py",
    "vault/crypto/keyring.py",
    "vault/crypto/opaque.py",
    "vault/crypto/tenant_keys.py",
    "vault/policy/forms.py",
    "vault/disclosing/quotas.py",  # 5
    "vault/audit/append.py",
    "vault/audit/merkle.py",
    "vault/audit/record.py",
    "vault/server/wire.py",  # 6
    # what they hand on to each other: between compiled modules an attribute is a field of a C struct
    "vault/domain/system.py",
    "vault/domain/types.py",
    "vault/domain/values.py",
    "vault/reads.py",
)
"""One group, compiled together. A base class of a class here stands in a module that is here too; errors are
raised `from None` by `vault.domain.errors.unchained` (tests/unit/test_compiled.py).

Left out, because nothing was gained that could be measured: `recording`, `audit.sql`, `server.admission`,
`server.lane`, and `server.worker`, which works once per group. `recording` has to stay out: it is called for
each read, and a call of a Python function is where another thread gets the interpreter lock. No compiled loop
offers it."""

GROUP: Final = "vault"


def lacking() -> str:
    """What this machine needs before it can compile, '' when it can."""
    return next(_lacks(), "")


def _lacks() -> Iterator[str]:
    if importlib.util.find_spec("mypyc") is None:
        yield "mypy is missing: pip install -r deploy/requirements-build.in, build with --no-build-isolation"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        yield f"there is no C compiler ({compiler})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        yield "Python.h is missing (Debian: python3-dev)"


def extensions() -> list[Any]:
    """The compiled modules.

    Raises:
        SystemExit: they cannot be compiled here; the message says why.
    """
    missing = lacking()
    if missing:
        sys.exit(f"DATAVAULT_COMPILE=1: {missing}. Without that variable nothing is compiled.")
    from mypyc.build import mypycify

    # what is not on the list is judged by `make types`, where all stubs are installed
    compiled: Callable[..., list[Any]] = mypycify
    return compiled(["--follow-imports=silent", *COMPILED], opt_level="3", group_name=GROUP)


if __name__ == "__main__":
    setup(ext_modules=extensions() if os.environ.get("DATAVAULT_COMPILE") == "1" else [])
