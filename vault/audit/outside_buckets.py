"""Opening the bucket of an outside store. Credentials come from where the provider's own tools have them:
variables, web identity, the role of the machine or container; never from the setting.
"""

import ipaddress
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from vault.domain.buckets import Bucket
from vault.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CONNECT_SECONDS: Final = 2.0
REQUEST_SECONDS: Final = 5.0
RETRYING_SECONDS: Final = 4.0
"""After this no request is tried again, so that none lasts longer than the two together: the integrator comes
again by itself, and a start or a stop must not hang."""
_RETRY: Final["RetryConfig"] = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=RETRYING_SECONDS),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}
_ENDPOINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": (),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


def open_bucket(bucket: Bucket, root_certificate: bytes | None = None) -> ObjectStore:
    """The objects under the bucket's prefix; nothing is connected yet.

    Args:
        root_certificate: PEM of a CA to trust besides those of the system.

    Raises:
        ConfigurationError: a variable of the provider is missing or wrong.
    """
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "allow_http": _plain_http(_ENDPOINTS[bucket.scheme]),
    }
    if root_certificate is not None:
        client["root_certificate"] = root_certificate
    prefix = bucket.prefix or None
    try:
        match bucket.scheme:
            case "s3":
                return S3Store(bucket.name, prefix=prefix, client_options=client, retry_config=_RETRY)
            case "gs":
                return GCSStore(bucket.name, prefix=prefix, client_options=client, retry_config=_RETRY)
            case _:
                return AzureStore(bucket.name, prefix=prefix, client_options=client, retry_config=_RETRY)
    except (BaseError, OSError, ValueError):
        # what the library says may hold a credential
        raise ConfigurationError(
            f"DATAVAULT_OUTSIDE_STORE: {bucket.scheme}:// cannot be opened: check the variables of its "
            "provider (account, region, endpoint, credentials) and DATAVAULT_OUTSIDE_STORE_CACERT"
        ) from None


def _plain_http(names: tuple[str, ...]) -> bool:
    """Whether an endpoint on this machine is asked without TLS; any other must have it."""
    plain = {name: url for name in names if (url := urlsplit(os.environ.get(name, ""))).scheme == "http"}
    for name, url in plain.items():
        if not _loopback(url.hostname or ""):
            raise ConfigurationError(f"{name}: must be https, except on loopback")
    return bool(plain)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
