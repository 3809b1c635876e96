"""The pipelines in the test's own process: real rooms over a fresh home, no network.

For what needs a clock that is told, a fault between two steps, or thousands of cases. `read` and `write`
speak as the client does, so that expectations read alike in both kinds of test.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from tests.support.service import ORIGIN, POLICIES, SPIFFE, Place, log_records, run_sql, verify_log
from vault import assembly
from vault.audit.verify import VerifyReport
from vault.client.answers import disclosure
from vault.client.results import Disclosure
from vault.config import Settings
from vault.consents import ConsentOutcome, ConsentWrite
from vault.crypto.envelope import DataKey
from vault.domain.errors import DatavaultError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock
from vault.domain.types import Caller, ConsentState, Form, WrappedKey
from vault.domain.values import TypedValue, Value
from vault.reads import Attempt, MissingKeys, Read, Released
from vault.store.sqlite_database import SqliteDatabase
from vault.v1.data_service_pb2 import ReadAttributesResponse
from vault.writes import AttributeChange, Write, Written

NOTICES: Final[Mapping[str, tuple[str, int]]] = {
    "marketing": ("offers", 2),
    "personalised-offers": ("offers", 2),
    "email-campaigns": ("offers", 2),
    "partner-offers": ("partner-offers", 1),
    "customer-support": ("support-needs", 1),
    "account-security": ("biometric-login", 1),
    "model-training": ("model-training", 1),
}
"""The notice a grant for a purpose of the repository's policies refers to."""
_COMPARE_SECONDS: Final = 0.02
YEAR: Final = 365 * 86_400 * 1_000_000
"""Microseconds."""


def disclosed(released: Released) -> Disclosure:
    """An answer as a client reads it."""
    return disclosure(ReadAttributesResponse.FromString(released.answer))


@dataclass(frozen=True)
class House:
    """Rooms and pipelines, with short ways to use them."""

    rooms: assembly.Rooms
    pipelines: assembly.Pipelines

    # --- as a caller ---------------------------------------------------------------------------------------

    def caller(self, name: str) -> Caller:
        """The caller `name` of callers.yaml."""
        entry = self.rooms.policy.current.bundle.callers[name]
        return Caller(name, entry.tenant, SPIFFE + name)

    def read(
        self, caller: str, number: str, purpose: str, attributes: Sequence[str], **more: Any
    ) -> Disclosure:
        """One read in a group of its own. Raises the domain error of the read."""
        (outcome,) = self.read_group([self.ask(caller, number, purpose, attributes, **more)])
        if isinstance(outcome, DatavaultError):
            raise outcome
        return outcome

    def ask(
        self,
        caller: str,
        number: str,
        purpose: str,
        attributes: Sequence[str],
        *,
        max_form: Form | None = None,
        require_all: bool = False,
        request_id: str = "",
    ) -> Read:
        return Read(
            self.caller(caller), number, purpose, tuple(attributes), max_form, require_all, request_id
        )

    def read_group(self, reads: Sequence[Read]) -> list[Disclosure | DatavaultError]:
        """Reads as one group, going for keys as the server's worker does."""
        outcomes: list[Any] = [None] * len(reads)
        waiting = {index: Attempt(read) for index, read in enumerate(reads)}
        while waiting:
            results = self.pipelines.disclosure.disclose(list(waiting.values()))
            again: dict[int, Attempt] = {}
            for (index, attempt), result in zip(waiting.items(), results, strict=True):
                if isinstance(result, MissingKeys):
                    keys = {**attempt.keys, **self._keys(result)}
                    again[index] = Attempt(attempt.read, keys, self._refreshed(result) or attempt.refreshed)
                elif isinstance(result, Released):
                    outcomes[index] = disclosed(result)
                else:
                    outcomes[index] = result
            waiting = again
        return outcomes

    def write(self, number: str, values: Mapping[str, Any], **more: Any) -> Written:
        """One write by the importer. Raises the domain error of the write."""
        (outcome,) = self.write_group([self.draft(number, values, **more)])
        if isinstance(outcome, DatavaultError):
            raise outcome
        return outcome

    def draft(
        self,
        number: str,
        values: Mapping[str, Value],
        *,
        jurisdictions: Sequence[str] = ("EU",),
        clear: Sequence[str] = (),
        expected: Mapping[str, int] | None = None,
        request_id: str = "",
        caller: str = "importer",
    ) -> Write:
        """A write; values are those of vault.domain.values, typed as attributes.yaml declares."""
        declared = self.rooms.policy.current.bundle.attributes
        versions = expected or {}
        changes = [
            AttributeChange(name, TypedValue(declared[name].type, value), expected_version=versions.get(name))
            for name, value in values.items()
        ]
        changes += [AttributeChange(name, clear=True, expected_version=versions.get(name)) for name in clear]
        return Write(
            self.caller(caller),
            request_id or self.pipelines.recorder.new_id(),
            number,
            tuple(changes),
            tuple(jurisdictions),
        )

    def write_group(self, writes: Sequence[Write]) -> list[Written | DatavaultError]:
        return self.pipelines.intake.write(writes)

    def record(
        self, number: str, purpose: str, state: str, caller: str = "customer-portal", **more: Any
    ) -> ConsentOutcome:
        """One consent event; a grant refers to the newest notice and lasts a year unless told otherwise."""
        details: dict[str, Any] = {
            "request_id": self.pipelines.recorder.new_id(),
            "channel": "app",
            "jurisdictions": ("EU",),
        }
        kind = ConsentState(state)
        if kind.grants:
            notice, version = NOTICES[purpose]
            details |= {
                "notice": notice,
                "notice_version": version,
                "language": "en",
                "jurisdiction": "EU",
                "expires_at": self.rooms.clock.now() + YEAR,
            }
        details |= more
        event = ConsentWrite(customer_number=number, purpose=purpose, state=kind, **details)
        rights = self.pipelines.rights
        act = {
            ConsentState.WITHDRAWN: rights.withdraw_consent,
            ConsentState.OBJECTED: rights.object_to_purpose,
            ConsentState.OBJECTION_LIFTED: rights.object_to_purpose,
        }.get(kind, rights.record_consent)
        return act(self.caller(caller), event)

    def restrict(self, number: str, *, lift: bool = False) -> ConsentOutcome:
        """Restrict a customer, or lift the restriction, as the privacy office."""
        caller, request_id = self.caller("privacy-office"), self.pipelines.recorder.new_id()
        return self.pipelines.rights.restrict(caller, request_id, number, lift=lift)

    # --- looking into it -----------------------------------------------------------------------------------

    @property
    def place(self) -> Place:
        """Where its database is."""
        database = self.rooms.database
        return database.path if isinstance(database, SqliteDatabase) else self.rooms.settings.database

    def records(self) -> list[dict[str, Any]]:
        """Every record of the log in order, as documents."""
        return log_records(self.place)

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement on the database, from outside."""
        return run_sql(self.place, statement, *parameters)

    def verify(self) -> VerifyReport:
        """Integrate what is there, then verify the whole log."""
        self.pipelines.integrator.run_once()
        return verify_log(self.place, self.rooms.provider)

    def _keys(self, missing: MissingKeys) -> dict[WrappedKey, DataKey | DatavaultError]:
        fetched = self.pipelines.keyring.unwrap(missing.requests)
        return {wrapped: key for (_, wrapped), key in zip(missing.requests, fetched, strict=True)}

    def _refreshed(self, missing: MissingKeys) -> bool | DatavaultError:
        try:
            for tenant in missing.tenants:
                self.pipelines.disclosure.refresh(tenant)
        except DatavaultError as error:
            return error
        return bool(missing.tenants)


def another_replica(house: House) -> House:
    """The same database served by pipelines of their own, as another process would: own caches, own locks."""
    signers = assembly.log_signers(house.rooms)
    logs = assembly.open_logs(house.rooms, signers)
    return House(house.rooms, assembly.build_pipelines(house.rooms, logs, signers))


def store_settings(folder: Path) -> dict[str, Any]:
    """On which database a home stands; `tests.support.stores` has another answer."""
    return {}


@contextlib.contextmanager
def open_house(folder: Path, clock: Clock | None = None, **settings: Any) -> Iterator[House]:
    """A house over a home in `folder`. `clock` replaces the machine's; `settings` are those of vault.config.

    The integrator's thread does not run: checkpoints are made by `verify`.
    """
    known = {
        "home": folder / "home",
        "policies": POLICIES,
        "origin": ORIGIN,
        **store_settings(folder),
    }
    with contextlib.ExitStack() as stack:
        # the engines are compared elsewhere: a start spends two seconds on it
        with patch("vault.policy.live.LIMITS", replace(LIMITS, policy_compare_seconds=_COMPARE_SECONDS)):
            opened = stack.enter_context(
                assembly.open_rooms(Settings(**{**known, **settings}), assembly.Use.SERVE)
            )
        rooms = replace(opened, clock=clock or opened.clock)
        signers = assembly.log_signers(rooms)
        yield House(rooms, assembly.build_pipelines(rooms, assembly.open_logs(rooms, signers), signers))
