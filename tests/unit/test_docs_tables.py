"""The documentation says what the code does: acts of RPCs, settings, metrics, reasons, links."""

import re
from pathlib import Path

import pytest

from vault.config import Settings, _environment_name
from vault.domain.errors import ErrorReason
from vault.domain.types import Act, Reason
from vault.server.errors import CODES
from vault.server.metrics import Meter

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_RPC = re.compile(r"((?:^ *//[^\n]*\n)+) *rpc (\w+)\(", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"])


def table(page: Path, columns: int) -> list[list[str]]:
    """All rows of at least `columns` cells of a page's tables, backquotes removed."""
    rows = [line.strip("|").split("|") for line in page.read_text("utf-8").splitlines() if line[:1] == "|"]
    return [[cell.strip().replace("`", "") for cell in row] for row in rows if len(row) >= columns]


def acts_of_protos() -> dict[tuple[str, str], list[str]]:
    """(service, RPC) -> the acts its comment names."""
    found = {}
    for path in sorted((ROOT / "proto/vault/v1").glob("*.proto")):
        text = path.read_text("utf-8")
        for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            for comment, rpc in _RPC.findall(body):
                acts = re.findall(r"Act: ([a-z.*]+)", comment)
                found[service, rpc] = [act.rstrip(".") for act in acts]
    return found


def test_every_rpc_names_exactly_one_act() -> None:
    """Each RPC's comment names one act, and the policy knows it."""
    known = {"read.*", *(act.value for act in Act)}
    assert {
        rpc: acts for rpc, acts in acts_of_protos().items() if len(acts) != 1 or acts[0] not in known
    } == {}


def test_the_page_of_acts_is_that_of_the_protos() -> None:
    """docs/rpc-acts.md lists every RPC with the act of its comment."""
    rows = {
        (row[0], row[1]): [row[2]] for row in table(DOCS / "rpc-acts.md", 4) if row[0].endswith("Service")
    }
    assert rows == acts_of_protos()


def test_every_setting_is_documented() -> None:
    """The operators' guide lists every setting under the environment name it has."""
    listed = {row[0]: row[1].split()[0] for row in table(DOCS / "operations/guide.md", 4) if row[1]}
    settings = {name: _environment_name(name) for name in Settings.model_fields}
    assert {name: listed.get(name) for name in settings} == settings


def test_every_metric_is_documented() -> None:
    """The operators' guide names every metric that the service exposes."""
    text = (DOCS / "operations/guide.md").read_text("utf-8").replace("`, `_", "`, `datavault_dek_cache_")
    names = {family.name for family in Meter().registry.collect()}
    assert {name for name in names if f"`{name}" not in text} == set()


def test_every_denial_reason_is_documented_in_its_order() -> None:
    """The guide of internal services lists the reasons in the order in which they are told."""
    known = {reason.value for reason in Reason}
    rows = [row[0] for row in table(DOCS / "internal-services/guide.md", 3) if row[0] in known]
    assert rows == [reason.value for reason in Reason]


def test_every_error_is_documented_with_its_status() -> None:
    """The guide of internal services gives each error reason the status it is sent with.

    SUBJECT_RESTRICTED is left out: no call answers it in this release.
    """
    told = {
        reason: row[1]
        for row in table(DOCS / "internal-services/guide.md", 4)
        for reason in row[0].split(", ")
        if reason in ErrorReason.__members__
    }
    sent = {reason.value: code.name for reason, code in CODES.items()}
    del sent[ErrorReason.SUBJECT_RESTRICTED.value]
    assert told == sent


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that is there, and a heading that it has."""
    dead = []
    for link in _LINK.findall(page.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (heading and heading not in headings(target)):
            dead.append(link)
    assert dead == []


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
