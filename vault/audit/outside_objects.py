"""The outside store in an object store: S3 and what speaks it, Google Cloud, Azure (docs/adr/0021).

What the library says may hold URLs and keys, so none of it is repeated.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

import structlog
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore as Objects

from vault.audit.outside import ANOTHER_ENTRY, entry_number, is_entry, path_segments
from vault.domain.errors import IntegrityError, StoreUnavailableError

_log = structlog.get_logger("datavault.audit")

_PAGE: Final = 1_000
"""Objects that one listing request gives, at most (S3, Google Cloud)."""
_HIGHEST: Final = 10**20 - 1
_PROOF: Final = "put-if-absent"
_REFUSED: Final = (
    "the object store refuses: the credentials must allow to list, get and put under DATAVAULT_OUTSIDE_STORE"
)
_MISSING: Final = "the object store has no such bucket: check DATAVAULT_OUTSIDE_STORE, and make the bucket"
_SILENT: Final = (
    "the object store does not answer as it should: check its endpoint, region and credentials, and "
    "DATAVAULT_OUTSIDE_STORE_CACERT"
)
_OVERWRITES: Final = (
    "the object store ignores If-None-Match and overwrites entries: DATAVAULT_OUTSIDE_STORE must be another"
)
_LISTING: Final = {"403 Forbidden": _REFUSED, "404 Not Found": _MISSING}
"""The library tells the status of a failed listing in its text alone."""


class ObjectStore:
    """An outside store in a bucket. An entry is durable once the object store has answered its put."""

    def __init__(self, objects: Objects) -> None:
        self._objects: Final = objects
        self._proven = False

    def put(self, path: str, content: bytes) -> None:
        key = _key(path)
        self._prove()
        if self._create(key, content):
            return
        held = self.get(path)
        if held is None:
            # refused for the sake of a writer that has not finished
            raise StoreUnavailableError("the object store has not taken the entry")
        if held != content:
            raise IntegrityError(ANOTHER_ENTRY)

    def get(self, path: str) -> bytes | None:
        key = _key(path)
        with _told():
            try:
                return self._objects.get(key).bytes().to_bytes()
            except FileNotFoundError:
                return None

    def entries(self, folder: str, first: int = 0) -> list[str]:
        with _told():
            return sorted(path for page, _ in self._pages(folder, first - 1) for path in page)

    def last(self, folder: str) -> str | None:
        """Looks ahead in strides that double, then halves what is left: of a million checkpoints in some 30
        requests instead of a thousand. Names that sort as their numbers do make that possible."""
        page, ends = self._first_page(folder, -1)
        newest, high, stride = max(page, default=None), _HIGHEST, _PAGE
        while newest and not (page and ends) and (low := entry_number(newest)) < high:
            after = min(low + stride, (low + high) // 2)
            page, ends = self._first_page(folder, after)
            if page:
                newest, stride = max(page), 2 * stride
            else:
                high = after
        return newest

    def _first_page(self, folder: str, after: int) -> tuple[list[str], bool]:
        with _told():
            return next((page for page in self._pages(folder, after) if page[0]), ([], True))

    def _pages(self, folder: str, after: int) -> Iterator[tuple[list[str], bool]]:
        """Entries numbered above `after`, a request's worth at a time, and whether no more follow."""
        prefix = f"{_key(folder)}/"
        # a number's two names are N and N.json, and the offset itself is left out
        offset = f"{prefix}{after:020d}.json" if after >= 0 else None
        for objects in self._objects.list(prefix, offset=offset, chunk_size=_PAGE):
            paths = [each["path"] for each in objects]
            # what stands deeper, or has another name, is no entry
            entries = [path for path in paths if is_entry(path.removeprefix(prefix))]
            yield entries, len(objects) < _PAGE

    def _prove(self) -> None:
        """An object store that does not know the condition overwrites without a word: try it once, on an
        object of its own."""
        if self._proven:
            return
        if self._create(_PROOF, b"") and self._create(_PROOF, b""):
            _log.error("outside_store_overwrites")
            raise StoreUnavailableError(_OVERWRITES)
        self._proven = True

    def _create(self, key: str, content: bytes) -> bool:
        """False where something stands there."""
        with _told():
            try:
                self._objects.put(key, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True


def _key(path: str) -> str:
    return "/".join(path_segments(path))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError):
        raise StoreUnavailableError(_REFUSED) from None
    except FileNotFoundError:
        raise StoreUnavailableError(_MISSING) from None
    except (BaseError, OSError) as error:
        said = str(error)
        message = next((message for status, message in _LISTING.items() if status in said), _SILENT)
        raise StoreUnavailableError(message) from None
