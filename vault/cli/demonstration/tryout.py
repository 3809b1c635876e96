"""Commands to try while the demo stays up."""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from vault.cli.demonstration.callers import AUDITOR, ENGINE, PORTAL, Certificates
from vault.cli.demonstration.engine import PURPOSE
from vault.cli.demonstration.loading import CURRENT, NOTICE
from vault.cli.demonstration.service import ORIGIN, Service
from vault.cli.demonstration.stage import Stage

_ATTRIBUTES: Final = ("income", "email", "product-holdings")
_METHOD: Final = "vault.v1.DataService/ReadAttributes"


def commands(stage: Stage, service: Service, certificates: Mapping[str, Certificates]) -> Iterator[str]:
    """Lines for a shell, with the paths and the address of this demo."""
    datavault, engine = program(), certificates[ENGINE]
    customer, country = stage.unasked.number, stage.unasked.country
    yield "# you are the personalization engine"
    yield f"export DATAVAULT_ADDR={service.address}"
    yield f"export DATAVAULT_CACERT={_quoted(engine.ca)}"
    yield f"export DATAVAULT_CLIENT_CERT={_quoted(engine.certificate)}"
    yield f"export DATAVAULT_CLIENT_KEY={_quoted(engine.key)}"
    yield f"{datavault} subject read {customer} {' '.join(_ATTRIBUTES)} --purpose {PURPOSE}"
    yield ""
    yield f"# {customer} consents in the app: read again"
    yield (
        f"{datavault} consent record {customer} {PURPOSE} --notice {NOTICE} --notice-version {CURRENT} "
        f"--language en --jurisdiction {country.jurisdiction} --channel app --expires-at 365d "
        f"{_as(certificates[PORTAL])}"
    )
    yield ""
    yield "# who read what"
    yield f"{datavault} audit query --customer {customer} {_as(certificates[AUDITOR])}"
    yield ""
    yield "# the log, offline"
    yield (
        f"DATAVAULT_HOME={_quoted(service.home)} DATAVAULT_ORIGIN={ORIGIN} {datavault} audit verify "
        f"--vkey {shlex.quote(stage.clients[AUDITOR].get_checkpoint().verifier_key)}"
    )
    yield ""
    yield "# any other language: the proto, or reflection"
    yield _grpcurl(service, engine, customer)


def program() -> str:
    """How this shell calls `datavault`: by its path where PATH may not lead to it."""
    script = Path(sys.executable).parent / "datavault"
    if not script.exists():
        return f"{_quoted(Path(sys.executable))} -m vault.cli"
    here = Path.cwd()
    return _quoted(script.relative_to(here) if script.is_relative_to(here) else script)


def _grpcurl(service: Service, engine: Certificates, customer: str) -> str:
    question = json.dumps(
        {"customer_number": customer, "purpose": PURPOSE, "attributes": list(_ATTRIBUTES)},
        separators=(",", ":"),
    )
    return (
        f"grpcurl -cacert {_quoted(engine.ca)} -cert {_quoted(engine.certificate)} "
        f"-key {_quoted(engine.key)} -d {shlex.quote(question)} {service.address} {_METHOD}"
    )


def _as(certificates: Certificates) -> str:
    return f"--cert {_quoted(certificates.certificate)} --key {_quoted(certificates.key)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
