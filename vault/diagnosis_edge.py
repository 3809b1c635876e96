"""What `datavault doctor` checks of identities: certificates, and the issuers of tokens."""

import time
from collections.abc import Iterator
from typing import Final

from vault.assembly import TLS_FOLDER, jwt_issuers
from vault.config import Settings
from vault.domain.protocols import CallerDirectory
from vault.domain.system import SystemClock
from vault.findings import Finding, Health
from vault.identity.fetch import check_source
from vault.identity.jwt import JwtAuthenticator
from vault.identity.pairs import require_certificates, require_pair

_RENEW_DAYS: Final = 14
_DAY_SECONDS: Final = 86_400


def certificates(settings: Settings) -> Iterator[Finding]:
    """The server's certificate and key, and the CA of client certificates.

    Raises:
        ConfigurationError: one of them cannot be served with.
    """
    if (settings.server_certificate is None) != (settings.server_key is None):
        yield Finding(
            "certificates",
            Health.BAD,
            "only one of server certificate and key is set",
            "set DATAVAULT_SERVER_CERTIFICATE and DATAVAULT_SERVER_KEY, or neither",
        )
        return
    if settings.client_ca is not None:
        require_certificates(settings.client_ca)
    folder = settings.home / TLS_FOLDER
    certificate = settings.server_certificate or folder / "server.pem"
    embedded = settings.server_certificate is None
    if embedded and not certificate.is_file():
        yield Finding(
            "certificates", Health.WARNING, "no server certificate yet", "`datavault serve` makes it"
        )
        return
    leaf = require_pair(certificate, settings.server_key or folder / "server.key")
    days = (leaf.not_valid_after_utc.timestamp() - time.time()) / _DAY_SECONDS
    health = Health.GOOD if days > _RENEW_DAYS else Health.WARNING if days > 0 else Health.BAD
    renew = "restart the service: the embedded CA renews it" if embedded else f"replace {certificate}"
    detail = f"the server certificate is valid for {days:.0f} days"
    yield Finding("certificates", health, detail, "" if health is Health.GOOD else renew)


def tokens(settings: Settings) -> Iterator[Finding]:
    """The issuers of tokens and their keys; nothing where no token is taken.

    Raises:
        ConfigurationError: an issuer's settings are wrong.
    """
    issuers = jwt_issuers(settings)
    if settings.listen_jwt and not issuers:
        yield Finding(
            "tokens",
            Health.WARNING,
            "DATAVAULT_LISTEN_JWT is set and no issuer is: every token is refused",
            "name the issuers as [[jwt_issuers]] in datavault.toml, or turn the port off",
        )
    lacking = JwtAuthenticator(issuers, _nobody, SystemClock()).load()
    for issuer in issuers:
        if issuer.issuer not in lacking:
            yield Finding("tokens", Health.GOOD, f"{issuer.issuer}: keys are at hand")
        elif isinstance(check_source(issuer.jwks), str):
            yield Finding(
                "tokens",
                Health.WARNING,
                f"{issuer.issuer}: no usable keys came from {issuer.jwks}",
                "check the URL and the way there; the service tries again when a token comes",
            )
        else:
            yield Finding(
                "tokens",
                Health.BAD,
                f"{issuer.issuer}: the file {issuer.jwks} is missing or holds no usable keys",
                "put the issuer's JWKS there, or correct jwks in datavault.toml",
            )


def _nobody() -> CallerDirectory:
    raise AssertionError("no token is read here")
