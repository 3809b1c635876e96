"""Where key sets come from: a file, or https with the server's certificate verified. Never http."""

import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from vault.domain.errors import ConfigurationError

Source = str | Path
Fetch = Callable[[Source], bytes]

DOCUMENT_BYTES: Final = 256 * 1024
FETCH_SECONDS: Final = 5.0


def check_source(source: Source) -> Source:
    """`source` as it is fetched: an https URL stays text, all else is a file's path.

    Raises:
        ConfigurationError: a URL of another scheme, without host, or with user information or a fragment.
    """
    if isinstance(source, Path) or "://" not in source:
        return Path(source)
    try:
        parts = urlsplit(source)
        valid = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ConfigurationError("jwks must be a file or an https URL") from None
    if not valid or parts.username is not None or parts.fragment:
        raise ConfigurationError("jwks must be a file or an https URL with nothing but host, port and path")
    return source


def fetcher(ca_file: Path | None = None) -> Fetch:
    """Fetches documents of at most 256 KiB; every network step waits at most 5 seconds.

    `ca_file` are the certificates to trust (PEM) instead of the system's. Redirects are refused: the URL of
    the keys is the operator's choice. Whatever fails raises, with an error of its kind (OSError, ValueError,
    HTTPException).

    Raises:
        ConfigurationError: `ca_file` cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise ConfigurationError(f"{ca_file} holds no certificates in PEM") from None
    opener = _https_only(context)

    def fetch(source: Source) -> bytes:
        if isinstance(source, Path):
            with source.open("rb") as file:
                return _bounded(file.read(DOCUMENT_BYTES + 1))
        with opener.open(source, timeout=FETCH_SECONDS) as response:
            return _bounded(response.read(DOCUMENT_BYTES + 1))

    return fetch


def _https_only(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    # build_opener would add handlers for http, ftp, file: and redirects; what is not added cannot be reached
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _bounded(content: bytes) -> bytes:
    if len(content) > DOCUMENT_BYTES:
        raise ValueError("the key set is larger than 256 KiB")
    return content
