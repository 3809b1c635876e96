"""What `datavault keys init` does: makes the keys, and at a KMS the mount and the policies.

    1 look      at everything, before anything is made: a key of the wrong type refuses the whole
    2 mount     the Transit engine, with upserts off
    3 keys      of every key class of attributes.yaml, of tenants, log and receipts
    4 policies  of the roles asked for

It can be run again: what is there and right stays as it is.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vault.assembly import KEY_FILE, transit_settings
from vault.audit.origins import has_log
from vault.config import Settings, make_home
from vault.crypto.local import LocalKeyProvider
from vault.crypto.names import WRAPPING_KIND, all_keys
from vault.crypto.transit import TransitKeyProvider
from vault.crypto.transit_formats import hcl
from vault.crypto.transit_policies import Role, TransitPolicy, policy, require_mount
from vault.crypto.transit_setup import KeySettings, TransitSetup
from vault.database_settings import database_of
from vault.domain.errors import (
    ConfigurationError,
    KeyForbiddenError,
    KeysUnavailableError,
    StartRefusedError,
)
from vault.domain.faults import did_you_mean
from vault.domain.system import SystemClock, SystemRandomness
from vault.policy.bundle import load_bundle


class State(StrEnum):
    """How one thing was found, or left."""

    THERE = "there"
    MADE = "made"
    CHANGED = "changed"
    TO_MAKE = "to make"
    TO_CHANGE = "to change"
    NOT_PERMITTED = "not permitted"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the set-up needs; `note` says why it was not permitted."""

    kind: str
    name: str
    state: State
    note: str = ""


def key_classes(settings: Settings) -> tuple[str, ...]:
    """The key classes of attributes.yaml.

    Raises:
        PolicyError.
    """
    return tuple(sorted(load_bundle(settings.policies).key_classes))


def policies_of(
    settings: Settings, roles: Sequence[Role], chosen: Collection[str]
) -> tuple[TransitPolicy, ...]:
    """The policies of these roles for the chosen key classes; none chosen are all of attributes.yaml.

    Raises:
        ConfigurationError: there is no such class, or the mount is no plain path. PolicyError.
    """
    every = key_classes(settings)
    for name in chosen:
        if name not in every:
            raise ConfigurationError(f"--classes: there is no key class {name}{did_you_mean(name, every)}")
    return tuple(policy(role, settings.transit_mount, chosen or every, every) for role in roles)


def init_local(settings: Settings, *, dry_run: bool) -> list[Step]:
    """Make the key file with the keys of every class, or those that it lacks.

    Raises:
        ConfigurationError: the environment is production, or the file cannot be read or written. PolicyError.
        StartRefusedError: there is a database that only the lost keys open.
    """
    path, wanted = settings.home / KEY_FILE, all_keys(key_classes(settings))
    if path.exists() or settings.environment == "production":
        lacking = _lacking_locally(settings, wanted)
    else:
        _refuse_served(settings)
        lacking = set(wanted)
    if lacking and not dry_run:
        make_home(settings)
        _local(settings, create=True).ensure_keys(key_classes(settings))
    state = State.TO_MAKE if dry_run else State.MADE
    return [Step("local key", name, state if name in lacking else State.THERE) for name in wanted]


def init_transit(settings: Settings, policies: Sequence[TransitPolicy], *, dry_run: bool) -> list[Step]:
    """Make what is missing at the KMS, with the token of the settings; `dry_run` looks alone.

    Raises:
        ConfigurationError: a setting is wrong, or there is a key of another type, or the token may not make
            one that is missing. KeyForbiddenError: it may not look at a key. KeysUnavailableError.
    """
    require_mount(settings.transit_mount)
    classes = key_classes(settings)
    provider = TransitKeyProvider(transit_settings(settings), SystemClock())
    try:
        return _InitTransit(provider, settings.transit_mount, classes, policies, dry_run).run()
    finally:
        provider.close()


@dataclass(frozen=True, slots=True)
class _InitTransit:
    provider: TransitKeyProvider
    mount: str
    classes: tuple[str, ...]
    policies: Sequence[TransitPolicy]
    dry_run: bool

    def run(self) -> list[Step]:
        setup = TransitSetup(self.provider.session, self.mount)
        mounted = _permitted(setup.mounted)
        found = self._look(setup) if mounted is not False else dict.fromkeys(all_keys(self.classes))  # 1
        return [
            *self._mount(setup, mounted),  # 2
            *self._keys(found),  # 3
            *(self._policy(setup, each) for each in self.policies),  # 4
        ]

    def _look(self, setup: TransitSetup) -> dict[str, KeySettings | None]:
        found = {name: setup.key(name) for name in all_keys(self.classes)}
        for name, kind in all_keys(self.classes).items():
            key, derived = found[name], kind == WRAPPING_KIND
            if key is not None and (key.kind, key.derived) != (kind, derived):
                raise ConfigurationError(
                    f"the KMS has a key {name} of type {key.kind}, derived={key.derived}; it must be "
                    f"{kind}, derived={derived}: use another DATAVAULT_TRANSIT_MOUNT"
                )
        return found

    def _mount(self, setup: TransitSetup, mounted: bool | str) -> Iterator[Step]:
        yield self._done("mount", self.mount, mounted, setup.mount)
        refused: bool | str = False if mounted is False else _permitted(setup.upserts_refused)
        yield self._done("setting", f"{self.mount}/config/keys disable_upsert", refused, setup.refuse_upserts)

    def _keys(self, found: Mapping[str, KeySettings | None]) -> Iterator[Step]:
        if not self.dry_run and None in found.values():
            self.provider.ensure_keys(self.classes)
        state = State.TO_MAKE if self.dry_run else State.MADE
        for name, key in found.items():
            yield Step("key", name, state if key is None else State.THERE)

    def _policy(self, setup: TransitSetup, wanted: TransitPolicy) -> Step:
        text = hcl(wanted)
        try:
            present = setup.policy(wanted.name)
        except KeyForbiddenError as error:
            return Step("policy", wanted.name, State.NOT_PERMITTED, error.message)
        step = self._done(
            "policy", wanted.name, present == text, lambda: setup.write_policy(wanted.name, text)
        )
        if present is None or step.state not in _REPLACED:
            return step
        return Step(step.kind, step.name, _REPLACED[step.state])

    def _done(self, kind: str, name: str, present: bool | str, make: Callable[[], None]) -> Step:
        """`present` is a text where the token may not look: then nothing is tried."""
        if isinstance(present, str):
            return Step(kind, name, State.NOT_PERMITTED, present)
        if present:
            return Step(kind, name, State.THERE)
        if self.dry_run:
            return Step(kind, name, State.TO_MAKE)
        try:
            make()
        except KeyForbiddenError as error:
            return Step(kind, name, State.NOT_PERMITTED, error.message)
        return Step(kind, name, State.MADE)


_REPLACED: Mapping[State, State] = {State.MADE: State.CHANGED, State.TO_MAKE: State.TO_CHANGE}


def _permitted(look: Callable[[], bool]) -> bool | str:
    """What it sees, or why the token may not look."""
    try:
        return look()
    except KeyForbiddenError as error:
        return error.message


def _local(settings: Settings, *, create: bool) -> LocalKeyProvider:
    return LocalKeyProvider(
        settings.home / KEY_FILE,
        environment=settings.environment,
        randomness=SystemRandomness(),
        create=create,
    )


def _lacking_locally(settings: Settings, wanted: Collection[str]) -> set[str]:
    provider, lacking = _local(settings, create=False), set()
    for name in wanted:
        try:
            provider.info(name)
        except KeysUnavailableError:
            lacking.add(name)
    return lacking


def _refuse_served(settings: Settings) -> None:
    """
    Raises:
        StartRefusedError: there is a log that was served with other keys.
    """
    database = database_of(settings)
    try:
        if not database.exists():
            return
        with database.read() as connection:
            served = has_log(connection)
    finally:
        database.close()
    if served:
        raise StartRefusedError(
            f"{settings.home / KEY_FILE} is missing, and {database.name} can be read with its keys only: "
            f"restore {KEY_FILE} from its backup"
        )
