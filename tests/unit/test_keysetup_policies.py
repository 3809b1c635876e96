"""The table of roles: what each may do at the KMS, and the texts made from it."""

import re
import subprocess
from pathlib import Path

import pytest

from vault.crypto.names import STANDARD_CLASSES, all_keys
from vault.crypto.transit_formats import commands, document, hcl, one_line, table, terraform
from vault.crypto.transit_policies import Role, grants, policy
from vault.crypto.transit_rules import RULES
from vault.domain.errors import ConfigurationError

GOLDEN = Path(__file__).parents[1] / "golden" / "keysetup_behaviour.hcl"
KEYS_PAGE = Path(__file__).parents[2] / "docs" / "operations" / "keys.md"
MOUNT = "kms/transit"


def paths(role: Role, *classes: str) -> dict[str, tuple[str, ...]]:
    """path -> capabilities of a role, for all standard classes unless told otherwise."""
    return {one.path: one.capabilities for one in grants(role, "transit", classes or STANDARD_CLASSES)}


def test_the_policy_of_a_restricted_replica_is_the_golden_one() -> None:
    """Every byte of it: a change of the table shows as a change of a policy."""
    assert hcl(policy(Role.REPLICA, "transit", ["behaviour"], STANDARD_CLASSES)) == GOLDEN.read_text("utf-8")


@pytest.mark.parametrize("role", Role)
def test_encrypt_paths_get_update_alone(role: Role) -> None:
    """`create` there would make a misspelt key."""
    given = {capabilities for path, capabilities in paths(role).items() if "/encrypt/" in path}
    assert given <= {("update",)}


@pytest.mark.parametrize("role", Role)
def test_no_key_is_given_by_a_pattern(role: Role) -> None:
    """Each key stands there by name: a class that is added later is nobody's until it is set up."""
    assert [path for path in paths(role) if "transit/" in path and set("*+") & set(path)] == []


def test_a_restricted_replica_gets_nothing_of_other_classes() -> None:
    """Of the classes, only the one it serves is named; what every replica needs is the same."""
    of_classes = {f"datavault-{name}" for name in STANDARD_CLASSES}
    named = {path.split("/")[2] for path in paths(Role.REPLICA, "behaviour") if path.startswith("transit/")}
    assert named & of_classes == {"datavault-behaviour"}
    assert named - of_classes == set(all_keys([]))


def test_roles_differ_by_what_they_are_for() -> None:
    """An operator may do all that a replica may, and rotate, rewrap and retire; only setup makes keys."""
    replica, operator, setup = (paths(role) for role in (Role.REPLICA, Role.OPERATOR, Role.SETUP))
    assert replica.items() <= operator.items()
    assert {re.sub(r"datavault-[a-z]+", "KEY", path) for path in operator.keys() - replica.keys()} == {
        "transit/rewrap/KEY",
        "transit/keys/KEY/rotate",
        "transit/keys/KEY/config",
    }
    assert not {path for path in setup if re.match(r"transit/(en|de)crypt|transit/(sign|rewrap)", path)}
    assert setup["transit/keys/datavault-identity"] == ("create", "read", "update")
    assert operator["transit/keys/datavault-identity"] == ("read",)


def test_nobody_may_export_back_up_or_delete() -> None:
    """No role has a path or a capability by which a key could leave the KMS or be lost."""
    every = {path: names for role in Role for path, names in paths(role).items()}
    assert [path for path in every if re.search(r"export|backup|restore|trim|datakey", path)] == []
    assert [path for path, names in every.items() if {"delete", "sudo"} & set(names)] == []


def test_a_policy_is_named_by_its_role_and_restriction() -> None:
    """Whoever lists the policies at the KMS sees what each opens; no two restrictions share a name."""
    every = ["a", "b-c", "b", "c"]
    assert policy(Role.REPLICA, "transit", every, every).name == "datavault-replica"
    assert policy(Role.OPERATOR, "transit", ["b", "a"], every).name == "datavault-operator-a_b"
    assert policy(Role.REPLICA, MOUNT, ["a"], every).name == "datavault:kms:transit-replica-a"
    names = [policy(Role.REPLICA, "transit", chosen, every).name for chosen in (["b-c"], ["b", "c"])]
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    "mount", ["*", "transit/+", 'a"b', "$(id)", "a b", "", "/transit", "a/..", "${x}", "a\nb"]
)
def test_a_mount_that_is_no_plain_path_is_refused(mount: str) -> None:
    """In a policy, a shell or Terraform it could mean more than itself."""
    with pytest.raises(ConfigurationError, match="DATAVAULT_TRANSIT_MOUNT"):
        policy(Role.REPLICA, mount, ["behaviour"])
    for write in (terraform, commands, document):
        with pytest.raises(ConfigurationError, match="DATAVAULT_TRANSIT_MOUNT"):
            write(mount, ["behaviour"], ())


def test_a_class_whose_key_has_another_use_is_refused() -> None:
    """A class `log` would open the key that signs the log."""
    with pytest.raises(ConfigurationError, match="cannot be a key class"):
        policy(Role.REPLICA, "transit", ["log"])


def test_one_path_fits_into_a_message() -> None:
    """The line that doctor says to add is the policy's, parameters included."""
    [config] = [
        one for one in grants(Role.OPERATOR, MOUNT, ["contact"]) if one.path.endswith("contact/config")
    ]
    assert one_line(config) == (
        'path "kms/transit/keys/datavault-contact/config" { capabilities = ["update"] '
        'allowed_parameters = { "min_decryption_version" = [] } }'
    )


# --- Terraform ----------------------------------------------------------------------------------------------


def blocks(text: str) -> dict[str, str]:
    """The top-level blocks of an HCL 2 text: header -> body. Fails where braces, brackets, quotes or heredocs
    are not closed."""
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r'([a-z]+(?: "[a-z_]+")*) \{', line)
        assert match, line
        body, depth = [], 1
        for inner in lines:
            if inner.rstrip().endswith("<<-EOT"):
                body.append(inner)
                for each in lines:
                    body.append(each)
                    if each.strip() == "EOT":
                        break
                else:
                    raise AssertionError("a heredoc is not closed")
                continue
            bare = re.sub(r'"(?:[^"\\$]|\$\{[a-z_.]+\})*"', '""', inner.partition("#")[0])
            assert '"' not in bare.replace('""', ""), inner
            depth += len(re.findall(r"[{(\[]", bare)) - len(re.findall(r"[})\]]", bare))
            if depth == 0:
                assert inner == "}", inner
                break
            body.append(inner)
        else:
            raise AssertionError(f"{line} is not closed")
        assert match[1] not in found, "a block stands there twice"
        found[match[1]] = "\n".join(body)
    return found


def test_terraform_makes_mount_keys_and_policies() -> None:
    """Structure of the text: every key in the resource of its type, every policy with the HCL of its own."""
    chosen = [policy(role, MOUNT, STANDARD_CLASSES) for role in (Role.REPLICA, Role.OPERATOR)]
    found = blocks(terraform(MOUNT, STANDARD_CLASSES, chosen))
    assert set(found) == {
        "terraform",
        'resource "vault_mount" "datavault"',
        'resource "vault_generic_endpoint" "refuse_upserts"',
        'resource "vault_transit_secret_backend_key" "wrapping"',
        'resource "vault_transit_secret_backend_key" "signing"',
        'resource "vault_policy" "datavault_kms_transit_replica"',
        'resource "vault_policy" "datavault_kms_transit_operator"',
    }
    for kind, type_, derived in (("wrapping", "aes256-gcm96", "true"), ("signing", "ed25519", "false")):
        body = found[f'resource "vault_transit_secret_backend_key" "{kind}"']
        names = {name for name, of in all_keys(STANDARD_CLASSES).items() if of == type_}
        assert set(re.findall(r'"(datavault-[a-z]+)"', body)) == names
        assert re.search(rf"derived +\= {derived}", body)
        assert re.search(r"exportable +\= false", body)
        assert "prevent_destroy = true" in body
    for each in chosen:
        body = found[f'resource "vault_policy" "datavault_kms_transit_{each.role}"']
        heredoc = body.split("<<-EOT\n")[1].rsplit("\n", 1)[0]
        assert "\n".join(line.removeprefix("  ") for line in heredoc.split("\n")) + "\n" == hcl(each)


def test_the_check_of_terraform_finds_what_is_not_closed() -> None:
    """The structural check can fail."""
    good = terraform("transit", ["contact"], [policy(Role.REPLICA, "transit", ["contact"])])
    for cut in ("EOT\n}", "])\n", 'type = "transit"\n}'):
        assert cut in good
        with pytest.raises(AssertionError):
            blocks(good.replace(cut, ""))


# --- the rest -----------------------------------------------------------------------------------------------


def test_the_commands_are_a_shell_script() -> None:
    """`sh -n` parses it, policies included."""
    text = commands("transit", STANDARD_CLASSES, [policy(Role.REPLICA, "transit", STANDARD_CLASSES)])
    subprocess.run(["/bin/sh", "-n"], input=text, text=True, check=True, timeout=20)


def test_the_document_holds_keys_and_policies() -> None:
    """For programs: names, types, paths, capabilities and the HCL."""
    found = document("transit", ["contact"], [policy(Role.REPLICA, "transit", ["contact"])])
    assert {key["name"]: (key["type"], key["derived"]) for key in found["keys"]}["datavault-contact"] == (
        "aes256-gcm96",
        True,
    )
    [only] = found["policies"]
    assert only["hcl"].startswith("# datavault-replica")
    assert {"transit/decrypt/datavault-contact": ("update",)}.items() <= {
        one["path"]: one["capabilities"] for one in only["paths"]
    }.items()


def test_every_row_says_why_and_what_is_lost() -> None:
    """Doctor and documentation take their words from here."""
    assert [rule.path for rule in RULES if not (rule.why and rule.lacking and rule.roles)] == []


def test_the_page_has_the_table() -> None:
    """docs/operations/keys.md shows the table as it is made from the rules."""
    assert "\n".join(table()) in KEYS_PAGE.read_text("utf-8")


def test_the_page_shows_what_the_command_prints() -> None:
    """Policy, Terraform and shell commands on the page are the command's output, the latter two up to where
    their policies begin."""
    page, classes = KEYS_PAGE.read_text("utf-8"), sorted(STANDARD_CLASSES)
    restricted = policy(Role.REPLICA, "transit", ["behaviour"], STANDARD_CLASSES)
    assert f"```hcl\n{hcl(restricted)}```" in page
    assert f"```hcl\n{terraform('transit', classes, ())}```" in page
    assert f"```sh\n{commands('transit', classes, ())}```" in page
    for write in (terraform, commands):
        assert write("transit", classes, [restricted]).startswith(write("transit", classes, ()))
