"""`datavault keys init`: the keys and the policies that restrict their use."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from vault import logs
from vault.cli.exits import CommandError, ExitCode
from vault.cli.output import JSON, output_option, print_json, print_table

if TYPE_CHECKING:
    from vault.config import Settings
    from vault.crypto.transit_policies import TransitPolicy
    from vault.key_setup import Step

ROLES: Final = ("replica", "operator", "setup")
FORMATS: Final = ("hcl", "terraform", "commands", "json")
_SERVING: Final = ("replica", "operator")
_MAY_NOT: Final = "`datavault keys init --role setup` prints the policy of a token that may do all of it"


@click.command()
@click.option(
    "--role", "roles", type=click.Choice(ROLES), multiple=True,
    help="Whose policy; can be repeated.  [default: replica and operator]",
)  # fmt: skip
@click.option(
    "--classes",
    metavar="CLASS,...",
    help="Key classes that the policies open; default all of attributes.yaml.",
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS),
    help="Print: the policies as HCL, or all of it as Terraform, shell commands, JSON.  [default: hcl]",
)  # fmt: skip
@click.option("--apply", is_flag=True, help="Make what is missing at the KMS, and write the policies.")
@click.option("--dry-run", is_flag=True, help="Say what --apply would do, and do nothing.")
@output_option()
def init(
    roles: tuple[str, ...], classes: str | None, form: str | None, apply: bool, dry_run: bool, output: str
) -> int:
    """Make the keys that the service needs, and the least-privilege policies of those who use them.

    With Transit it prints the policies, or with --apply makes what is missing of mount, keys and policies,
    with the token of the settings (VAULT_TOKEN and so on), which needs the policy of the role setup. It can
    be run again. With local keys it makes the key file, as the first `datavault serve` does.

    \b
      datavault keys init --role replica --classes behaviour | bao policy write datavault-replica-behaviour -
      datavault keys init --format terraform > datavault-keys.tf
      VAULT_TOKEN=... datavault keys init --apply
    """
    from vault.config import load_settings

    logs.configure(level="ERROR")
    if form and (apply or dry_run):
        raise click.UsageError("--format prints; it does not go with --apply or --dry-run")
    settings = load_settings()
    printing = not (apply or dry_run) and (bool(form or roles or classes) or settings.keys != "local")
    if settings.keys == "local" and not printing:
        return _local(settings, roles, classes, dry_run=dry_run, output=output)
    policies = _policies(settings, roles, classes)
    if printing:
        _print(form or "hcl", settings, policies)
        return ExitCode.OK
    return _transit(settings, policies, dry_run=dry_run, output=output)


def _local(
    settings: "Settings", roles: Sequence[str], classes: str | None, *, dry_run: bool, output: str
) -> int:
    from vault.key_setup import init_local

    if roles or classes:
        raise click.UsageError(
            "--role and --classes are of Transit: set DATAVAULT_KEYS=transit to apply them"
        )
    return _report(init_local(settings, dry_run=dry_run), output)


def _transit(settings: "Settings", policies: Sequence["TransitPolicy"], *, dry_run: bool, output: str) -> int:
    from vault.domain.errors import KeyForbiddenError
    from vault.key_setup import init_transit

    try:
        steps = init_transit(settings, policies, dry_run=dry_run)
    except KeyForbiddenError as error:
        raise CommandError(error.message, _MAY_NOT) from None
    return _report(steps, output)


def _policies(settings: "Settings", roles: Sequence[str], classes: str | None) -> tuple["TransitPolicy", ...]:
    from vault.crypto.transit_policies import Role
    from vault.key_setup import policies_of

    chosen = [name.strip() for name in (classes or "").split(",") if name.strip()]
    if classes is not None and not chosen:
        raise click.UsageError("--classes: name at least one key class")
    wanted: list[Role] = [Role(role) for role in dict.fromkeys(roles or _SERVING)]
    return policies_of(settings, wanted, chosen)


def _report(steps: Sequence["Step"], output: str) -> int:
    from vault.key_setup import State

    if output == JSON:
        print_json([{"kind": one.kind, "name": one.name, "state": one.state} for one in steps])
    else:
        print_table(["what", "name", "state"], [(one.kind, one.name, one.state.value) for one in steps])
    refused = [one.note for one in steps if one.state is State.NOT_PERMITTED]
    if refused:
        raise CommandError("; ".join(refused), _MAY_NOT)
    return ExitCode.OK


def _print(form: str, settings: "Settings", policies: Sequence["TransitPolicy"]) -> None:
    from vault.crypto.transit_formats import commands, document, hcl, terraform
    from vault.key_setup import key_classes

    if form == "hcl":
        click.echo("\n".join(hcl(each) for each in policies), nl=False)
        return
    mount, classes = settings.transit_mount, key_classes(settings)
    if form == "json":
        print_json(document(mount, classes, policies))
    else:
        write = terraform if form == "terraform" else commands
        click.echo(write(mount, classes, policies), nl=False)
