"""Keys and policies of `transit_policies.py` as texts: HCL, Terraform, shell commands, a table, JSON.

HCL is read by Vault and OpenBao alike (`policy write`). Every name in these texts was checked to be a plain
one (`class_key`, `require_mount`), so nothing has to be escaped.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from textwrap import indent
from typing import Any, Final

from vault.crypto.names import SIGNING_KIND, WRAPPING_KIND, all_keys
from vault.crypto.transit_policies import Grant, Role, TransitPolicy, policy_prefix, require_mount
from vault.crypto.transit_rules import RULES

_TERRAFORM_HEAD: Final = """\
terraform {
  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 4.0"
    }
  }
}
"""

_RAISED: Final = ("  # `datavault keys rewrap` raises it", "  ignore_changes = [min_decryption_version]")


def hcl(policy: TransitPolicy) -> str:
    """The policy as HCL, as `bao policy write NAME -` and `vault policy write NAME -` read it."""
    what = "" if policy.role is Role.SETUP else f", key classes: {', '.join(policy.classes)}"
    parts = [f"# {policy.name}: role {policy.role}{what}\n"]
    for why, group in groupby(policy.grants, lambda grant: grant.rule.why):
        parts.append(f"\n# {why}\n")
        parts += [path_block(grant) for grant in group]
    return "".join(parts)


def path_block(grant: Grant) -> str:
    """One path of a policy, with its end of line."""
    lines = [f"  capabilities = {_list(grant.capabilities)}"]
    if grant.rule.parameters:
        allowed = ", ".join(f'"{name}" = []' for name in grant.rule.parameters)
        lines.append(f"  allowed_parameters = {{ {allowed} }}")
    return "\n".join([f'path "{grant.path}" {{', *lines, "}\n"])


def one_line(grant: Grant) -> str:
    """One path of a policy in one line, for messages."""
    return " ".join(path_block(grant).split())


def terraform(mount: str, classes: Iterable[str], policies: Sequence[TransitPolicy]) -> str:
    """Mount, keys and policies as Terraform (HCL 2), for the provider `hashicorp/vault`.

    Raises:
        ConfigurationError: as `transit_policies.grants`.
    """
    require_mount(mount)
    keys = all_keys(classes)
    parts = [
        _TERRAFORM_HEAD,
        _resource("vault_mount", "datavault", [f'path = "{mount}"', 'type = "transit"']),
        _resource(
            "vault_generic_endpoint",
            "refuse_upserts",
            [
                "# a misspelt key is an error",
                'path                 = "${vault_mount.datavault.path}/config/keys"',
                "data_json            = jsonencode({ disable_upsert = true })",
                "disable_delete       = true",
                "ignore_absent_fields = true",
            ],
        ),
        _terraform_keys("wrapping", _of_kind(keys, WRAPPING_KIND), WRAPPING_KIND, derived=True),
        _terraform_keys("signing", _of_kind(keys, SIGNING_KIND), SIGNING_KIND, derived=False),
    ]
    for policy in policies:
        name = re.sub("[^a-z0-9]", "_", policy.name)
        body = [f'name   = "{policy.name}"', "policy = <<-EOT", *hcl(policy).rstrip("\n").split("\n"), "EOT"]
        parts.append(_resource("vault_policy", name, body))
    return "\n".join(parts)


def commands(mount: str, classes: Iterable[str], policies: Sequence[TransitPolicy]) -> str:
    """A shell script of `bao` command lines (`KMS=vault` runs it with `vault`); it can be run again.

    Raises:
        ConfigurationError: as `transit_policies.grants`.
    """
    require_mount(mount)
    keys = all_keys(classes)
    lines = [
        "#!/bin/sh",
        "set -eu",
        "KMS=${KMS:-bao}    # or vault",
        "",
        f'"$KMS" read sys/mounts/{mount} > /dev/null 2>&1 || "$KMS" secrets enable -path={mount} transit',
        f'"$KMS" write {mount}/config/keys disable_upsert=true    # a misspelt key is an error',
        f"for key in {' '.join(_of_kind(keys, WRAPPING_KIND))}; do",
        f'  "$KMS" write "{mount}/keys/$key" type={WRAPPING_KIND} derived=true',
        "done",
        f"for key in {' '.join(_of_kind(keys, SIGNING_KIND))}; do",
        f'  "$KMS" write "{mount}/keys/$key" type={SIGNING_KIND}',
        "done",
    ]
    for policy in policies:
        lines += ["", f"\"$KMS\" policy write {policy.name} - <<'EOF'", hcl(policy).rstrip("\n"), "EOF"]
    return "\n".join(lines) + "\n"


def document(mount: str, classes: Iterable[str], policies: Sequence[TransitPolicy]) -> dict[str, Any]:
    """The same as a document for programs.

    Raises:
        ConfigurationError: as `transit_policies.grants`.
    """
    require_mount(mount)
    keys = all_keys(classes)
    return {
        "mount": mount,
        "keys": [
            {"name": name, "type": kind, "derived": kind == WRAPPING_KIND} for name, kind in keys.items()
        ],
        "policies": [
            {
                "name": policy.name,
                "role": policy.role,
                "classes": policy.classes,
                "paths": [
                    {
                        "path": grant.path,
                        "capabilities": grant.capabilities,
                        "allowed_parameters": grant.rule.parameters,
                        "why": grant.rule.why,
                    }
                    for grant in policy.grants
                ],
                "hcl": hcl(policy),
            }
            for policy in policies
        ],
    }


def table() -> list[str]:
    """The table of paths and capabilities in Markdown, with `transit` for the mount."""
    lines = ["| path | capabilities | roles | why |", "|---|---|---|---|"]
    for rule in RULES:
        path = rule.path.format(mount="transit", prefix=policy_prefix("transit"), key="KEY")
        capabilities = ", ".join(f"`{name}`" for name in rule.capabilities)
        if rule.parameters:
            capabilities += f", parameter {', '.join(f'`{name}`' for name in rule.parameters)} only"
        of = f" with KEY {', '.join(f'`{key}`' for key in rule.keys)}" if rule.keys else ""
        lines.append(f"| `{path}`{of} | {capabilities} | {', '.join(rule.roles)} | {rule.why} |")
    return lines


def _resource(kind: str, name: str, body: Sequence[str]) -> str:
    return f'resource "{kind}" "{name}" {{\n{indent(chr(10).join(body), "  ")}\n}}\n'


def _terraform_keys(name: str, keys: Sequence[str], kind: str, *, derived: bool) -> str:
    return _resource(
        "vault_transit_secret_backend_key",
        name,
        [
            "for_each = toset([",
            *(f'  "{key}",' for key in keys),
            "])",
            "backend                = vault_mount.datavault.path",
            "name                   = each.key",
            f'type                   = "{kind}"',
            f"derived                = {str(derived).lower()}",
            "exportable             = false",
            "allow_plaintext_backup = false",
            "deletion_allowed       = false",
            "",
            "lifecycle {",
            "  prevent_destroy = true",
            *(_RAISED if derived else ()),
            "}",
        ],
    )


def _of_kind(keys: dict[str, str], kind: str) -> list[str]:
    return [name for name, found in keys.items() if found == kind]


def _list(words: Iterable[str]) -> str:
    return f"[{', '.join(f'{chr(34)}{word}{chr(34)}' for word in words)}]"
