"""The Casbin model of policy.md, fixed. `serve` refuses another."""

from typing import Final

from vault.domain.types import Act, Form
from vault.policy.problems import Mark, Problems

MODEL: Final = """\
[request_definition]
r = sub, purpose, data, act, bases

[policy_definition]
p = id, sub, purpose, data, act, basis, eft

[role_definition]
g = _, _
g2 = _, _
g3 = _, _
g4 = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = p.basis in r.bases && g(r.sub, p.sub) && g2(r.purpose, p.purpose) && g3(r.data, p.data) && \
((p.eft == "allow" && g4(r.act, p.act)) || (p.eft == "deny" && g4(p.act, r.act)))
"""

LINKS: Final = 9
"""Casbin's role manager follows at most this many links; a longer chain silently stops matching."""

FORM_LINKS: Final[tuple[tuple[str, str], ...]] = (
    *((Form.EXISTS.act, form.act) for form in (Form.PSEUDONYMISE, Form.GENERALISE, Form.MASK)),
    *((form.act, Form.CLEAR.act) for form in (Form.PSEUDONYMISE, Form.GENERALISE, Form.MASK)),
    (Form.EXISTS.act, Act.SEARCH.value),
    (Form.EXISTS.act, Act.EXPORT.value),
)
"""The g4 rows, weaker to stronger."""

READ_ACTS: Final = frozenset({*(form.act for form in Form), Act.SEARCH.value, Act.EXPORT.value})
"""Acts asked with a purpose of the tree and the subject's bases."""
ACTS: Final = READ_ACTS | {act.value for act in Act}


def stronger_acts(act: str) -> frozenset[str]:
    """`act` and all acts above it in g4."""
    found = {act}
    for weaker, stronger in FORM_LINKS * 2:
        if weaker in found:
            found.add(stronger)
    return frozenset(found)


def check_model(path: str, text: str, problems: Problems) -> None:
    """Add a problem at the first line of model.conf that says something else than MODEL."""
    wanted = [line for _, line in _lines(MODEL)]
    found = _lines(text)
    for (number, line), expected in zip(found, wanted, strict=False):
        if line != expected:
            problems.add(path, Mark(number, 1), f"not the model of datavault: this line must be {expected!r}")
            return
    if len(found) != len(wanted):
        last = found[min(len(found), len(wanted)) - 1][0] if found else 1
        problems.add(path, Mark(last, 1), "not the model of datavault: lines are missing or added at the end")


def _lines(text: str) -> list[tuple[int, str]]:
    """Numbered lines without comments, all whitespace collapsed."""
    bare = ((number, " ".join(line.split("#")[0].split())) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in bare if line]
