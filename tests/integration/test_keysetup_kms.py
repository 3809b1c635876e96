"""`datavault keys init` and `datavault doctor` against a real KMS."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import run
from tests.support.keysetup import BEHAVIOUR_ONLY, CLASSES, Kms, running_kms, set_up, small_policies
from tests.support.service import POLICIES
from vault import diagnosis
from vault.config import Settings
from vault.crypto.names import LOG, RECEIPT, WRAPPING_KIND, all_keys
from vault.crypto.transit import TransitKeyProvider, TransitSettings
from vault.crypto.transit_formats import commands, hcl
from vault.crypto.transit_policies import Role, grants, policy, policy_prefix
from vault.diagnosis import Finding, Health, diagnose
from vault.domain.errors import ConfigurationError, KeyForbiddenError, KeyTooOldError
from vault.domain.protocols import UnwrapItem, WrapItem
from vault.domain.system import SystemClock
from vault.key_setup import State, Step
from vault.policy.check import check

MOUNTS = count(1)
ACL_GLOBS = {f"sys/policies/acl/datavault-{role}-*" for role in Role}
LINE = 'path "{}" {{ capabilities = ["{}"] }}'


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    """One server for all tests here; those that make keys have a mount of their own."""
    folder = tmp_path_factory.mktemp("keysetup")
    with running_kms(folder / "kms") as kms:
        set_up(kms.settings(folder, small_policies(folder / "policies")), Role.REPLICA, Role.OPERATOR)
        set_up(kms.settings(folder, folder / "policies"), classes=["behaviour"])
        yield kms


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_policies(tmp_path_factory.mktemp("small") / "policies")


@pytest.fixture
def fresh() -> str:
    """The path of a mount that is not there yet."""
    return f"fresh/{next(MOUNTS)}"


def setup_token(kms: Kms, mount: str) -> str:
    return kms.token_of(hcl(policy(Role.SETUP, mount, CLASSES)))


def states(steps: list[Step], kind: str = "") -> set[State]:
    return {step.state for step in steps if kind in ("", step.kind)}


# --- keys init ----------------------------------------------------------------------------------------------


def test_the_setup_role_makes_all_of_it_once(kms: Kms, policies: Path, tmp_path: Path, fresh: str) -> None:
    """With no more than the policy of the role setup: mount, setting, keys and policies are made, each key of
    its type and never exportable; run again, all is there."""
    settings = kms.settings(tmp_path, policies, setup_token(kms, fresh), transit_mount=fresh)
    roles = (Role.REPLICA, Role.OPERATOR)
    made = set_up(settings, *roles)
    assert [(step.kind, step.name) for step in made] == [
        ("mount", fresh),
        ("setting", f"{fresh}/config/keys disable_upsert"),
        *(("key", name) for name in all_keys(CLASSES)),
        ("policy", f"{policy_prefix(fresh)}replica"),
        ("policy", f"{policy_prefix(fresh)}operator"),
    ]
    assert states(made) == {State.MADE}
    assert states(set_up(settings, *roles)) == {State.THERE}
    for name, kind in all_keys(CLASSES).items():
        key = kms.do("GET", f"{fresh}/keys/{name}")["data"]
        assert (key["type"], key["derived"]) == (kind, kind == WRAPPING_KIND)
        loose = ("exportable", "allow_plaintext_backup", "deletion_allowed")
        assert [what for what in loose if key[what]] == []
    misspelt = kms.ask("POST", f"{fresh}/encrypt/datavault-contcat", {"plaintext": "AAAA", "context": "AAAA"})
    assert misspelt.status_code == 400, "even for root a misspelt key is an error"


def test_a_dry_run_makes_nothing(kms: Kms, policies: Path, tmp_path: Path, fresh: str) -> None:
    """It says what would be made, and afterwards not even the mount is there."""
    settings = kms.settings(tmp_path, policies, setup_token(kms, fresh), transit_mount=fresh)
    steps = set_up(settings, classes=["contact"], dry_run=True)
    assert states(steps) == {State.TO_MAKE}
    assert kms.ask("GET", f"sys/mounts/{fresh}").status_code == 400
    assert kms.ask("GET", f"sys/policies/acl/{policy_prefix(fresh)}replica-contact").status_code == 404


def test_a_policy_that_was_changed_is_written_anew(
    kms: Kms, policies: Path, tmp_path: Path, fresh: str
) -> None:
    """A dry run tells it apart from one that is missing, and so does the real one."""
    settings = kms.settings(tmp_path, policies, transit_mount=fresh)
    name = f"{policy_prefix(fresh)}operator-contact"
    kms.do("POST", f"sys/policies/acl/{name}", {"policy": 'path "x" { policy = "read" }'})
    planned = set_up(settings, Role.OPERATOR, classes=["contact"], dry_run=True)
    done = set_up(settings, Role.OPERATOR, classes=["contact"])
    assert (states(planned, "policy"), states(done, "policy")) == ({State.TO_CHANGE}, {State.CHANGED})


def test_a_key_of_another_type_refuses_all_of_it(
    kms: Kms, policies: Path, tmp_path: Path, fresh: str
) -> None:
    """Nothing else is made beside it; the message names key and type."""
    kms.do("POST", f"sys/mounts/{fresh}", {"type": "transit"})
    kms.do("POST", f"{fresh}/keys/datavault-contact", {"type": "chacha20-poly1305", "derived": True})
    with pytest.raises(ConfigurationError, match="datavault-contact of type chacha20-poly1305"):
        set_up(kms.settings(tmp_path, policies, transit_mount=fresh))
    assert kms.ask("GET", f"{fresh}/keys/datavault-behaviour").status_code == 404


def test_another_engine_in_its_place_is_refused(kms: Kms, policies: Path, tmp_path: Path) -> None:
    """A mount of another type under that path."""
    with pytest.raises(ConfigurationError, match="not a mount of the Transit engine"):
        set_up(kms.settings(tmp_path, policies, transit_mount="cubbyhole"))


def test_what_a_token_may_not_do_is_told_and_the_rest_done(
    kms: Kms, policies: Path, tmp_path: Path, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that may make keys but write no policies: keys are made, and the command fails with path and
    capability."""
    kms.do("POST", f"sys/mounts/{fresh}", {"type": "transit"})
    keys_only = "\n".join(
        line for line in hcl(policy(Role.SETUP, fresh, CLASSES)).split("\n\n") if "acl" not in line
    )
    steps = set_up(kms.settings(tmp_path, policies, kms.token_of(keys_only), transit_mount=fresh))
    assert states(steps, "key") == {State.MADE}
    assert states(steps, "policy") == {State.NOT_PERMITTED}
    variables = {**kms.variables(kms.token_of(keys_only)), "DATAVAULT_TRANSIT_MOUNT": fresh}
    for name, value in {**variables, "DATAVAULT_POLICIES": str(policies)}.items():
        monkeypatch.setenv(name, value)
    told = run("keys", "init", "--apply", "--role", "replica")
    assert told.exit_code == 1
    assert f"the token may not `read` sys/policies/acl/{policy_prefix(fresh)}replica" in told.stderr
    assert "datavault keys init --role setup" in told.stderr


def test_a_service_token_cannot_set_up(kms: Kms, policies: Path, tmp_path: Path) -> None:
    """A restricted replica's token is refused at the first key it may not see."""
    settings = kms.settings(tmp_path, policies, kms.token(BEHAVIOUR_ONLY))
    with pytest.raises(KeyForbiddenError, match="may not `read` transit/keys/datavault-contact"):
        set_up(settings)


def test_the_commands_do_the_same(kms: Kms, policies: Path, tmp_path: Path, fresh: str) -> None:
    """The shell script that is printed, run with the real program where mount and one key are there already,
    leaves nothing for --apply to do."""
    kms.do("POST", f"sys/mounts/{fresh}", {"type": "transit"})
    kms.do("POST", f"{fresh}/keys/datavault-contact", {"type": WRAPPING_KIND, "derived": True})
    environment = {"PATH": os.environ["PATH"], "KMS": kms.server.program, "HOME": str(tmp_path)}
    subprocess.run(
        ["/bin/sh"],
        input=commands(fresh, CLASSES, [policy(Role.REPLICA, fresh, CLASSES, CLASSES)]),
        env={**kms.variables(), **environment},
        text=True,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert states(set_up(kms.settings(tmp_path, policies, transit_mount=fresh))) == {State.THERE}


def test_the_page_sets_up_a_kms(kms: Kms, policies: Path, tmp_path: Path) -> None:
    """The commands of docs/operations/keys.md run as they stand there, but for where the KMS is: the policies
    of all roles are there afterwards, and the token that was used is not."""
    page = (POLICIES.parent / "docs" / "operations" / "keys.md").read_text("utf-8")
    [script] = re.findall(r"```sh\nexport DATAVAULT_KEYS[^\n]*\n(.*?)```", page, re.DOTALL)
    program = Path(kms.server.program)
    # a shell that tells when the first command of a pipe failed
    script = "set -euo pipefail\n" + script.replace("bao ", f"{program.name} ") + 'echo "$VAULT_TOKEN" > used'
    beside = os.pathsep.join([str(Path(sys.executable).parent), str(program.parent), os.environ["PATH"]])
    environment = {"PATH": beside, "HOME": str(tmp_path), "DATAVAULT_POLICIES": str(policies)}
    told = subprocess.run(
        ["bash", "-c", script],
        env={**kms.variables(), **environment},
        cwd=tmp_path,
        text=True,
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert {"datavault-setup", "datavault-replica", "datavault-operator", BEHAVIOUR_ONLY} <= {
        *kms.do("LIST", "sys/policies/acl")["data"]["keys"]
    }
    used = (tmp_path / "used").read_text("ascii").strip()
    assert kms.ask("GET", "auth/token/lookup-self", token=used).status_code == 403


# --- policies as the server reads them ----------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
def test_the_server_grants_what_the_table_says(kms: Kms, role: Role) -> None:
    """A token with the generated policy has at each path of any role exactly the capabilities of its own."""
    every = {grant.path for each in Role for grant in grants(each, "transit", CLASSES)}
    asked = sorted(
        {*every, "transit/export/encryption-key/datavault-contact", "auth/token/create"} - ACL_GLOBS
    )
    token = kms.token_of(hcl(policy(role, "transit", CLASSES)))
    body = {"token": token, "paths": asked}
    found = kms.do("POST", "sys/capabilities", body)["data"]
    own = {grant.path: set(grant.capabilities) for grant in grants(role, "transit", CLASSES)}
    assert {path: set(found[path]) for path in asked} == {path: own.get(path, {"deny"}) for path in asked}


def test_each_role_can_do_its_whole_work(kms: Kms, policies: Path, tmp_path: Path, fresh: str) -> None:
    """With no more than its policy a replica wraps, unwraps, signs and looks; an operator's also rotates
    every key, rewraps, and retires the old version."""
    set_up(kms.settings(tmp_path, policies, transit_mount=fresh), Role.REPLICA, Role.OPERATOR)
    with (
        provider(kms, f"{policy_prefix(fresh)}replica", fresh) as replica,
        provider(kms, f"{policy_prefix(fresh)}operator", fresh) as operator,
    ):
        wrapping = [name for name, kind in all_keys(CLASSES).items() if kind == WRAPPING_KIND]
        wrapped = {key: replica.wrap(key, [WrapItem(bytes(32), b"context")])[0] for key in wrapping}
        assert replica.health().healthy
        for key in (LOG, RECEIPT):
            assert len(replica.sign(key, b"message")) == 64
            assert replica.public_key(key).version == 1
            with pytest.raises(KeyForbiddenError):
                replica.rotate(key)
            assert operator.rotate(key) == 2
            assert len(operator.sign(key, b"message", version=1)) == 64
        for key, old in wrapped.items():
            assert operator.rotate(key) == 2
            [new] = operator.rewrap(key, [UnwrapItem(old, b"context")])
            assert isinstance(new, bytes)
            operator.retire(key, 2)
            [opened, refused] = replica.unwrap(key, [UnwrapItem(one, b"context") for one in (new, old)])
            assert (opened, type(refused)) == (bytes(32), KeyTooOldError)


@contextmanager
def provider(kms: Kms, policy_name: str, mount: str) -> Iterator[TransitKeyProvider]:
    made = TransitKeyProvider(
        TransitSettings(
            kms.server.address,
            token=kms.token(policy_name),
            ca_certificate=kms.server.ca_certificate,
            mount=mount,
        ),
        SystemClock(),
    )
    try:
        yield made
    finally:
        made.close()


def test_an_operator_sets_nothing_but_the_oldest_version(kms: Kms) -> None:
    """The path that retires versions could make a key exportable for ever: that parameter is refused."""
    token = kms.token("datavault-operator")
    path = "transit/keys/datavault-contact/config"
    assert kms.ask("POST", path, {"min_decryption_version": 1}, token).ok
    for what in ("exportable", "allow_plaintext_backup", "deletion_allowed"):
        assert kms.ask("POST", path, {what: True}, token).status_code == 403
        assert kms.ask("POST", path, {what: True, "min_decryption_version": 1}, token).status_code == 403


def test_the_setup_role_writes_policies_of_replicas_alone(kms: Kms) -> None:
    """Not its own, which would be a way to any right, and nobody else's."""
    token = setup_token(kms, "transit")
    text = {"policy": 'path "transit/*" { capabilities = ["sudo"] }'}
    for name in ("datavault-setup", "default", "another"):
        assert kms.ask("POST", f"sys/policies/acl/{name}", text, token).status_code == 403


# --- doctor -------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison with Casbin has tests of its own, and takes seconds."""
    monkeypatch.setattr(diagnosis, "check", partial(check, budget_seconds=0.01))


def examined(settings: Settings) -> list[Finding]:
    """What doctor finds of keys and token."""
    return [one for one in diagnose(settings) if one.check in ("keys", "kms token")]


def faults(settings: Settings) -> list[tuple[str, str, str]]:
    return [
        (one.health.value, one.detail, one.remedy)
        for one in examined(settings)
        if one.health is not Health.GOOD
    ]


def replica_text(*without: str, more: str = "") -> str:
    """The policy of a replica without the blocks of some paths."""
    text = hcl(policy(Role.REPLICA, "transit", CLASSES))
    blocks = text.replace("}\n", "}\n\x00").split("\x00")
    return "".join(block for block in blocks if not any(f'"{path}"' in block for path in without)) + more


@pytest.mark.parametrize("role", ["datavault-replica", "datavault-operator"])
def test_a_token_of_its_role_has_no_faults(kms: Kms, policies: Path, tmp_path: Path, role: str) -> None:
    """Doctor finds nothing, and says how long the token lives and which version answers."""
    settings = kms.settings(tmp_path, policies, kms.token(role))
    assert faults(settings) == []
    told = " ".join(one.detail for one in examined(settings))
    assert "version 2." in told
    assert re.search(r"the token ends in \d+ min, and can be renewed", told)
    assert ("role operator" in told) == (role == "datavault-operator")


@pytest.mark.parametrize(
    ("path", "capability", "consequence"),
    [
        ("transit/decrypt/datavault-contact", "update", "reads of class contact answer key-unavailable"),
        (
            "transit/encrypt/datavault-contact",
            "update",
            "writes of class contact that need a new data key answer KEYS_UNAVAILABLE",
        ),
        ("transit/sign/datavault-log", "update", "the audit log gets no checkpoints"),
        (
            "transit/decrypt/datavault-lookup",
            "update",
            "the keys of tenants under datavault-lookup do not open",
        ),
        (
            "transit/keys/datavault-log",
            "read",
            "start and `keys status` cannot look at the key of datavault-log",
        ),
        (
            "auth/token/lookup-self",
            "read",
            "a refused key passes for a refused token, and nobody sees when the token ends",
        ),
    ],
)
def test_a_missing_capability_is_named_exactly(
    kms: Kms, policies: Path, tmp_path: Path, path: str, capability: str, consequence: str
) -> None:
    """Capability, path, what happens without it, and the line to add to the policy; nothing else is found."""
    settings = kms.settings(tmp_path, policies, kms.token_of(replica_text(path)))
    assert faults(settings) == [
        (
            "bad",
            f"the token lacks `{capability}` on {path}: {consequence}",
            f"add to the policy: {LINE.format(path, capability)}",
        )
    ]


def test_half_an_operator_is_told(kms: Kms, policies: Path, tmp_path: Path) -> None:
    """A token that may rotate and not rewrap one class: a warning names the path."""
    text = hcl(policy(Role.OPERATOR, "transit", CLASSES)).replace(
        'path "transit/rewrap/datavault-contact"', 'path "transit/rewrap/datavault-other"'
    )
    [(health, detail, _)] = faults(kms.settings(tmp_path, policies, kms.token_of(text)))
    assert health == "warning"
    assert "lacks `update` on transit/rewrap/datavault-contact" in detail


def test_a_restricted_replica_is_a_warning(kms: Kms, policies: Path, tmp_path: Path) -> None:
    """The class left out, once; nothing is bad."""
    [(health, detail, _)] = faults(kms.settings(tmp_path, policies, kms.token(BEHAVIOUR_ONLY)))
    assert health == "warning"
    assert detail == "not served by this replica: contact; their attributes answer key-unavailable"


def test_a_token_of_another_mount_is_one_mistake(kms: Kms, policies: Path, tmp_path: Path) -> None:
    """With the mount misspelt no class works: one finding says so, the keys all replicas need come after."""
    settings = kms.settings(tmp_path, policies, kms.token("datavault-replica"), transit_mount="elsewhere")
    first, *_ = faults(settings)
    assert first[:2] == ("bad", "the token may use the key of no class in the mount elsewhere")
    assert "DATAVAULT_TRANSIT_MOUNT" in first[2]


def test_a_root_token_is_a_warning(kms: Kms, policies: Path, tmp_path: Path) -> None:
    """And that it never ends."""
    told = faults(kms.settings(tmp_path, policies))
    assert [(health, detail.split(":")[0]) for health, detail, _ in told] == [
        ("warning", "the token never ends"),
        ("warning", "a root token"),
    ]


@pytest.mark.parametrize(
    ("path", "capability", "told"),
    [
        (
            "transit/export/*",
            "read",
            "`read` on transit/export/encryption-key/datavault-behaviour (and 6 more)",
        ),
        ("transit/backup/datavault-contact", "read", "`read` on transit/backup/datavault-contact: "),
        ("transit/keys/datavault-behaviour", "delete", "`delete` on transit/keys/datavault-behaviour: "),
        ("sys/policies/acl/*", "update", "it could give itself any right"),
        ("auth/token/create", "update", "it could make tokens that outlive it"),
        ("transit/decrypt/datavault-*", "update", "a pattern opens the keys of classes that are added later"),
        ("transit/encrypt/datavault-contact", "create", "may `create` on transit/encrypt/datavault-contact"),
    ],
)
def test_a_right_too_many_is_a_warning(
    kms: Kms, policies: Path, tmp_path: Path, path: str, capability: str, told: str
) -> None:
    """What the token could do beyond its role is named with what it means."""
    more = kms.token_of(LINE.format(path, capability))
    extra = kms.do("POST", "auth/token/lookup", {"token": more})["data"]["policies"]
    token = kms.token("datavault-replica", *extra)
    found = faults(kms.settings(tmp_path, policies, token))
    assert [health for health, *_ in found] == ["warning"]
    assert told in found[0][1]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"renewable": False}, "and cannot be renewed"),
        ({"type": "batch", "no_default_policy": None}, "and cannot be renewed"),
    ],
)
def test_a_token_that_will_just_end_is_a_warning(
    kms: Kms, policies: Path, tmp_path: Path, more: dict[str, Any], told: str
) -> None:
    """Whoever gave it must give another one by hand."""
    token = kms.token("datavault-replica", **more)
    found = faults(kms.settings(tmp_path, policies, token))
    assert [(health, told in detail) for health, detail, _ in found] == [("warning", True)]


@pytest.mark.parametrize(
    ("make", "config", "health", "told"),
    [
        (
            {"derived": False},
            {},
            "bad",
            "of type aes256-gcm96, derived=False, not aes256-gcm96, derived=True",
        ),
        ({"type": "chacha20-poly1305", "derived": True}, {}, "bad", "of type chacha20-poly1305"),
        ({"derived": True, "exportable": True}, {}, "warning", "exportable, which cannot be undone"),
        (
            {"derived": True, "allow_plaintext_backup": True, "exportable": False},
            {},
            "warning",
            "allows plaintext backup",
        ),
        ({"derived": True}, {"deletion_allowed": True}, "warning", "may be deleted"),
        (None, {}, "bad", "not there"),
    ],
    ids=["not derived", "other type", "exportable", "backup", "deletable", "missing"],
)
def test_a_key_kept_carelessly_is_told(
    kms: Kms,
    policies: Path,
    tmp_path: Path,
    fresh: str,
    make: dict[str, Any] | None,
    config: dict[str, Any],
    health: str,
    told: str,
) -> None:
    """Doctor names the key and what is wrong with it, and nothing else."""
    kms.do("POST", f"sys/mounts/{fresh}", {"type": "transit"})
    name = f"{fresh}/keys/datavault-contact"
    if make is not None:
        kms.do("POST", name, make)
        if config:
            kms.do("POST", f"{name}/config", config)
    for other, kind in all_keys(CLASSES).items():
        if not name.endswith(other):
            kms.do("POST", f"{fresh}/keys/{other}", {"type": kind, "derived": kind == WRAPPING_KIND})
    token = kms.token_of(hcl(policy(Role.REPLICA, fresh, CLASSES)))
    [found] = faults(kms.settings(tmp_path, policies, token, transit_mount=fresh))
    assert found[0] == health
    assert found[1].startswith("datavault-contact: ")
    assert told in found[1]


def test_without_the_right_to_ask_the_keys_are_looked_at_one_by_one(
    kms: Kms, policies: Path, tmp_path: Path
) -> None:
    """A token that may not ask what it may do: that is a warning, and a key it may not see is still found."""
    text = replica_text("sys/capabilities-self", "transit/keys/datavault-contact")
    told = faults(kms.settings(tmp_path, policies, kms.token_of(text)))
    assert [health for health, *_ in told] == ["warning", "bad"]
    assert "its rights were not compared" in told[0][1]
    assert told[0][2] == f"add to the policy: {LINE.format('sys/capabilities-self', 'update')}"
    assert told[1][1].startswith("datavault-contact: ")


def test_production_refuses_local_keys(policies: Path, tmp_path: Path) -> None:
    """Doctor says it before the start does."""
    given: dict[str, Any] = {"home": tmp_path / "home", "policies": policies}
    settings = Settings(**given, environment="production", keys="local")
    [(health, detail, _)] = faults(settings)
    assert health == "bad"
    assert "DATAVAULT_KEYS=transit" in detail
