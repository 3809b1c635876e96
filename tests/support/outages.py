"""Outages of the KMS for a running service: the scene, and what every outage has to leave as it was.

A scene is a production-like KMS, a service that has a least-privilege token file for it, and customers of
whom that service holds no key ("cold"). `bears` takes one fault through all that docs/operations/keys.md,
"Outages", promises of every outage; what is special to one is in its own test.
"""

import contextlib
import datetime
import itertools
import os
import signal
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from tests.support.faults import (
    add_customer,
    eventually,
    read,
    refused_write,
    serving,
    write,
)
from tests.support.faults_policies import write_policies
from tests.support.outage_proxy import KmsProxy, kms_proxy
from tests.support.pipelines import open_house
from tests.support.service import Options, RunningService
from tests.support.transit_production import SERVICE_POLICY, ProductionTransit
from vault.client import DatavaultClientError, Denial, DenialReason, Disclosure
from vault.crypto.dev_server import DevTransit
from vault.crypto.envelope import DataKey, key_context
from vault.crypto.names import class_key
from vault.domain.errors import DatavaultError
from vault.domain.limits import LIMITS
from vault.domain.protocols import UnwrapItem
from vault.domain.types import KeyScope

COLD: Final = 64
POLICY: Final = "outages"
TOKEN_FILE: Final = "kms-token"
CA_FILE: Final = "kms-ca.pem"
OFFERS: Final = "personalised-offers"
OFFERS_ENGINE: Final = "personalization-engine"
BOTH: Final = ("email", "income")
"""`email` is of the key class contact, `income` of financial."""
_DATA: Final = (
    "subject",
    "subject_lookup",
    "subject_key",
    "attribute_value",
    "request",
)
_KEYLESS_VALUES: Final = """
SELECT count(*) FROM attribute_value AS v
WHERE ciphertext IS NOT NULL AND attribute NOT LIKE '$%' AND NOT EXISTS (
  SELECT 1 FROM subject_key AS k WHERE k.tenant = v.tenant AND k.subject = v.subject
  AND k.key_class = v.key_class AND k.dek_id = substr(v.ciphertext, 5, 32))
"""
"""The envelope is magic 2, format 1, algorithm 1, dek id 32 (keys.md, "Ciphertext")."""


@dataclass
class Scene:
    """A service over a KMS that tests may take away, as long as they bring it back."""

    server: ProductionTransit
    service: RunningService
    policy: str
    """Name of the ACL policy that its token has."""
    token_file: Path
    ca_certificate: Path
    """The file by which the service trusts the KMS."""
    numbers: Iterator[str]

    def cold(self) -> str:
        """A customer of whom the service holds no key; each is given out once."""
        return next(self.numbers)

    def warm(self) -> str:
        """A customer whose keys have just come into the cache."""
        number = self.cold()
        # an outage of the test before may just be over: the service finds out by itself
        heals_reads(self.service, number)
        return number

    def rows(self) -> dict[str, int]:
        """How many rows each table has that a write fills."""
        return {table: self.service.sql(f"SELECT count(*) FROM {table}")[0][0] for table in _DATA}

    def new_token(self) -> str:
        """A token with the service's policy."""
        what = {"policies": [self.policy], "ttl": "1h", "no_parent": True}
        token: str = self.server.api("POST", "auth/token/create", what)["auth"]["client_token"]
        return token


def write_secret(path: Path, text: str) -> Path:
    """A file for its owner alone, replaced whole."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
    return path


@contextlib.contextmanager
def scene(
    folder: Path,
    server: ProductionTransit,
    address: str = "",
    ca_certificate: Path | None = None,
    **environment: str,
) -> Iterator[Scene]:
    """A service in `folder` that reaches `server`, by another address and CA where they are given.

    At the end: every record is under a checkpoint, the log verifies, no value is without its key, and the
    service has written down no secret.
    """
    given = options(folder, server, address, ca_certificate, environment)
    numbers = cold_customers(folder, server, given)
    with RunningService(folder, given) as service:
        service.launch()
        made = Scene(server, service, POLICY, folder / TOKEN_FILE, folder / CA_FILE, iter(numbers))
        yield made
        settled(made)


def cold_customers(folder: Path, server: ProductionTransit, given: Options) -> list[str]:
    """Customers in the home of a service that is not started yet."""
    numbers = [f"cold-{number}" for number in range(COLD)]
    with open_house(
        folder,
        policies=given.policies,
        keys="transit",
        environment="production",
        transit_address=server.address,
        transit_token_file=folder / TOKEN_FILE,
        transit_cacert=server.ca_certificate,
    ) as house:
        written = house.write_group([house.draft(number, expected(number)) for number in numbers])
    assert not [each for each in written if isinstance(each, DatavaultError)]
    return numbers


def options(
    folder: Path,
    server: ProductionTransit,
    address: str = "",
    ca_certificate: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Options:
    """How such a service is started, with what it needs in `folder`; as in production, where it makes no
    keys."""
    server.api("POST", f"sys/policies/acl/{POLICY}", {"policy": SERVICE_POLICY})
    what = {"policies": [POLICY], "ttl": "1h", "no_parent": True}
    token = server.api("POST", "auth/token/create", what)["auth"]["client_token"]
    trusted = folder / CA_FILE
    trusted.write_bytes((ca_certificate or server.ca_certificate).read_bytes())
    token_file = write_secret(folder / TOKEN_FILE, token)
    transit = DevTransit(address or server.address, token_file, trusted, "bao", server.process)
    own = {
        "VAULT_TOKEN": "",
        "DATAVAULT_ENVIRONMENT": "production",
        "DATAVAULT_METRICS": "127.0.0.1:0",
    }
    if "DATAVAULT_TRANSIT_AUTH" not in (environment or {}):
        own["DATAVAULT_TRANSIT_TOKEN_FILE"] = str(token_file)
    policies = folder / "policies"
    if not policies.exists():
        write_policies(policies)
    return Options(policies=policies, transit=transit, environment={**own, **(environment or {})})


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A KMS and a service for tests of the group `outages`: each must leave them serving."""
    server = ProductionTransit(tmp_path_factory.mktemp("stage-kms"))
    try:
        server.start()
        with scene(tmp_path_factory.mktemp("stage"), server) as made:
            yield made
    finally:
        server.stop()


@dataclass
class ProxiedScene(Scene):
    """A scene whose service reaches the KMS by way of a proxy that tests may tell what to answer."""

    proxy: KmsProxy


@pytest.fixture(scope="session")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedScene]:
    """The same for the group `outages-proxy`."""
    server = ProductionTransit(tmp_path_factory.mktemp("proxied-kms"))
    try:
        server.start()
        with (
            kms_proxy(tmp_path_factory.mktemp("proxy"), server.address, server.ca_certificate) as proxy,
            scene(tmp_path_factory.mktemp("proxied"), server, proxy.address, proxy.ca_certificate) as made,
        ):
            yield ProxiedScene(**vars(made), proxy=proxy)
    finally:
        server.stop()


# --- outages ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stopped(scene: Scene) -> Iterator[None]:
    """Nothing listens on its port."""
    scene.server.stop()
    try:
        yield
    finally:
        scene.server.restart()


@contextlib.contextmanager
def sealed(scene: Scene) -> Iterator[None]:
    """It answers 503."""
    scene.server.seal()
    try:
        yield
    finally:
        scene.server.unseal()


@contextlib.contextmanager
def hung(scene: Scene) -> Iterator[None]:
    """It takes connections and answers nothing."""
    scene.server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        scene.server.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def without_policy(scene: Scene) -> Iterator[None]:
    """The token is valid and may do nothing: 403."""
    scene.server.api("DELETE", f"sys/policies/acl/{scene.policy}")
    try:
        yield
    finally:
        scene.server.api("POST", f"sys/policies/acl/{scene.policy}", {"policy": SERVICE_POLICY})


# --- what every outage has to show ------------------------------------------------------------------------


def bears(scene: Scene, outage: contextlib.AbstractContextManager[Any], lost: Collection[str] = BOTH) -> None:
    """Take the service through an outage in which the keys of the attributes `lost` cannot be had."""
    service = scene.service
    process, warm, cold, consenting = service.process.pid, scene.warm(), scene.cold(), scene.cold()
    consents(service, consenting)
    with outage:
        bears_reads(scene, warm, cold, lost)
        bears_changes(scene, warm, cold, consenting)
        assert serving(service), "records are durable, so it serves"
    heals(scene, cold)
    assert service.process.pid == process


def bears_reads(scene: Scene, warm: str, cold: str, lost: Collection[str]) -> None:
    """Cached keys serve; the rest is denied in bounded time, with a reason, on record; other classes go
    on."""
    service, seconds = scene.service, LIMITS.default_deadline_seconds
    assert values(read(service, warm, *BOTH, timeout=seconds)) == expected(warm)
    answer = read(service, cold, *BOTH, timeout=seconds)
    assert reasons(answer) == dict.fromkeys(lost, DenialReason.KEY_UNAVAILABLE)
    recorded = service.records()[answer.position]["attributes"]
    assert {name for name in recorded if recorded[name].get("reason") == "key-unavailable"} == set(lost)


def bears_changes(scene: Scene, warm: str, cold: str, consenting: str) -> None:
    """A write that needs a key, new or not cached, fails whole, with reason, RetryInfo and record; one whose
    key is cached goes on; a withdrawal needs no key and binds at once."""
    service = scene.service
    before = scene.rows()
    for number in (service.customer(), cold):
        refuses_write(service, number)
        assert scene.rows() == before
    assert write(service, warm, f"{warm}@mail.example").versions == {"email": 2}
    withdraws(service, consenting)


def refuses_write(service: RunningService, number: str) -> None:
    """A write of the email address fails for want of keys, in bounded time, worth repeating, on record."""
    refused = refused_write(service, number, timeout=LIMITS.default_deadline_seconds)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE"), refused
    assert refused.domain == "datavault"
    assert refused.retry_seconds is not None
    assert refused.retry_seconds > 0
    assert failures(service)[-1]["detail"] == {"error": "KEYS_UNAVAILABLE"}


def heals(scene: Scene, cold: str) -> None:
    """Reads and writes work again, without anybody's doing."""
    heals_reads(scene.service, cold)
    eventually(lambda: succeeds(scene.service), "a new customer is written")
    assert serving(scene.service)


def heals_reads(service: RunningService, number: str) -> None:
    """All of a customer is read again."""
    eventually(lambda: values(read(service, number, *BOTH)) == expected(number), "keys are had again")


def settled(scene: Scene) -> None:
    """After all outages: nothing is lost, nothing lags, nothing was told that must not be."""
    service = scene.service
    eventually(lambda: signed(service) == len(service.records()), "a checkpoint covers every record")
    assert service.verify().problems == []
    assert keyless_values(service) == 0
    assert unopenable_keys(service) == []
    log = service.log_path.read_text("utf-8", "replace")
    secret = [scene.server.root_token, scene.token_file.read_text("ascii"), "vault:v", "@mail.example"]
    assert [text for text in secret if text in log] == []
    assert "Traceback" not in log


# --- small ways to ask ------------------------------------------------------------------------------------


def expected(number: str) -> dict[str, Any]:
    """What `add_customer` gave a customer."""
    return {"email": f"{number}@mail.example", "income": 41_000}


def values(answer: Disclosure) -> dict[str, Any]:
    """The values that were released."""
    return {name: answer.value(name) for name in BOTH if name not in answer.denied}


def reasons(answer: Disclosure) -> dict[str, DenialReason]:
    """Why the others were not."""
    denied: Mapping[str, Denial] = answer.denied
    return {name: denial.reason for name, denial in denied.items()}


def failures(service: RunningService) -> list[dict[str, Any]]:
    """The records of calls that failed, oldest first."""
    return [record for record in service.records() if record["outcome"] == "error"]


def consents(service: RunningService, number: str) -> None:
    """Consent to offers, and the key of the email address comes into the cache."""
    service.client("customer-portal").record_consent(
        number,
        purpose=OFFERS,
        state="given",
        channel="app",
        jurisdictions=["EU"],
        notice="offers",
        notice_version=2,
        language="en",
        jurisdiction="EU",
        expires_at=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=300),
    )
    assert read_offers(service, number).value("email") == f"{number}@mail.example"


def withdraws(service: RunningService, number: str) -> None:
    """Withdraw it: from the answer on its basis is gone, though the key is cached."""
    service.client("customer-portal").withdraw_consent(number, purpose=OFFERS, channel="app", timeout=20.0)
    assert reasons(read_offers(service, number)) == {"email": DenialReason.CONSENT_WITHDRAWN}


def read_offers(service: RunningService, number: str) -> Disclosure:
    return service.client(OFFERS_ENGINE).read_attributes(
        number, purpose=OFFERS, attributes=["email"], timeout=20.0
    )


def succeeds(service: RunningService) -> bool:
    """Whether a new customer can be written, and read."""
    try:
        number = add_customer(service)
    except DatavaultClientError:
        return False
    return values(read(service, number, *BOTH)) == expected(number)


def signed(service: RunningService) -> int:
    """How many records are under the newest checkpoint."""
    ((size,),) = service.sql("SELECT coalesce(max(size), 0) FROM log_checkpoint")
    return int(size)


def keyless_values(service: RunningService) -> int:
    """Values whose wrapped data key is not in the database."""
    ((count,),) = service.sql(_KEYLESS_VALUES)
    return int(count)


def unopenable_keys(service: RunningService) -> list[str]:
    """Key classes with a data key that the KMS does not open, or that is not the one its row commits to."""
    provider = service.key_provider()
    rows = service.sql("SELECT tenant, subject, key_class, dek_id, wrapped FROM subject_key ORDER BY 3")
    bad = []
    for key_class, group in itertools.groupby(rows, lambda row: row[2]):
        keys = list(group)
        opened = provider.unwrap(
            class_key(key_class),
            [UnwrapItem(row[4], key_context(KeyScope(row[0], row[1], row[2]))) for row in keys],
        )
        for raw, row in zip(opened, keys, strict=True):
            if not isinstance(raw, bytes) or DataKey(raw).id != row[3]:
                bad.append(key_class)
    return bad
