"""Policy bundles as they are kept in the database: whatever served can serve again, whatever the folder holds
by now."""

import orjson

from vault.domain.errors import IntegrityError
from vault.domain.protocols import Transactions
from vault.policy.bundle import Bundle, bundle_from_files
from vault.policy.problems import PolicyError
from vault.store.bundles import BundleRepository


def keep_bundle(transactions: Transactions, bundle: Bundle, now: int) -> None:
    """Keep a bundle: every bundle that ever served is there. `now` in microseconds UTC.

    Raises:
        StoreUnavailableError.
    """
    files = orjson.dumps({path: content.decode() for path, content in sorted(bundle.files.items())})
    with transactions.write() as connection:
        BundleRepository().keep(connection, bundle.hash, files, now)


def kept_bundle(transactions: Transactions, bundle_hash: str) -> Bundle:
    """A bundle that was kept.

    Raises:
        IntegrityError: it is not there, or is not what its name says. StoreUnavailableError.
    """
    with transactions.read() as connection:
        kept = BundleRepository().load(connection, bundle_hash)
    if kept is None:
        raise IntegrityError("the policy bundle in force is not in the database")
    try:
        files = {path: text.encode() for path, text in orjson.loads(kept).items()}
        bundle = bundle_from_files(files)
    except (ValueError, AttributeError, PolicyError):
        raise IntegrityError("the policy bundle in force is damaged in the database") from None
    if bundle.hash != bundle_hash:
        raise IntegrityError("the policy bundle in force was changed in the database")
    return bundle
