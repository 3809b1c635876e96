"""Connections: from arguments and from the environment, with all that is wrong said at once."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.client import Authority, Issued
from vault.client import ClientConfigurationError, Connection, DatavaultClientError, ErrorReason

VARIABLES = (
    "DATAVAULT_ADDR",
    "DATAVAULT_CACERT",
    "DATAVAULT_CLIENT_CERT",
    "DATAVAULT_CLIENT_KEY",
    "DATAVAULT_TOKEN_FILE",
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def engine(authority: Authority) -> Issued:
    return authority.issue("engine.bank.example")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, authority: Authority, engine: Issued) -> pytest.MonkeyPatch:
    """A complete environment for mTLS."""
    values = ("localhost:50051", authority.ca.certificate, engine.certificate, engine.key)
    for variable, value in zip(VARIABLES, values, strict=False):
        monkeypatch.setenv(variable, str(value))
    monkeypatch.delenv("DATAVAULT_TOKEN_FILE", raising=False)
    return monkeypatch


def problems(**overrides: Any) -> tuple[str, ...]:
    with pytest.raises(ClientConfigurationError) as caught:
        Connection.from_environment(**overrides)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def test_a_complete_environment_makes_a_connection(
    environment: pytest.MonkeyPatch, authority: Authority, engine: Issued
) -> None:
    """Each variable becomes its field."""
    connection = Connection.from_environment()
    assert connection == Connection(
        "localhost:50051", str(authority.ca.certificate), str(engine.certificate), str(engine.key)
    )


def test_an_empty_environment_names_all_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One error names every missing variable."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    said = " ".join(problems())
    assert all(variable in said for variable in VARIABLES)


@pytest.mark.parametrize("missing", VARIABLES[:4])
def test_a_missing_variable_is_named(environment: pytest.MonkeyPatch, missing: str) -> None:
    """One missing variable makes one problem that begins with its name."""
    environment.setenv(missing, "")
    [problem] = problems()
    assert problem.startswith(f"{missing} is missing")


@pytest.mark.parametrize("variable", VARIABLES[1:4])
def test_an_unreadable_file_is_named(environment: pytest.MonkeyPatch, variable: str, tmp_path: Path) -> None:
    """A file that is not there makes one problem with its variable and path."""
    environment.setenv(variable, str(tmp_path / "nowhere.pem"))
    [problem] = problems()
    assert problem.startswith(f"{variable}: {tmp_path / 'nowhere.pem'} cannot be read")


def test_all_problems_are_said_at_once(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bad address and two unreadable files make three problems."""
    environment.setenv("DATAVAULT_ADDR", "nonsense")
    environment.setenv("DATAVAULT_CACERT", str(tmp_path / "ca.pem"))
    environment.setenv("DATAVAULT_CLIENT_KEY", str(tmp_path))
    assert len(problems()) == 3


def test_token_and_certificate_contradict_each_other(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both identities in the environment are one problem, for nobody can know which was meant."""
    (tmp_path / "token").write_text("jwt")
    environment.setenv("DATAVAULT_TOKEN_FILE", str(tmp_path / "token"))
    [problem] = problems()
    assert "DATAVAULT_TOKEN_FILE and DATAVAULT_CLIENT_CERT contradict each other" in problem


def test_an_identity_given_replaces_that_of_the_environment(environment: pytest.MonkeyPatch) -> None:
    """An override of the token leaves the certificate of the environment aside."""
    connection = Connection.from_environment(token="jwt")
    assert (connection.token, connection.client_certificate, connection.client_key) == ("jwt", None, None)


def test_overrides_win(environment: pytest.MonkeyPatch) -> None:
    """A field given explicitly beats its variable."""
    connection = Connection.from_environment(address="other:1", server_name="datavault")
    assert (connection.address, connection.server_name) == ("other:1", "datavault")


def test_an_unknown_override_is_refused(environment: pytest.MonkeyPatch) -> None:
    """A misspelt field is an error, not ignored."""
    assert problems(adress="other:1") == ("adress is no field of a connection",)


def test_the_token_file_is_read_at_every_use(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A renewed token is used without a new connection."""
    file = tmp_path / "token"
    file.write_text("one\n")
    environment.setenv("DATAVAULT_TOKEN_FILE", str(file))
    environment.delenv("DATAVAULT_CLIENT_CERT")
    environment.delenv("DATAVAULT_CLIENT_KEY")
    token = Connection.from_environment().token
    assert callable(token)
    first = token()
    file.write_text("two\n")
    assert (first, token()) == ("one", "two")


@pytest.mark.parametrize(
    "content", [None, b"", b" \n", b"\xff\xfe"], ids=["gone", "empty", "blank", "binary"]
)
def test_a_bad_token_file_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    """A token file that is gone, empty or no text is said when the connection is made."""
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    environment.setenv("DATAVAULT_TOKEN_FILE", str(tmp_path / "token"))
    environment.delenv("DATAVAULT_CLIENT_CERT")
    environment.delenv("DATAVAULT_CLIENT_KEY")
    [problem] = problems()
    assert problem.startswith("DATAVAULT_TOKEN_FILE: ")


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("vault.bank.example:50051", "vault.bank.example:50051"),
        ("https://vault.bank.example:50051", "vault.bank.example:50051"),
        ("https://vault.bank.example:50051/", "vault.bank.example:50051"),
        ("10.0.0.7:1", "10.0.0.7:1"),
        ("[::1]:65535", "[::1]:65535"),
    ],
)
def test_both_forms_of_an_address_are_taken(address: str, target: str) -> None:
    """`host:port` and `https://host:port` name the same server."""
    assert Connection(address, "ca.pem", token="jwt").target == target


@pytest.mark.parametrize(
    "address",
    [
        "",
        "vault",
        "vault:",
        "vault:0",
        "vault:65536",
        "http://vault:50051",
        "https://vault:50051/path",
        "unix:/run/vault",
        "dns:///vault:50051",
        "vault:50051\n",
        "a b:1",
        7,
    ],
)
def test_another_address_is_refused(address: Any) -> None:
    """Anything else is an error that names the field."""
    with pytest.raises(ClientConfigurationError, match="address"):
        Connection(address, "ca.pem", token="jwt")


@pytest.mark.parametrize(
    "fields",
    [
        {"ca_certificate": ""},
        {"token": None},
        {"client_certificate": "c.pem"},
        {"client_key": "c.key"},
        {"token": None, "client_certificate": "c.pem"},
        {"token": None, "client_key": "c.key"},
    ],
)
def test_a_contradictory_connection_is_refused(fields: dict[str, Any]) -> None:
    """A connection without CA, or with no, half or two identities, cannot be made."""
    with pytest.raises(ClientConfigurationError):
        Connection(**({"address": "vault:1", "ca_certificate": "ca.pem", "token": "jwt"} | fields))


def test_a_key_of_another_certificate_is_refused(
    environment: pytest.MonkeyPatch, authority: Authority
) -> None:
    """Certificate and key that do not belong together are said to be no pair."""
    environment.setenv("DATAVAULT_CLIENT_KEY", str(authority.issue("other").key))
    [problem] = problems()
    assert "no certificate with its unencrypted key" in problem


def test_a_swapped_certificate_and_key_are_refused(environment: pytest.MonkeyPatch, engine: Issued) -> None:
    """The key in place of the certificate, and the other way round, are no pair."""
    environment.setenv("DATAVAULT_CLIENT_CERT", str(engine.key))
    environment.setenv("DATAVAULT_CLIENT_KEY", str(engine.certificate))
    assert len(problems()) == 1


def test_an_encrypted_key_is_refused_without_asking_for_its_password(
    environment: pytest.MonkeyPatch, engine: Issued, tmp_path: Path
) -> None:
    """An encrypted key is an error; nothing waits for a password on the terminal."""
    key = serialization.load_pem_private_key(engine.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    (tmp_path / "locked.key").write_bytes(pem)
    environment.setenv("DATAVAULT_CLIENT_KEY", str(tmp_path / "locked.key"))
    [problem] = problems()
    assert "unencrypted key" in problem


def test_a_file_without_certificates_is_no_authority(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A CA file that holds no PEM certificate is named."""
    (tmp_path / "ca.pem").write_text("hello")
    environment.setenv("DATAVAULT_CACERT", str(tmp_path / "ca.pem"))
    [problem] = problems()
    assert problem.startswith("DATAVAULT_CACERT")


def test_neither_token_nor_key_material_is_shown(authority: Authority, engine: Issued) -> None:
    """The repr of a connection and of what it reads holds no token and no key."""
    with_token = Connection("vault:1", "ca.pem", token="secret-token")
    material = Connection("vault:1", authority.ca.certificate, engine.certificate, engine.key).read()
    assert "secret-token" not in repr(with_token)
    assert "PRIVATE KEY" not in repr(material)


def test_a_configuration_error_is_caught_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """ClientConfigurationError is a DatavaultClientError with the reason CONFIGURATION."""
    with pytest.raises(DatavaultClientError) as caught:
        Connection("", "")
    assert caught.value.reason is ErrorReason.CONFIGURATION
