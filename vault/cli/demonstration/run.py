"""One demo from start to end: home, keys, service, customers, story; and everything ended again."""

import contextlib
import datetime
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault.cli import policies as policy_folder
from vault.cli.demonstration import callers, loading, people, service, story, tryout
from vault.cli.demonstration.home import ended_in_order, fresh_home
from vault.cli.demonstration.screen import Screen
from vault.cli.demonstration.service import Service
from vault.cli.demonstration.stage import Stage
from vault.cli.exits import ExitCode
from vault.client import DatavaultClientError
from vault.config import load_settings
from vault.crypto.dev_server import DevTransit, find_program, start_dev_transit
from vault.domain.errors import KeysUnavailableError
from vault.policy.bundle import Bundle

LOCAL: Final = "local"
TRANSIT: Final = "transit"
_TRANSIT_FOLDER: Final = "transit"
_PRODUCTS: Final = {"bao": "OpenBao", "vault": "HashiCorp Vault"}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `datavault demo`. None leaves the choice to what is there."""

    customers: int
    seed: int
    keep: bool
    keys: str | None
    parent: Path | None
    policies: Path | None


def run(options: Options) -> ExitCode:
    """The whole demo. FAILED when any step did not turn out as expected.

    Raises:
        CommandError, DatavaultError, DatavaultClientError: it could not be played to the end.
    """
    settings = load_settings()
    folder = policy_folder.folder(options.policies or settings.policies, policy_folder.OPTION)
    bundle = policy_folder.load(folder)
    screen = Screen()
    with ended_in_order() as stack:
        home = stack.enter_context(fresh_home(options.parent or settings.home, keep=options.keep))
        screen.title("datavault demo")
        screen.say(f"home      {home}{'' if options.keep else ' (removed at the end)'}")
        screen.say(f"policies  {folder}, bundle {bundle.hash[:16]}...")
        transit = _keys(screen, stack, options.keys, home / _TRANSIT_FOLDER)
        served, stage, certificates = _open(screen, stack, home, folder, bundle, transit, options)
        story.tell(stage, served)
        code = _verdict(screen)
        if sys.stdin.isatty() and sys.stdout.isatty():
            _stay(screen, stage, served, certificates)
    if options.keep:
        lost = "" if transit is None else " (its keys ended with the Transit server: no value can be opened)"
        screen.say(f"kept: {home}{lost}")
    return code


def _keys(screen: Screen, stack: contextlib.ExitStack, wanted: str | None, folder: Path) -> DevTransit | None:
    """A Transit server where there is a program for one, unless the local keyring is wanted; says which."""
    if wanted == LOCAL:
        screen.say("keys      local keyring, as asked")
        return None
    if wanted is None and find_program() is None:
        screen.say("keys      local keyring: neither bao nor vault is installed")
        return None
    try:
        transit = start_dev_transit(folder)
    except KeysUnavailableError as error:
        if wanted is not None:
            raise
        screen.say(f"keys      local keyring: {error.message}")
        return None
    stack.callback(transit.stop)
    name = Path(transit.program).name
    product = _PRODUCTS.get(name, name)
    screen.say(f"keys      Transit: {product} ({transit.program}) on {transit.address}, in memory")
    return transit


def _open(
    screen: Screen,
    stack: contextlib.ExitStack,
    home: Path,
    folder: Path,
    bundle: Bundle,
    transit: DevTransit | None,
    options: Options,
) -> tuple[Service, Stage, Mapping[str, callers.Certificates]]:
    """Start the service, load the customers, and hand out certificates."""
    certificates = callers.issue(home, bundle)
    process = service.launch(home, service.environment(home, folder, transit))
    stack.callback(service.stop, process)
    now = datetime.datetime.now(datetime.UTC)
    customers = people.make_customers(options.customers, options.seed, now)
    served = service.until_ready(home, process)
    screen.say(f"service   {served.address}, mTLS, process {process.pid}, log {home / service.LOG}")
    clients = {name: stack.enter_context(each.client(served.address)) for name, each in certificates.items()}
    answers = loading.answers_of(customers, options.seed)
    try:
        loaded = loading.load(clients[callers.IMPORTER], customers, answers, now)
    except DatavaultClientError:
        served.require_running()  # its log says more than a lost connection does
        raise
    screen.say(
        f"loaded    {loaded.customers} customers with {loaded.values} attributes and {loaded.consents} "
        f"answers to the notice, in {loaded.seconds:.1f} s"
    )
    bases = {rule.id: rule.basis for rule in bundle.rules}
    return served, Stage(screen, home, bases, clients, customers[0], customers[1]), certificates


def _verdict(screen: Screen) -> ExitCode:
    screen.title("")
    total = screen.passed + screen.failed
    if screen.failed:
        screen.title(f"{screen.failed} of {total} checks did not turn out as expected")
        return ExitCode.FAILED
    screen.title(f"{len(story.STEPS)} steps, {total} checks, all as expected")
    return ExitCode.OK


def _stay(
    screen: Screen, stage: Stage, served: Service, certificates: Mapping[str, callers.Certificates]
) -> None:
    """Stay up until Ctrl-C. Raises CommandError when the service ends by itself."""
    screen.title("\nThe service stays up until Ctrl-C. In another shell:\n")
    screen.verbatim(tryout.commands(stage, served, certificates))
    try:
        served.process.wait()
    except KeyboardInterrupt:
        screen.title("\nending the service")
        return
    raise service.ended(served.home)
