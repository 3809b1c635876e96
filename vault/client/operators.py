"""The calls of operators, as parts of `Client` and `AsyncClient`."""

# ruff: noqa: ASYNC109 - a timeout here is the deadline of gRPC, which travels with the call

from collections.abc import AsyncIterator, Iterator

from vault.client import key_calls
from vault.client.asynchronous import AsyncCalls
from vault.client.blocking import BlockingCalls
from vault.client.key_results import KeysStatus, LookupProgress, RekeyReceipt, RewrapProgress, RotatedKey
from vault.client.pacing import Pace


class OperatorCalls(BlockingCalls):
    """State, rotation, rewrapping and rekeying."""

    def key_status(
        self,
        *,
        timeout: float | None = None,
    ) -> KeysStatus:
        """The key provider's health, and every key with its versions and what each of them wraps."""
        return self._run(key_calls.key_status(), timeout)

    def rotate_key(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> RotatedKey:
        """Make a new version of a key: a key class, `lookup`, `index`, `pseudonym`, `log` or `receipt`.

        It is sent once: where no answer comes, `key_status` tells whether it was done.
        """
        return self._run(key_calls.rotate_key(name), timeout)

    def rewrap_keys(
        self,
        name: str,
        *,
        dry_run: bool = False,
        keys_per_second: int = 0,
        keep_old_versions: bool = False,
        timeout: float | None = None,
    ) -> Iterator[RewrapProgress]:
        """Bring everything that a key wraps to its newest version, then retire the older ones.

        Gives progress as it comes; the last one, of phase DONE, is the result. A stream that breaks is asked
        for again, and the job goes on where it was; so does the next call after an error. To stop drawing
        breaks the job off. `keys_per_second` 0 means no limit; with `keep_old_versions` nothing is retired.
        """
        job = key_calls.rewrap_keys(
            name, dry_run=dry_run, keys_per_second=keys_per_second, keep_old_versions=keep_old_versions
        )
        return self._run_job(job, Pace(self._retry, timeout))

    def rotate_lookup_key(
        self,
        *,
        dry_run: bool = False,
        subjects_per_second: int = 0,
        resume_only: bool = False,
        timeout: float | None = None,
    ) -> Iterator[LookupProgress]:
        """Give the caller's tenant a new lookup key and index every customer under it; as `rewrap_keys`.

        Goes on with a rotation that was begun; with `resume_only` none is begun.
        """
        job = key_calls.rotate_lookup_key(
            dry_run=dry_run, subjects_per_second=subjects_per_second, resume_only=resume_only
        )
        return self._run_job(job, Pace(self._retry, timeout))

    def rekey_subject(
        self,
        customer_number: str,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> RekeyReceipt:
        """Encrypt every value of a customer anew, under new DEKs, and destroy the old ones."""
        return self._run(key_calls.rekey_subject(customer_number, request_id=request_id), timeout)


class AsyncOperatorCalls(AsyncCalls):
    """The twin of `OperatorCalls`."""

    async def key_status(
        self,
        *,
        timeout: float | None = None,
    ) -> KeysStatus:
        """As `Client.key_status`."""
        return await self._run(key_calls.key_status(), timeout)

    async def rotate_key(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> RotatedKey:
        """As `Client.rotate_key`."""
        return await self._run(key_calls.rotate_key(name), timeout)

    def rewrap_keys(
        self,
        name: str,
        *,
        dry_run: bool = False,
        keys_per_second: int = 0,
        keep_old_versions: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[RewrapProgress]:
        """As `Client.rewrap_keys`."""
        job = key_calls.rewrap_keys(
            name, dry_run=dry_run, keys_per_second=keys_per_second, keep_old_versions=keep_old_versions
        )
        return self._run_job(job, Pace(self._retry, timeout))

    def rotate_lookup_key(
        self,
        *,
        dry_run: bool = False,
        subjects_per_second: int = 0,
        resume_only: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[LookupProgress]:
        """As `Client.rotate_lookup_key`."""
        job = key_calls.rotate_lookup_key(
            dry_run=dry_run, subjects_per_second=subjects_per_second, resume_only=resume_only
        )
        return self._run_job(job, Pace(self._retry, timeout))

    async def rekey_subject(
        self,
        customer_number: str,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> RekeyReceipt:
        """As `Client.rekey_subject`."""
        return await self._run(key_calls.rekey_subject(customer_number, request_id=request_id), timeout)
