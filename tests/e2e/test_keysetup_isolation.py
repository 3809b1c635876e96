"""A replica whose token may use one key class: what it serves, and what nobody can do with its token."""

import base64
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.faults import (
    add_customer,
    command,
    eventually,
    read,
    refused_start,
    refused_write,
    unstarted,
)
from tests.support.faults_policies import FILES
from tests.support.keysetup import BEHAVIOUR_ONLY, Kms, running_kms, set_up, small_attributes, small_policies
from tests.support.service import RunningService
from vault.client import DenialReason
from vault.crypto.transit_policies import Role

CONTACT_KEY = "datavault-contact"
PRODUCTION = {"DATAVAULT_ENVIRONMENT": "production"}


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    """A KMS with the keys and policies that `keys init` makes."""
    folder = tmp_path_factory.mktemp("isolation")
    with running_kms(folder / "kms") as kms:
        settings = kms.settings(folder, small_policies(folder / "policies"))
        set_up(settings, Role.REPLICA, Role.OPERATOR)
        set_up(settings, classes=["behaviour"])
        yield kms


@pytest.fixture(scope="module")
def token(kms: Kms) -> str:
    """The token of the restricted replica."""
    return kms.token(BEHAVIOUR_ONLY)


@pytest.fixture(scope="module")
def full(kms: Kms, tmp_path_factory: pytest.TempPathFactory) -> RunningService:
    """The home of a replica of all classes with one customer; it serves no more."""
    folder = tmp_path_factory.mktemp("replica")
    environment = {**PRODUCTION, **kms.variables(kms.token("datavault-replica"))}
    policies = small_policies(folder / "policies")
    with RunningService.start(
        folder, policies=policies, transit=kms.server, environment=environment
    ) as running:
        add_customer(running)
    return running


@pytest.fixture(scope="module")
def customer(full: RunningService) -> str:
    """The customer whom the replica of all classes has written."""
    return "customer-1"


@pytest.fixture(scope="module")
def restricted(kms: Kms, full: RunningService, token: str) -> Iterator[RunningService]:
    """A replica of behaviour alone on the same database, in production."""
    environment = {**PRODUCTION, **kms.variables(token)}
    with RunningService.start(
        full.folder, policies=full.options.policies, transit=kms.server, environment=environment
    ) as running:
        # its own numbers go on after those of the replica of all classes
        running.customer()
        yield running


def test_its_class_is_served_and_the_others_are_denied(restricted: RunningService, customer: str) -> None:
    """One read gets the attribute of its class, and key-unavailable for the other one, on record too."""
    found = read(restricted, customer, "income", "email")
    assert found.value("income") == 41_000
    assert found.denied["email"].reason is DenialReason.KEY_UNAVAILABLE
    assert restricted.records()[found.position]["attributes"]["email"]["reason"] == "key-unavailable"


def test_writes_of_its_class_are_taken(restricted: RunningService) -> None:
    """A new customer with an attribute of its class is written and read back."""
    number = add_customer(restricted, income=52_000)
    assert read(restricted, number, "income").value("income") == 52_000


@pytest.mark.parametrize("known", [True, False], ids=["known customer", "new customer"])
def test_writes_of_other_classes_commit_nothing(
    restricted: RunningService, customer: str, known: bool
) -> None:
    """UNAVAILABLE with reason KEYS_UNAVAILABLE; neither subject nor key nor value is there afterwards."""
    count = "SELECT (SELECT count(*) FROM subject), (SELECT count(*) FROM subject_key), "
    count += "(SELECT count(*) FROM attribute_value)"
    before = restricted.sql(count)
    refused = refused_write(restricted, customer if known else restricted.customer())
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE")
    assert restricted.sql(count) == before


def test_it_still_signs_the_log(restricted: RunningService, customer: str) -> None:
    """A checkpoint comes to cover what it recorded, and the whole log verifies."""
    position = read(restricted, customer, "income").position
    eventually(lambda: restricted.verify().signed_size > position, "a checkpoint covers the read")
    assert restricted.verify().problems == []


def test_it_says_at_start_which_keys_it_may_not_use(restricted: RunningService) -> None:
    """The event keys_forbidden names the key of the other class."""
    first, *_ = [line for line in restricted.log_lines() if "keys_forbidden" in line]
    assert '"keys": "datavault-contact"' in first


def test_doctor_tells_a_restriction_from_a_mistake(restricted: RunningService) -> None:
    """Run with the service's own environment: the class left out is a warning, nothing is bad."""
    told = command(restricted, "doctor")
    assert told.returncode == 0, told.stdout
    assert "not served by this replica: contact" in told.stdout


def test_its_token_opens_the_other_classes_by_no_path(
    kms: Kms, token: str, full: RunningService, customer: str
) -> None:
    """Whoever takes the token out of the process gets status 403 wherever the key of another class could be
    used, taken out or changed, or the token's own rights be raised; and the wrapped key stays closed."""
    [(wrapped,)] = full.sql("SELECT wrapped FROM subject_key WHERE key_class = 'contact'")
    ciphertext = wrapped.decode() if isinstance(wrapped, bytes) else str(wrapped)
    [(own,)] = full.sql("SELECT wrapped FROM subject_key WHERE key_class = 'behaviour' LIMIT 1")
    context = base64.b64encode(b"any context").decode()
    plain = base64.b64encode(bytes(32)).decode()
    attempts: list[tuple[str, str, dict[str, Any] | None]] = [
        ("POST", f"transit/decrypt/{CONTACT_KEY}", {"ciphertext": ciphertext, "context": context}),
        ("POST", f"transit/decrypt/{CONTACT_KEY}", {"batch_input": [{"ciphertext": ciphertext}]}),
        ("POST", f"transit/rewrap/{CONTACT_KEY}", {"ciphertext": ciphertext, "context": context}),
        ("POST", f"transit/encrypt/{CONTACT_KEY}", {"plaintext": plain, "context": context}),
        ("POST", f"transit/datakey/plaintext/{CONTACT_KEY}", {"context": context}),
        ("POST", f"transit/datakey/wrapped/{CONTACT_KEY}", {"context": context}),
        ("POST", f"transit/hmac/{CONTACT_KEY}", {"input": plain}),
        ("POST", f"transit/sign/{CONTACT_KEY}", {"input": plain}),
        ("GET", f"transit/keys/{CONTACT_KEY}", None),
        ("POST", f"transit/keys/{CONTACT_KEY}", {}),
        ("DELETE", f"transit/keys/{CONTACT_KEY}", None),
        ("POST", f"transit/keys/{CONTACT_KEY}/config", {"exportable": True, "deletion_allowed": True}),
        ("POST", f"transit/keys/{CONTACT_KEY}/rotate", {}),
        ("POST", f"transit/keys/{CONTACT_KEY}/trim", {"min_available_version": 1}),
        ("GET", f"transit/export/encryption-key/{CONTACT_KEY}", None),
        ("GET", f"transit/backup/{CONTACT_KEY}", None),
        ("POST", "transit/restore/datavault-contact-copy", {"backup": plain}),
        ("GET", "transit/export/encryption-key/datavault-behaviour", None),
        ("GET", "transit/backup/datavault-behaviour", None),
        ("POST", "transit/keys/datavault-behaviour/config", {"exportable": True}),
        ("POST", "transit/keys/datavault-behaviour/rotate", {}),
        ("POST", "transit/rewrap/datavault-behaviour", {"ciphertext": str(own), "context": context}),
        ("POST", "transit/keys/datavault-new", {"exportable": True}),
        ("POST", "transit/encrypt/datavault-new", {"plaintext": plain}),
        ("GET", "transit/export/signing-key/datavault-log", None),
        ("POST", "transit/config/keys", {"disable_upsert": False}),
        ("GET", "transit/keys?list=true", None),
        ("POST", f"sys/policies/acl/{BEHAVIOUR_ONLY}", {"policy": 'path "*" { capabilities = ["sudo"] }'}),
        ("GET", "sys/policies/acl/datavault-replica", None),
        ("POST", "auth/token/create", {"policies": ["datavault-replica"]}),
        ("POST", "auth/token/create", {"policies": [BEHAVIOUR_ONLY]}),
        ("POST", "auth/token/create-orphan", {"policies": ["root"]}),
        ("GET", "sys/raw/logical", None),
        ("POST", "sys/mounts/other", {"type": "transit"}),
        ("POST", "sys/remount", {"from": "transit", "to": "other"}),
    ]
    answered = {f"{method} {path}": kms.ask(method, path, body, token) for method, path, body in attempts}
    assert {what: answer.status_code for what, answer in answered.items() if answer.status_code != 403} == {}


def test_a_key_it_may_use_opens_no_wrapped_key_of_another_class(
    kms: Kms, token: str, full: RunningService
) -> None:
    """The wrapped key of another class, given to the key of its own class, does not open."""
    [(wrapped,)] = full.sql("SELECT wrapped FROM subject_key WHERE key_class = 'contact'")
    text = wrapped.decode() if isinstance(wrapped, bytes) else str(wrapped)
    body = {"ciphertext": text, "context": base64.b64encode(b"any context").decode()}
    answer = kms.ask("POST", "transit/decrypt/datavault-behaviour", body, token)
    assert answer.status_code == 400
    assert "message authentication failed" in answer.text


# --- starts and reloads -------------------------------------------------------------------------------------

LOOSE = """
path "transit/encrypt/datavault-*" { capabilities = ["update"] }
path "transit/decrypt/datavault-*" { capabilities = ["update"] }
path "transit/sign/datavault-log" { capabilities = ["update"] }
path "transit/keys/datavault-*" { capabilities = ["read"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
"""
"""A policy by pattern: with it a key that is missing looks missing, not forbidden."""
ADDED = small_attributes(FILES["attributes.yaml"]).replace("key_classes:\n", "key_classes:\n  loyalty: {}\n")


@pytest.mark.parametrize("environment", ["production", "development"])
def test_a_start_without_the_key_of_a_class_is_refused(kms: Kms, tmp_path: Path, environment: str) -> None:
    """With a token that may not make keys, a missing one is told by name, with the command that makes it."""
    policies = small_policies(tmp_path / "policies", {"attributes.yaml": ADDED})
    variables = {"DATAVAULT_ENVIRONMENT": environment, **kms.variables(kms.token_of(LOOSE))}
    home = unstarted(tmp_path, policies, transit=kms.server, environment=variables)
    told = refused_start(home)
    assert told.returncode == 2
    assert "datavault-loyalty" in told.stderr
    assert "datavault keys init --apply" in told.stderr


def test_in_development_a_forbidden_key_is_not_made_and_hinders_nothing(
    kms: Kms, token: str, tmp_path: Path
) -> None:
    """A replica of one class starts in development too, and serves its class."""
    policies = small_policies(tmp_path / "policies")
    with RunningService.start(
        tmp_path, policies=policies, transit=kms.server, environment=kms.variables(token)
    ) as running:
        number = add_customer(running, income=7)
        assert read(running, number, "income").value("income") == 7
        assert refused_write(running, number).reason == "KEYS_UNAVAILABLE"


def test_a_class_that_was_not_set_up_is_not_reloaded(kms: Kms, tmp_path: Path) -> None:
    """In production, policies with a new key class whose key is not there are refused with the command that
    makes it; after that command they are taken, in the same process."""
    folder = small_policies(tmp_path / "policies")
    variables = {**PRODUCTION, **kms.variables(kms.token("datavault-replica"))}
    with RunningService.start(
        tmp_path, policies=folder, transit=kms.server, environment=variables
    ) as running:
        (folder / "attributes.yaml").write_text(ADDED, "utf-8")
        running.signal(signal.SIGHUP)
        eventually(lambda: logged(running, "policy_not_loaded"), "the policies are refused")
        [refusal] = [line for line in running.log_lines() if "policy_not_loaded" in line]
        assert "datavault-loyalty" in refusal
        assert "datavault keys init --apply" in refusal
        set_up(kms.settings(tmp_path, folder))
        running.signal(signal.SIGHUP)
        eventually(lambda: logged(running, "policy_loaded"), "the policies are taken")


def test_a_restricted_replica_takes_policies_with_a_class_of_others(
    restricted: RunningService, customer: str
) -> None:
    """A replica that was restricted before the new class came adopts it, and does not serve it."""
    changed = ADDED.replace("loyalty", "leisure")
    (restricted.options.policies / "attributes.yaml").write_text(changed, "utf-8")
    restricted.signal(signal.SIGHUP)
    eventually(lambda: logged(restricted, "policy_loaded"), "the policies are taken")
    assert any("datavault-leisure" in line for line in restricted.log_lines() if "keys_forbidden" in line)
    assert read(restricted, customer, "income").value("income") == 41_000


def logged(service: RunningService, event: str) -> bool:
    return any(event in line for line in service.log_lines())
