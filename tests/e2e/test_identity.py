"""Who calls is proven by a client certificate on the main port, by a token on the second one."""

import time
from pathlib import Path

import grpc
import pytest

from tests.support import identity, wire
from tests.support.service import RunningService
from vault.domain.system import SystemClock, SystemRandomness
from vault.identity.authority import Authority

READ = wire.read_request("nobody", "fraud-detection", ["email"])


def read_with(channel: grpc.Channel, *metadata: tuple[str, str]) -> wire.Failure:
    return wire.refused(lambda: wire.data_stub(channel).ReadAttributes(READ, timeout=10, metadata=metadata))


def with_token(service: RunningService, token: str) -> wire.Failure:
    return read_with(service.bare_channel(port="jwt"), ("authorization", f"Bearer {token}"))


def test_a_certificate_of_callers_yaml_is_answered(service: RunningService) -> None:
    """A certificate of the embedded CA with a SPIFFE id of callers.yaml proves its caller."""
    answer = wire.data_stub(service.channel("fraud-detection")).ReadAttributes(READ, timeout=10)
    assert answer.record.record_id


def test_without_a_client_certificate_the_handshake_fails(service: RunningService) -> None:
    """The main port speaks with nobody who shows no certificate."""
    failure = read_with(service.bare_channel())
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.reason == ""


def test_a_certificate_of_another_ca_fails_the_handshake(service: RunningService, tmp_path: Path) -> None:
    """A certificate with the right name, signed by somebody else, proves nothing."""
    foreign = Authority.open(tmp_path / "ca", SystemClock(), SystemRandomness())
    issued = foreign.issue_client("fraud-detection", "spiffe://bank.example/fraud-detection")
    failure = read_with(service.bare_channel(*issued.write(tmp_path / "out", "fraud-detection")))
    assert failure.code is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_that_is_mapped_to_nobody_is_unauthenticated(service: RunningService) -> None:
    """The CA's signature alone makes no caller: callers.yaml must name the identity."""
    failure = read_with(service.channel("somebody-else"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert failure.domain == "datavault"


def test_calls_of_nobody_are_not_on_record(service: RunningService) -> None:
    """Calls without a mapped identity are counted, not recorded: there is nobody to record."""
    read_with(service.channel("somebody-else"))
    assert all("somebody-else" not in record["identity"] for record in service.records())


def test_a_bearer_token_is_no_identity_on_the_main_port(service: RunningService) -> None:
    """On the main port the certificate counts, whatever a token beside it says."""
    header = ("authorization", f"Bearer {service.token('privacy-office')}")
    answer = wire.data_stub(service.channel("fraud-detection")).ReadAttributes(
        READ, timeout=10, metadata=[header]
    )
    (record,) = [each for each in service.records() if each["id"] == answer.record.record_id]
    assert record["caller"] == "fraud-detection"


def test_a_token_of_the_issuer_proves_its_caller(service: RunningService) -> None:
    """Issuer and subject of a good token are mapped by callers.yaml, and the record names both."""
    number = service.customer()
    service.client("importer").write_attributes(number, {"email": "a@b.example"}, jurisdictions=["EU"])
    answer = service.jwt_client("privacy-office").read_attributes(
        number, purpose="subject-rights", attributes=["email"]
    )
    assert answer.value("email") == "a@b.example"
    (record,) = [each for each in service.records() if each["id"] == answer.record_id]
    assert record["caller"] == "privacy-office"
    assert record["identity"].startswith("jwt:")


def test_without_a_token_the_second_port_refuses(service: RunningService) -> None:
    """No authorization header, no caller."""
    assert read_with(service.bare_channel(port="jwt")).reason == "UNAUTHENTICATED"


def test_a_client_certificate_is_no_identity_on_the_second_port(service: RunningService) -> None:
    """The second port asks for no certificate, so one that is offered proves nothing there."""
    certificate, key = service.certificate("fraud-detection")
    failure = read_with(service.bare_channel(certificate, key, port="jwt"))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": int(time.time()) - 3_600, "iat": int(time.time()) - 7_200}, id="expired"),
        pytest.param({"exp": None}, id="without an expiry"),
        pytest.param({"aud": "another-service"}, id="for another audience"),
        pytest.param({"aud": None}, id="for no audience"),
        pytest.param({"iss": "https://idp.attacker.example"}, id="of another issuer"),
        pytest.param({"sub": "nobody"}, id="of a subject mapped to nobody"),
        pytest.param({"sub": "fraud-detection"}, id="of a caller that has no token identity"),
        pytest.param({"number": 1}, id="signed by another key"),
        pytest.param({"algorithm": "RS256", "kid": "k1"}, id="signed by another algorithm under that key id"),
    ],
)
def test_a_token_that_is_wrong_in_one_thing_is_unauthenticated(
    service: RunningService, changes: dict[str, object]
) -> None:
    """Each token here is good but for one thing, and each is refused without saying more than that."""
    failure = with_token(service, service.token("privacy-office", **changes))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


@pytest.mark.parametrize("name", ["none", "None", "NONE", ""])
def test_a_token_without_signature_is_unauthenticated(service: RunningService, name: str) -> None:
    """`alg: none` in any spelling is no algorithm."""
    now = int(time.time())
    body = identity.claims(sub="privacy-office", iat=now, exp=now + 600)
    token = identity.forged({"alg": name, "typ": "JWT", "kid": "k1"}, body)
    assert with_token(service, token).code is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_signed_with_the_public_key_as_a_secret_is_unauthenticated(service: RunningService) -> None:
    """Algorithms are pinned: the issuer's public key is never taken for an HMAC secret."""
    now = int(time.time())
    body = identity.claims(sub="privacy-office", iat=now, exp=now + 600)
    secret = identity.key_set(identity.jwk("ES256"))
    token = identity.forged({"alg": "HS256", "typ": "JWT", "kid": "k1"}, body, secret)
    assert with_token(service, token).code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("Basic dXNlcjpwYXNz", id="another scheme"),
        pytest.param("Bearer", id="no token"),
        pytest.param("Bearer a.b.c", id="no token at all"),
        pytest.param("Bearer " + "x" * 6_000, id="a very long one"),
    ],
)
def test_an_authorization_header_that_holds_no_token_is_unauthenticated(
    service: RunningService, header: str
) -> None:
    """What is no bearer token is refused like a wrong one."""
    failure = read_with(service.bare_channel(port="jwt"), ("authorization", header))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED


def test_two_tokens_are_none(service: RunningService) -> None:
    """Two authorization headers leave open which one counts, so neither does."""
    channel = service.bare_channel(port="jwt")
    good = ("authorization", f"Bearer {service.token('privacy-office')}")
    assert read_with(channel, good, good).code is grpc.StatusCode.UNAUTHENTICATED


def test_the_reason_of_a_refused_token_stays_inside(service: RunningService) -> None:
    """A refused token's content does not come back in the error."""
    token = service.token("privacy-office", aud="canary-audience")
    failure = with_token(service, token)
    assert "canary-audience" not in failure.text
    assert token[:40] not in failure.text


def test_streams_prove_the_caller_too(service: RunningService) -> None:
    """A stream of nobody ends before anything is read."""
    stub = wire.data_stub(service.channel("somebody-else"))
    failure = wire.refused(lambda: list(stub.BatchReadAttributes(iter([]), timeout=10)))
    assert failure.reason == "UNAUTHENTICATED"
