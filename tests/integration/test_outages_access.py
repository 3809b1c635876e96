"""The KMS answers, and what the service needs there is gone: its policy, its token, a key, old versions of a
key, the certificate it trusts. A real server in each case."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.faults import add_customer, eventually, read
from tests.support.outages import (
    BOTH,
    Scene,
    bears,
    cold_customers,
    expected,
    heals,
    options,
    reasons,
    refuses_write,
    values,
    without_policy,
    write_secret,
)
from tests.support.service import RunningService
from tests.support.transit_certificates import KmsAuthority
from tests.support.transit_production import ProductionTransit
from vault.client import DenialReason

pytestmark = pytest.mark.xdist_group("outages")

CONTACT = "transit/keys/datavault-contact"
"""The key of the email address."""


@contextlib.contextmanager
def revoked(scene: Scene) -> Iterator[None]:
    """The token is not valid any more, until the file has another one: 403."""
    scene.server.revoke(scene.token_file.read_text("ascii"))
    try:
        yield
    finally:
        write_secret(scene.token_file, scene.new_token())


@contextlib.contextmanager
def deleted(server: ProductionTransit, key: str) -> Iterator[None]:
    """The key is gone, until the operator restores the KMS from its backup."""
    backup = snapshot(server)
    server.api("POST", f"{key}/config", {"deletion_allowed": True})
    server.api("DELETE", key)
    try:
        yield
        assert not exists(server, key), "nobody made another key of this name"
    finally:
        restore(server, backup)


@contextlib.contextmanager
def untrusted(scene: Scene, other: KmsAuthority) -> Iterator[None]:
    """The KMS is restarted with a certificate that the service has no reason to trust, until the operator
    gives it the CA."""
    known = scene.server.authority
    change_certificate(scene.server, other)
    try:
        yield
        scene.ca_certificate.write_bytes(other.certificate.read_bytes())
        heals(scene, scene.cold())
    finally:
        change_certificate(scene.server, known)
        scene.ca_certificate.write_bytes(known.certificate.read_bytes())


def test_policy_taken_away(stage: Scene) -> None:
    """A token that may do nothing any more, and everything again later, is borne as promised."""
    bears(stage, without_policy(stage))


def test_token_revoked(stage: Scene) -> None:
    """A token that is revoked, and replaced in its file later, is borne as promised."""
    bears(stage, revoked(stage))


def test_token_revoked_that_was_got_by_logging_in(stage: Scene, tmp_path: Path) -> None:
    """A service that logs in notices that its token was revoked, and logs in anew: no read fails for it."""
    told = options(tmp_path, stage.server, environment=approle(stage, tmp_path))
    cold, another = cold_customers(tmp_path, stage.server, told)[:2]
    with RunningService(tmp_path, told) as service:
        service.launch()
        assert values(read(service, cold, *BOTH)) == expected(cold)
        stage.server.api("POST", "sys/leases/revoke-prefix/auth/approle/login")
        assert values(read(service, another, *BOTH)) == expected(another)


def test_key_deleted(stage: Scene) -> None:
    """Without the key of one class only its attributes are lost, until the key is back from the backup."""
    bears(stage, deleted(stage.server, CONTACT), lost=["email"])


def test_old_versions_refused(stage: Scene) -> None:
    """With min_decryption_version raised over data keys that are in use, their attributes are denied and
    cannot be written; other classes and new customers go on; lowered again, all is read."""
    service, server, warm, cold = stage.service, stage.server, stage.warm(), stage.cold()
    server.api("POST", f"{CONTACT}/rotate")
    server.api("POST", f"{CONTACT}/config", {"min_decryption_version": 2})
    try:
        assert values(read(service, warm, *BOTH)) == expected(warm)
        answer = read(service, cold, *BOTH)
        assert reasons(answer) == {"email": DenialReason.KEY_UNAVAILABLE}
        assert answer.value("income") == 41_000
        before = stage.rows()
        refuses_write(service, cold)
        assert stage.rows() == before
        new = add_customer(service)
        assert values(read(service, new, *BOTH)) == expected(new)
    finally:
        server.api("POST", f"{CONTACT}/config", {"min_decryption_version": 1})
    heals(stage, cold)


def test_certificate_renewed(stage: Scene) -> None:
    """A KMS that is restarted with another certificate of the same CA is used as before."""
    process, cold = stage.service.process.pid, stage.cold()
    change_certificate(stage.server, stage.server.authority)
    heals(stage, cold)
    assert stage.service.process.pid == process


def test_certificate_of_another_authority(stage: Scene, tmp_path: Path) -> None:
    """A KMS whose certificate is of an unknown CA gets no request; with the CA in the file that the service
    was told of, it goes on without a restart."""
    bears(stage, untrusted(stage, KmsAuthority(tmp_path / "other", "other root")))


def approle(scene: Scene, folder: Path) -> dict[str, str]:
    """What a service is told that logs in as a role of the KMS, with the policy of the scene."""
    api = scene.server.api
    api("POST", "sys/auth/approle", {"type": "approle"})
    api("POST", "auth/approle/role/replica", {"token_policies": [scene.policy], "token_ttl": "1h"})
    secret = api("POST", "auth/approle/role/replica/secret-id")["data"]["secret_id"]
    return {
        "DATAVAULT_TRANSIT_TOKEN_FILE": "",
        "DATAVAULT_TRANSIT_AUTH": "approle",
        "DATAVAULT_TRANSIT_ROLE_ID": api("GET", "auth/approle/role/replica/role-id")["data"]["role_id"],
        "DATAVAULT_TRANSIT_SECRET_ID_FILE": str(write_secret(folder / "secret-id", secret)),
    }


def change_certificate(server: ProductionTransit, authority: KmsAuthority) -> None:
    """Restart with a new certificate of `authority`, so that every connection begins anew."""
    server.new_certificate(authority)
    server.ca_certificate = authority.certificate
    server.restart()


def snapshot(server: ProductionTransit) -> bytes:
    """The backup of all that the KMS holds, as its operators make it."""
    return _raw(server, "GET", "sys/storage/raft/snapshot").content


def restore(server: ProductionTransit, backup: bytes) -> None:
    """Put it back, and wait until the KMS serves it."""
    _raw(server, "POST", "sys/storage/raft/snapshot-force", data=backup)
    eventually(lambda: exists(server, CONTACT), "the KMS serves its backup")


def exists(server: ProductionTransit, key: str) -> bool:
    """Whether the KMS has a key."""
    return _raw(server, "GET", key, expect=(200, 404, 503)).status_code == 200


def _raw(
    server: ProductionTransit, method: str, path: str, expect: tuple[int, ...] = (200, 204), **more: Any
) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(
            method,
            f"{server.address}/v1/{path}",
            headers={"X-Vault-Token": server.root_token},
            verify=str(server.ca_certificate),
            timeout=60,
            **more,
        )
    assert answer.status_code in expect, f"{method} {path}: {answer.status_code}"
    return answer
