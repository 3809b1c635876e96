"""Every way to log in to the KMS, against a real OpenBao set up as in production."""

import secrets
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.transit_production import ProductionTransit
from tests.support.transit_ways import (
    Issuer,
    agent,
    approle,
    by_certificate,
    by_jwt,
    by_kubernetes,
    cluster,
    secret_file,
    settings_on,
)
from vault.assembly import key_provider
from vault.config import load_settings
from vault.crypto.transit import TransitKeyProvider
from vault.crypto.transit_session import TransitSession
from vault.domain.errors import ConfigurationError, KeysUnavailableError
from vault.domain.protocols import WrapItem
from vault.domain.system import SystemClock, SystemRandomness

CONTACT = "datavault-contact"
ITEM = WrapItem(bytes(32), b"context")
NOTHING = 'path "sys/none" { capabilities = ["read"] }'


@pytest.fixture
def server(production_transit: ProductionTransit) -> ProductionTransit:
    return production_transit


@pytest.fixture(params=["token", "token file", "approle", "approle elsewhere", "jwt", "cert", "kubernetes"])
def login(
    request: pytest.FixtureRequest, server: ProductionTransit, tmp_path: Path
) -> Iterator[dict[str, Any]]:
    """Settings of one way to log in."""
    match request.param:
        case "token":
            yield {"token": server.new_token()}
        case "token file":
            yield {"token_file": secret_file(tmp_path / "token", server.new_token())}
        case "approle":
            yield approle(server, tmp_path)
        case "approle elsewhere":
            yield approle(server, tmp_path, mount="bank/services")
        case "jwt":
            yield by_jwt(server, tmp_path, Issuer())
        case "cert":
            yield by_certificate(server, server.authority.issue(f"datavault-{secrets.token_hex(4)}"))
        case "kubernetes":
            with cluster(server) as address:
                yield by_kubernetes(server, tmp_path, address, Issuer())


def provider_with(server: ProductionTransit, **login: Any) -> TransitKeyProvider:
    return TransitKeyProvider(settings_on(server, **login), SystemClock())


def session_with(server: ProductionTransit, **login: Any) -> TransitSession:
    return TransitSession(settings_on(server, **login), SystemClock())


def test_each_way_to_log_in_opens_the_keys(server: ProductionTransit, login: dict[str, Any]) -> None:
    """With a policy that grants no more than the keys' use, and a secret file that is private."""
    provider = provider_with(server, **login)
    try:
        [wrapped] = provider.wrap(CONTACT, [ITEM])
        assert wrapped.startswith(b"vault:v1:")
        assert provider.health().healthy
    finally:
        provider.close()


def test_a_login_that_is_refused_names_way_mount_and_role(server: ProductionTransit, tmp_path: Path) -> None:
    """At start it is the operator's mistake, and the message leads to it; the credential is not in it."""
    wrong = {
        "approle at auth/approle ": approle(server, tmp_path)
        | {"secret_id_file": secret_file(tmp_path / "wrong", "canary-secret")},
        r"jwt at auth/jwt-\w+, role other ": by_jwt(server, tmp_path, Issuer()) | {"role": "other"},
        "cert at auth/cert, role other ": by_certificate(server, server.authority.issue("other"))
        | {"role": "other"},
        "approle at auth/nowhere ": approle(server, tmp_path) | {"auth_mount": "nowhere"},
    }
    for named, login in wrong.items():
        with pytest.raises(ConfigurationError, match=f"refuses the login by {named}") as caught:
            session_with(server, **login).log_in()
        assert "canary-secret" not in "".join(traceback.format_exception(caught.value))
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_the_service_logs_in_when_it_starts(
    server: ProductionTransit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the environment to the KMS: a good role serves, a wrong one stops the start with its reason."""
    login = approle(server, tmp_path)
    monkeypatch.setenv("DATAVAULT_KEYS", "transit")
    monkeypatch.setenv("DATAVAULT_TRANSIT_AUTH", "approle")
    monkeypatch.setenv("DATAVAULT_TRANSIT_ROLE_ID", login["role_id"])
    monkeypatch.setenv("DATAVAULT_TRANSIT_SECRET_ID_FILE", str(login["secret_id_file"]))
    monkeypatch.setenv("VAULT_ADDR", server.address)
    monkeypatch.setenv("VAULT_CACERT", str(server.ca_certificate))
    provider = key_provider(load_settings(), SystemClock(), SystemRandomness())
    assert provider.wrap(CONTACT, [ITEM])
    provider.close()
    monkeypatch.setenv("DATAVAULT_TRANSIT_ROLE_ID", "another")
    with pytest.raises(ConfigurationError, match="refuses the login by approle at auth/approle"):
        key_provider(load_settings(), SystemClock(), SystemRandomness())


def test_a_kms_that_cannot_log_in_is_unavailable(server: ProductionTransit, tmp_path: Path) -> None:
    """Nobody there is no mistake of the operator's: the start may be tried again."""
    login = approle(server, tmp_path)
    session = session_with(server, **login, address="https://127.0.0.1:1")
    with pytest.raises(KeysUnavailableError, match="does not answer"):
        session.log_in()


def test_a_namespace_holds_for_login_and_calls(server: ProductionTransit, tmp_path: Path) -> None:
    """Role and keys of a namespace are used with its name, and are not there without it."""
    server.api("POST", "sys/namespaces/bank")
    server.make_transit("bank")
    login = approle(server, tmp_path, namespace="bank")
    provider = provider_with(server, **login)
    provider.rotate(CONTACT)
    assert provider.info(CONTACT).latest_version == 2
    provider.close()
    assert server.api("GET", f"transit/keys/{CONTACT}")["data"]["latest_version"] == 1
    with pytest.raises(ConfigurationError):
        session_with(server, **login | {"namespace": ""}).log_in()


def test_an_agent_puts_in_its_own_token(server: ProductionTransit, tmp_path: Path) -> None:
    """Through the socket of a real Proxy that demands its header the service needs no credential at all."""
    with agent(server, approle(server, tmp_path)) as socket:
        login = {"address": f"unix://{socket}", "auth": "agent", "ca_certificate": None}
        provider = provider_with(server, **login)
        [wrapped] = provider.wrap(CONTACT, [ITEM])
        health = provider.health()
        provider.close()
    assert wrapped.startswith(b"vault:v1:")
    assert (health.healthy, health.token_seconds_left) == (True, None)


def test_a_token_goes_through_a_socket_too(server: ProductionTransit, tmp_path: Path) -> None:
    """A Proxy may also be the way there only: a token of ours is not replaced by its own."""
    token = server.new_token(NOTHING)
    with agent(server, approle(server, tmp_path)) as socket:
        session = session_with(server, address=f"unix://{socket}", token=token)
        found = session.client().auth.token.lookup_self().json()["data"]["id"]
        session.close()
    assert found == token


def test_an_agent_that_is_away_is_unavailable(server: ProductionTransit, tmp_path: Path) -> None:
    """No socket, or one that nobody listens at, is an outage like any other."""
    login = {"address": f"unix://{tmp_path}/kms.sock", "auth": "agent", "ca_certificate": None}
    health = provider_with(server, **login).health()
    assert not health.healthy
    assert str(tmp_path) not in health.detail


def test_a_rotated_token_file_is_read_again(server: ProductionTransit, tmp_path: Path) -> None:
    """When the KMS refuses the old token the file is read anew, and the very call succeeds."""
    file = secret_file(tmp_path / "token", server.new_token())
    provider = provider_with(server, token_file=file)
    assert provider.wrap(CONTACT, [ITEM])
    old = file.read_text()
    secret_file(file, server.new_token())
    server.revoke(old)
    assert provider.wrap(CONTACT, [ITEM])
    provider.close()
    # a token that was given to it is not its own to give back
    assert server.api("GET", "auth/token/lookup-self", token=file.read_text())


def test_a_replaced_certificate_logs_in(server: ProductionTransit) -> None:
    """A client certificate that was renewed on disk is the one that the next login shows."""
    pair = server.authority.issue(f"datavault-{secrets.token_hex(4)}")
    session = session_with(server, **by_certificate(server, pair, token_ttl="1m"))
    session.log_in()
    token = session.client().token
    server.authority.issue(pair.certificate.stem)
    server.revoke(token)
    assert session.refused(token)
    found = session.client().auth.token.lookup_self().json()["data"]["meta"]["serial_number"]
    session.close()
    assert int(found) == server.authority.serial_number(pair)


def test_the_end_revokes_what_logging_in_gave(server: ProductionTransit, tmp_path: Path) -> None:
    """Nothing that the service has got outlives it, and a closed session is unavailable."""
    session = session_with(server, **approle(server, tmp_path))
    token = session.client().token
    assert server.accepts(token)
    session.close()
    session.close()
    assert not server.accepts(token)
    with pytest.raises(KeysUnavailableError):
        session.client()


def test_no_secret_is_logged_or_shown(server: ProductionTransit, tmp_path: Path) -> None:
    """Neither tokens nor secret ids are in log lines, reprs or the errors of a login that fails later."""
    login = approle(server, tmp_path)
    with capture_logs() as lines:
        provider = provider_with(server, **login)
        provider.wrap(CONTACT, [ITEM])
        token = provider.session.client().token
        secret_id = login["secret_id_file"].read_text()
        secret_file(login["secret_id_file"], "canary-secret")
        server.revoke(token)
        with pytest.raises(KeysUnavailableError) as caught:
            provider.wrap(CONTACT, [ITEM])
        provider.close()
    shown = f"{lines} {provider!r} {vars(provider)} {vars(provider.session)}"
    shown += "".join(traceback.format_exception(caught.value))
    assert {"token_login", "token_renewal_failed"} <= {line["event"] for line in lines}
    assert [secret for secret in (token, secret_id, "canary-secret") if secret in shown] == []
    assert str(tmp_path) not in str(caught.value)
