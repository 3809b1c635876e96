"""A real OpenBao server over TLS, one for the session, with every key that the product needs."""

from collections.abc import Iterator

import pytest

from vault.crypto.dev_server import DevTransit, start_dev_transit
from vault.crypto.names import STANDARD_CLASSES
from vault.crypto.transit import TransitKeyProvider, TransitSettings
from vault.domain.system import SystemClock


@pytest.fixture(scope="session")
def transit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTransit]:
    """Import it into the test module, or ask for it by `request.getfixturevalue`."""
    server = start_dev_transit(tmp_path_factory.mktemp("transit"))
    try:
        provider_on(server).ensure_keys(STANDARD_CLASSES)
        yield server
    finally:
        server.stop()


def settings_for(server: DevTransit, **changes: object) -> TransitSettings:
    """Settings that reach `server`, some of them changed."""
    known: dict[str, object] = {
        "address": server.address,
        "token_file": server.token_file,
        "ca_certificate": server.ca_certificate,
        "timeout_seconds": 20.0,
    }
    return TransitSettings(**{**known, **changes})  # type: ignore[arg-type]


def provider_on(server: DevTransit, **changes: object) -> TransitKeyProvider:
    """A provider that reaches `server`."""
    return TransitKeyProvider(settings_for(server, **changes), SystemClock())
