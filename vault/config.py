"""Configuration: environment, then `datavault.toml`, then defaults (architecture.md, "Configuration")."""

import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from pydantic_settings.sources import InitSettingsSource

from vault.domain.buckets import Bucket, parse_place
from vault.domain.errors import ConfigurationError
from vault.domain.faults import did_you_mean, plain_fault
from vault.domain.limits import LIMITS
from vault.domain.secret_files import refuse_loose

CONFIG_FILE: Final = "datavault.toml"
_FIELD: Final = re.compile(r'field "(\w+)"')
_JSON_EXAMPLE: Final = '[{"issuer": "https://idp.example", "audience": "datavault", "jwks": "jwks.json"}]'
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:]+\]|[^:\s\[\]]+):([0-9]{1,5})")
_PASSWORD: Final = re.compile(r"(://[^/@:]*:)[^/@]*@")
_ORIGIN: Final = re.compile(r"[a-z0-9][a-z0-9.-]*(?:/[A-Za-z0-9._~-]+)*")


class JwtIssuerSettings(BaseModel):
    """One trusted issuer of JWTs: `[[jwt_issuers]]` in datavault.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str
    audience: str
    jwks: str = Field(description="path of a JWKS file, or its https URL")
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Every setting. The environment name is `DATAVAULT_<NAME>`, or the name Vault users know."""

    model_config = SettingsConfigDict(
        env_prefix="DATAVAULT_", extra="forbid", frozen=True, populate_by_name=True
    )

    home: Path = Field(Path(".datavault"), description="data folder: database, local keys, CA, outside store")
    database_url: str = Field(
        "", description="sqlite:///PATH or postgresql://USER@HOST/NAME; empty is SQLite in the home folder"
    )
    database_password_file: Path | None = Field(None, description="file with PostgreSQL's password")
    database_connections: int = Field(
        20, ge=4, le=200, description="PostgreSQL connections of one process, at most"
    )
    database_sharded: bool = Field(
        False, description="PostgreSQL: the tables are distributed; a read looks up and loads apart"
    )
    keys: Literal["local", "transit"] = Field("local", description="where the keys live")
    policies: Path = Field(Path("policies"), description="policy folder")
    policy_engine: Literal["compiled", "casbin"] = Field("compiled", description="which engine decides")
    environment: Literal["development", "production"] = "development"
    workers: int = Field(1, ge=1, le=64, description="processes that serve")
    listen: str = Field("127.0.0.1:8443", description="main port, mTLS")
    listen_jwt: str = Field("", description="second TLS port for JWT callers; empty is off")
    listen_health: str = Field("127.0.0.1:8081", description="grpc.health.v1 in plain text; empty is off")
    metrics: str = Field("", description="Prometheus metrics over HTTP; empty is off")
    server_names: str = Field("localhost", description="DNS names of the server certificate, comma-separated")
    server_certificate: Path | None = Field(None, description="PEM; without it the embedded CA issues one")
    server_key: Path | None = None
    client_ca: Path | None = Field(None, description="CA of client certificates; default the embedded CA")
    origin: str = Field("datavault.local/log", description="name of the audit log: a schema-less URL")
    logs: Literal["one", "tenant"] = Field(
        "one", description="one audit log for all tenants, or one for each; no way back from the second"
    )
    outside_store: str = Field(
        "", description="folder, or s3://, gs:// or az:// URL, outside the database; default in home"
    )
    outside_store_cacert: Path | None = Field(None, description="CA of the object store, PEM")
    reflection: bool = True
    jwt_issuers: tuple[JwtIssuerSettings, ...] = ()
    dek_cache_seconds: float = Field(
        LIMITS.dek_cache_seconds,
        ge=1,
        le=LIMITS.dek_cache_seconds,
        description="how long an unwrapped data key serves, also while the KMS is away",
    )

    transit_address: str = Field("", validation_alias=_names("VAULT_ADDR", "transit_address"))
    transit_token: SecretStr = Field(SecretStr(""), validation_alias=_names("VAULT_TOKEN", "transit_token"))
    transit_token_file: Path | None = None
    transit_cacert: Path | None = Field(None, validation_alias=_names("VAULT_CACERT", "transit_cacert"))
    transit_client_cert: Path | None = Field(
        None, validation_alias=_names("VAULT_CLIENT_CERT", "transit_client_cert")
    )
    transit_client_key: Path | None = Field(
        None, validation_alias=_names("VAULT_CLIENT_KEY", "transit_client_key")
    )
    transit_namespace: str = Field("", validation_alias=_names("VAULT_NAMESPACE", "transit_namespace"))
    transit_mount: str = "transit"
    transit_auth: Literal["token", "approle", "kubernetes", "jwt", "cert", "agent"] = Field(
        "token", description="how to log in to the KMS"
    )
    transit_auth_mount: str = Field("", description="mount of the way to log in; default its name")
    transit_role: str = Field("", description="role to log in as: kubernetes, jwt, cert")
    transit_role_id: SecretStr = Field(SecretStr(""), description="approle: the role id")
    transit_secret_id_file: Path | None = Field(None, description="approle: file with the secret id")
    transit_jwt_file: Path | None = Field(None, description="jwt, kubernetes: file with the token to show")
    transit_timeout_seconds: float = Field(
        2.0, gt=0, le=10, description="one attempt at the KMS; a call of it ends within twice of this"
    )
    transit_batch_items: int = Field(
        200, ge=1, le=10_000, description="keys in one request to the KMS; halved where it refuses so many"
    )

    @field_validator(
        "database_password_file",
        "server_certificate",
        "server_key",
        "client_ca",
        "outside_store_cacert",
        "transit_token_file",
        "transit_cacert",
        "transit_client_cert",
        "transit_client_key",
        "transit_secret_id_file",
        "transit_jwt_file",
        mode="before",
    )
    @classmethod
    def _unset_if_empty(cls, value: object) -> object:
        # a deployment leaves a variable empty to leave it out; as a path that would be the working folder
        return None if value == "" else value

    @field_validator("listen", "listen_jwt", "listen_health", "metrics")
    @classmethod
    def _check_address(cls, value: str) -> str:
        match = _ADDRESS.fullmatch(value)
        if value and (match is None or int(match[2]) > 65_535):
            raise ValueError("must be host:port, for example 127.0.0.1:8443 (port 0 means any free one)")
        return value

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        if not value:
            raise ValueError("must not be empty")
        return value

    @field_validator("outside_store")
    @classmethod
    def _check_outside(cls, value: str) -> str:
        parse_place(value)
        return value

    @field_validator("origin")
    @classmethod
    def _check_origin(cls, value: str) -> str:
        if not _ORIGIN.fullmatch(value):
            raise ValueError("must be a schema-less URL without spaces or '+', e.g. bank.example/datavault")
        return value

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{quote(str(self.home / 'datavault.db'))}"

    @property
    def outside(self) -> Path | Bucket:
        """The outside store in force."""
        return parse_place(self.outside_store) if self.outside_store else self.home / "outside"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file; no .env and no secrets folder."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _read_file())


def make_home(settings: Settings) -> None:
    """Make the data folder, for its owner alone.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"DATAVAULT_HOME: {settings.home} cannot be made: {error.strerror}"
        ) from None


class _HandedOver(Settings):
    """Settings that somebody else has read: neither the environment nor the file adds to them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments alone."""
        return (init_settings,)


def hand_over(settings: Settings) -> dict[str, Any]:
    """The settings as plain JSON, secrets included: for another process of this service."""
    plain = settings.model_dump(mode="json")
    values = {name: getattr(settings, name) for name in plain}
    secrets = {
        name: value.get_secret_value() for name, value in values.items() if isinstance(value, SecretStr)
    }
    return plain | secrets


def take_over(plain: Mapping[str, Any]) -> Settings:
    """The settings that `hand_over` gave, whatever environment and file say by now.

    Raises:
        ConfigurationError: another release wrote them.
    """
    try:
        return _HandedOver(**plain)
    except ValidationError:
        raise ConfigurationError("the settings were handed over by another release: restart") from None


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """One row of `datavault config`: secrets are shown as `(set)`."""

    name: str
    environment: str
    value: str
    source: str


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises:
        ConfigurationError: names each wrong setting and what would be right.
    """
    _refuse_unknown_environment(os.environ)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        in_file = _read_file().keys() - overrides.keys()
        problems = [_problem(detail["loc"], detail, in_file) for detail in details]
        raise ConfigurationError("configuration: " + "; ".join(problems)) from None
    except SettingsError as error:
        # a value of the environment that is not JSON: the text names the field, the cause holds the value
        named = _FIELD.search(str(error))
        name = _environment_name(named[1]) if named else "a setting"
        raise ConfigurationError(f"configuration: {name}: must be JSON: {_JSON_EXAMPLE}") from None


def settings_in_force(settings: Settings) -> list[SettingInForce]:
    """What is in force and where it comes from."""
    in_file = _read_file()
    rows = []
    for name in Settings.model_fields:
        environment = _environment_name(name)
        source = "environment" if environment in os.environ else CONFIG_FILE if name in in_file else "default"
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            shown = "(set)" if value.get_secret_value() else ""
        elif name == "database_url":
            shown = _PASSWORD.sub(r"\1(set)@", value)
        elif name == "jwt_issuers":
            shown = ", ".join(issuer.issuer for issuer in value)
        else:
            shown = "" if value is None else str(value)
        rows.append(SettingInForce(name, environment, shown, source))
    return rows


def _problem(location: tuple[int | str, ...], detail: Mapping[str, Any], in_file: Collection[str]) -> str:
    """One wrong setting, by the name under which its reader has written it."""
    first, *inner = map(str, location)
    name = next((name for name in Settings.model_fields if first in (name, _environment_name(name))), first)
    if name in Settings.model_fields and _environment_name(name) in os.environ:
        name = _environment_name(name)
    elif name in in_file:
        name = f"{_path()}: {name}"
    place = ".".join((name, *inner))
    if detail["type"] != "extra_forbidden":
        return f"{place}: {plain_fault(detail)}"
    known = JwtIssuerSettings.model_fields if inner else Settings.model_fields
    return f"{place}: no such setting{did_you_mean(str(location[-1]), known)}"


def _environment_name(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return f"DATAVAULT_{name.upper()}"


_OTHER_SETTINGS: Final = frozenset(
    f"DATAVAULT_{name}"
    for name in (
        "ADDR", "CACERT", "CLIENT_CERT", "CLIENT_KEY", "TOKEN_FILE", "CONFIG", "DEBUG", "COMPLETE", "COMPILE",
    )
)  # fmt: skip
"""`COMPILE` is that of setup.py: who builds and starts the service in one shell has it set."""


def _refuse_unknown_environment(environment: Mapping[str, str]) -> None:
    known = {_environment_name(name) for name in Settings.model_fields} | _OTHER_SETTINGS
    for name in environment:
        if name.startswith("DATAVAULT_") and name not in known and not name.startswith("DATAVAULT_TEST_"):
            raise ConfigurationError(
                f"{name}: no such setting{did_you_mean(name, known)}; `datavault config` lists all"
            )


def _path() -> Path:
    return Path(os.environ.get("DATAVAULT_CONFIG", CONFIG_FILE))


def _read_file() -> dict[str, Any]:
    path = _path()
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if "DATAVAULT_CONFIG" in os.environ:
            raise ConfigurationError(f"DATAVAULT_CONFIG: {path} does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {type(error).__name__}") from None
    try:
        found = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    for name in _secrets_in(found):
        refuse_loose(path, name)
    return found


def _secrets_in(found: Mapping[str, Any]) -> Iterator[str]:
    """Names under which the file sets a secret."""
    for name, setting in Settings.model_fields.items():
        if setting.annotation is SecretStr:
            yield from (written for written in (name, _environment_name(name)) if found.get(written))
    if _PASSWORD.search(str(found.get("database_url", ""))):
        yield "database_url"
