"""The YAML files, notices and the folder: what is refused, where, and what a good bundle holds."""

import os
from pathlib import Path

import pytest
import yaml

from tests.support.policy import (
    ATTRIBUTES,
    CALLERS,
    NOTICE,
    PURPOSES,
    TESTS,
    edited,
    example_bundle,
    example_files,
    problems_of,
    write_folder,
)
from vault.domain.errors import ConfigurationError
from vault.domain.protocols import CallerDirectory
from vault.domain.types import Basis, Form
from vault.policy import files as policy_files
from vault.policy.bundle import bundle_from_files, load_bundle
from vault.policy.files import TOTAL_BYTES, bundle_hash
from vault.policy.problems import PolicyError

MISTAKES = yaml.safe_load((Path(__file__).parents[1] / "golden" / "policy_mistakes.yaml").read_text())


def place_of(text: str, needle: str) -> tuple[int, int]:
    """Line and column of the first `needle`, counted without the code under test."""
    before = text[: text.index(needle)]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: f"{case['file']}: {case['new'].strip()[:40]}")
def test_a_mistake_is_told_where_it_stands(case: dict[str, str]) -> None:
    """One wrong word is found at its line and column, with what was probably meant."""
    files = edited(case["file"], case["old"], case["new"])
    problem = next(found for found in problems_of(files) if found.path == case["file"])
    expected = place_of(files[case["file"]].decode(), case["at"])
    assert problem.message.startswith(case["message"])
    assert (problem.line, problem.column) == expected
    assert problem.suggestion == case.get("suggestion", "")


def test_forms_can_be_left_out() -> None:
    """An attribute need not have every form."""
    bundle = bundle_from_files(edited("attributes.yaml", "[clear, {mask", "[{mask"))
    assert bundle.attributes["email"].spec(Form.CLEAR) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("purposes: &a {}\n", "anchors and aliases are not allowed"),
        ("purposes: *a\n", "anchors and aliases are not allowed"),
        ("purposes: !!map {}\n", "tags are not allowed"),
        ("purposes: !python/object:os.system {}\n", "tags are not allowed"),
        ("1: {}\n", "a key must be a plain string"),
        ("{a: 1}: {}\n", "a key must be a plain string"),
        ("true: {}\n", "a key must be a plain string"),
        ("purposes: {}\n---\npurposes: {}\n", "only one YAML document"),
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("[" * 200 + "]" * 200, "nested too deeply"),
        ("purposes: {}\n", "must have at least 1 item"),
        ("- a\n", "must be a mapping"),
        ("purposes: \x07\n", "control character"),
        ('purposes: "\\u200b"\n', "invisible or control character in a value"),
    ],
)
def test_yaml_beyond_plain_data_is_refused(text: str, message: str) -> None:
    """Anchors, tags, other keys than words, and several documents have no place in a policy."""
    problems = problems_of(example_files(purposes=text))
    assert any(message in problem.message for problem in problems), problems


def test_a_file_that_is_not_utf8_is_refused_where_it_stops_being_it() -> None:
    """The place of the first bad byte is told."""
    files = example_files()
    files["callers.yaml"] = CALLERS.encode().replace(b"Ranks", b"R\xffnks")
    [problem] = problems_of(files)
    assert (problem.path, problem.line, problem.column, problem.message) == (
        "callers.yaml",
        8,
        20,
        "not UTF-8",
    )


def test_missing_and_unknown_files_are_refused() -> None:
    """A folder holds what policies have, and nothing else."""
    files = example_files()
    del files["model.conf"]
    files["polcy.csv"] = b""
    found = {
        (problem.path, problem.message.split(":")[0], problem.suggestion) for problem in problems_of(files)
    }
    assert found == {("model.conf", "the file is missing", ""), ("polcy.csv", "unknown file", "policy.csv")}


def test_covers_must_be_equal_in_all_languages() -> None:
    """A customer who read another language must not have consented to something else."""
    files = example_files()
    files["notices/offers/2/pt.md"] = NOTICE.replace("pd:Income, ", "").encode()
    [problem] = problems_of(files)
    assert (problem.path, problem.line) == ("notices/offers/2/pt.md", 3)
    assert problem.message == "'covers' differs from notices/offers/2/en.md"


def test_a_notice_must_cover_the_purpose_that_asks_for_it() -> None:
    """A purpose whose notice does not cover it could never get a consent."""
    files = edited("notices/offers/2/en.md", "personalised-offers", "fraud-detection")
    [problem] = problems_of(files)
    assert (problem.path, problem.line) == ("purposes.yaml", 12)
    assert "no version of notice 'offers' from 2 on covers" in problem.message


def test_a_direct_marketing_objection_cannot_be_overridden() -> None:
    """GDPR 21(3) knows no exception."""
    override = '    direct_marketing: true\n    objection_overridden: "No."'
    files = edited("purposes.yaml", "    direct_marketing: true", override)
    messages = [problem.message for problem in problems_of(files)]
    assert any("an objection to direct marketing cannot be overridden" in message for message in messages)


@pytest.mark.parametrize(("depth", "refused"), [(9, False), (10, True)])
def test_purpose_chains_that_casbin_would_not_follow_are_refused(depth: int, refused: bool) -> None:
    """Nine parents above a leaf match in Casbin, ten silently do not."""
    node = "  n{0}:\n    dpv: dpv:X\n    descriptions: {{en: x}}\n{1}"
    chain = "".join(
        node.format(place, f"    parent: n{place + 1}\n" if place < depth else "")
        for place in range(depth + 1)
    )
    files = example_files(purposes=PURPOSES + chain)
    if refused:
        assert "more than 9 purposes above 'n0'" in problems_of(files)[0].message
    else:
        assert len(bundle_from_files(files).purposes["n0"].ancestors) == 9


@pytest.mark.parametrize(("depth", "refused"), [(8, False), (9, True)])
def test_category_chains_that_casbin_would_not_follow_are_refused(depth: int, refused: bool) -> None:
    """The link from an attribute to its category counts, so one category fewer fits."""
    chain = "".join(
        f"  pd:N{place}: {{{f'parent: pd:N{place + 1}' if place < depth else ''}}}\n"
        for place in range(depth + 1)
    )
    files = example_files(attributes=ATTRIBUTES.replace("key_classes:", chain + "key_classes:", 1))
    if refused:
        assert "more than 8 categories above 'pd:N0'" in problems_of(files)[0].message
    else:
        assert len(bundle_from_files(files).categories["pd:N0"]) == 9


def test_a_good_bundle_holds_what_the_files_say() -> None:
    """Purposes, attributes, callers, notices and rules come out as declared."""
    bundle = example_bundle()
    offers = bundle.purposes["personalised-offers"]
    assert (offers.ancestors, offers.leaf, offers.consent_lifetime_seconds) == (
        ("marketing",),
        True,
        730 * 86_400,
    )
    assert offers.declared("US-CA") == {Basis.OPT_OUT}
    assert not bundle.purposes["marketing"].leaf
    email = bundle.attributes["email"]
    assert [spec.form for spec in email.forms] == [Form.CLEAR, Form.MASK, Form.PSEUDONYMISE, Form.EXISTS]
    assert email.retention_seconds == 10 * 365 * 86_400
    assert bundle.categories["pd:EmailAddress"] == ("pd:EmailAddress", "pd:Contact", "pd:PersonalData")
    assert bundle.callers["engine"].roles == ("marketing", "everyone")
    assert bundle.key_classes["financial"].counted_from == "relationship-end"
    assert bundle.notice_texts["offers", 2, "en"] == "We look at your income band.\n"
    assert bundle.notices["offers", 2].covers["personalised-offers"] == {"pd:Income", "pd:EmailAddress"}
    assert (bundle.rules[0].id, bundle.rules[0].line) == ("offers-income", 2)


def test_identities_lead_to_callers() -> None:
    """The bundle is the directory that the identity room asks."""
    directory: CallerDirectory = example_bundle()
    found = [
        directory.by_spiffe("spiffe://bank.example/engine"),
        directory.by_dns("ENGINE.bank.example"),
        directory.by_jwt("https://idp.bank.example", "engine"),
    ]
    assert [entry.id if entry else None for entry in found] == ["engine"] * 3
    assert directory.by_spiffe("spiffe://bank.example/Engine") is None
    assert directory.by_jwt("https://idp.bank.example", "other") is None
    assert directory.by_dns("engine\u200b.bank.example") is None


def test_a_bundle_cannot_be_changed() -> None:
    """Readers share it between threads."""
    bundle = example_bundle()
    with pytest.raises(AttributeError):
        bundle.hash = ""  # type: ignore[misc]
    with pytest.raises(TypeError):
        bundle.callers["x"] = bundle.callers["engine"]  # type: ignore[index]


def test_the_hash_covers_all_files_but_tests() -> None:
    """Tests can be added to a bundle that serves; nothing else changes without a new name."""
    files = example_files()
    name = bundle_hash(files)
    assert bundle_hash({**files, "tests/example.yaml": b"x"}) == name
    for path in set(files) - {"tests/example.yaml"}:
        assert bundle_hash({**files, path: files[path] + b"#"}) != name
    assert bundle_hash({f"x{path}": content for path, content in files.items()}) != name


def test_a_folder_loads_like_its_files(tmp_path: Path) -> None:
    """Reading the folder adds and loses nothing."""
    files = example_files()
    bundle = load_bundle(write_folder(tmp_path, files))
    assert bundle.hash == bundle_from_files(files).hash
    assert dict(bundle.files) == files


def mounted(folder: Path, version: str = "..2026_11_30_09_00_00.1", link: str = "") -> Path:
    """The example policies as kubelet mounts a ConfigMap: files in a folder of their version, `..data` that
    points to it, and beside it a link through `..data` for each entry."""
    write_folder(folder / version, example_files())
    (folder / "..data").symlink_to(link or version)
    for entry in (folder / version).iterdir():
        (folder / entry.name).symlink_to(Path("..data") / entry.name)
    return folder


def test_a_mounted_configmap_is_the_folder_it_was_made_of(tmp_path: Path) -> None:
    """Folders below it too; the bundle has the hash that the security team knows."""
    bundle = load_bundle(mounted(tmp_path / "policies"))
    assert bundle.files == example_files()
    assert bundle.hash == example_bundle().hash


def test_a_configmap_that_changes_while_it_is_read_gives_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kubelet replaces the link after the first file was read: every file is of the version before."""
    folder = mounted(tmp_path / "policies")
    write_folder(folder / "..new", dict.fromkeys(example_files(), b"other"))
    read = policy_files._read

    def and_replace(path: str) -> bytes:
        content = read(path)
        (folder / "..data_tmp").symlink_to("..new")
        (folder / "..data_tmp").replace(folder / "..data")
        return content

    monkeypatch.setattr(policy_files, "_read", and_replace)
    assert policy_files.read_folder(folder) == example_files()


@pytest.mark.parametrize("link", ["../elsewhere", "/etc", "..link"])
def test_the_link_of_a_mount_leads_nowhere_else(tmp_path: Path, link: str) -> None:
    """Only to a real folder beside it."""
    write_folder(tmp_path / "elsewhere", example_files())
    folder = mounted(tmp_path / "policies", link=link)
    (folder / "..link").symlink_to("../elsewhere")
    with pytest.raises(PolicyError, match="symbolic links are not followed"):
        load_bundle(folder)


@pytest.mark.parametrize("target", ["policy.csv", "notices/offers/2/en.md"])
def test_symbolic_links_are_refused(tmp_path: Path, target: str) -> None:
    """What is loaded is what lies in the folder."""
    folder = write_folder(tmp_path / "policies", example_files())
    outside = tmp_path / "elsewhere"
    (folder / target).rename(outside)
    (folder / target).symlink_to(outside)
    with pytest.raises(PolicyError, match="symbolic links are not followed"):
        load_bundle(folder)


def test_a_linked_folder_inside_is_refused(tmp_path: Path) -> None:
    """A link to a folder is a link too."""
    folder = write_folder(tmp_path / "policies", example_files())
    (folder / "more").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(PolicyError, match="symbolic links are not followed"):
        load_bundle(folder)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    """Special files are no policy files, and reading one must not block the service."""
    folder = write_folder(tmp_path, example_files())
    os.mkfifo(folder / "justifications.yaml")
    with pytest.raises(PolicyError, match="not a regular file"):
        load_bundle(folder)


def test_a_missing_folder_is_a_configuration_error(tmp_path: Path) -> None:
    """The operator's mistake is told as such."""
    with pytest.raises(ConfigurationError, match="nowhere: no such folder; set DATAVAULT_POLICIES"):
        load_bundle(tmp_path / "nowhere")


def test_an_oversized_file_is_refused(tmp_path: Path) -> None:
    """A file that is no policy must not fill the memory."""
    folder = write_folder(tmp_path, example_files())
    (folder / "policy.csv").write_bytes(b"#" * (TOTAL_BYTES + 1))
    with pytest.raises(PolicyError, match="bytes in all"):
        load_bundle(folder)


def test_two_tests_of_one_name_are_refused() -> None:
    """A report must say which test failed."""
    files = example_files()
    files["tests/more.yaml"] = TESTS.encode()
    assert "a test of this name stands in" in problems_of(files)[0].message


def test_a_justification_of_no_rule_is_refused() -> None:
    """A misspelt rule id would leave the finding unjustified in silence."""
    files = {**example_files(), "justifications.yaml": b'fraud-emial: "Because."\n'}
    [problem] = problems_of(files)
    assert (problem.line, problem.column, problem.suggestion) == (1, 1, "fraud-email")
