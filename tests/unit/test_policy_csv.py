"""policy.csv: each thing Casbin's own reader swallows is an error at its line and column."""

from itertools import pairwise

import pytest

from tests.support.policy import RULES, edited, example_files, problems_of
from vault.policy.bundle import bundle_from_files
from vault.policy.problems import PolicyProblem

DENY = "p, no-special, marketing, account-service, pd:SpecialCategory, read.exists, any, deny"
DENY_LINE = 9

QUOTES = "quotes are not allowed: fields are plain words"
SEPARATOR = "';' is no separator: fields are separated by ', '"
SPACES = "spaces: a field is one word after ', '"
ARITY = "a 'p' row has 7 fields after 'p'"
DATA = "unknown category or attribute"

# (row, column, start of the message, suggestion)
SWALLOWED = {
    "effect in another case": (DENY[:-4] + "Deny", 82, "unknown effect 'Deny'", "deny"),
    "misspelt effect": (DENY[:-4] + "denny", 82, "unknown effect 'denny'", "deny"),
    "type in another case": ("P" + DENY[1:], 1, "unknown row type 'P'", "p"),
    "unknown type": ("p2" + DENY[1:], 1, "unknown row type 'p2'", "p"),
    "trailing comment": (DENY + " # never", 87, "a comment must stand on a line of its own", ""),
    "double quotes": (DENY[:-4] + '"deny"', 82, QUOTES, ""),
    "single quotes": ("p, 'no-special'" + DENY[13:], 4, QUOTES, ""),
    "semicolon at the end": (DENY + ";", 86, SEPARATOR, ""),
    "semicolons between": (DENY.replace(", ", "; "), 2, SEPARATOR, ""),
    "space in front": (" " + DENY, 1, "unknown row type ' p'", "p"),
    "space behind": (DENY + " ", 82, SPACES, "deny"),
    "two spaces": (DENY.replace(", any", ",  any"), 77, SPACES, "any"),
    "empty field": (DENY.replace(" any,", ","), 76, "basis is empty", ""),
    "too many fields": (DENY + ", deny", 88, ARITY, ""),
    "too few fields": (DENY[:-6], 77, ARITY, ""),
    "parentheses": ("p(" + DENY[1:] + ")", 1, "unknown row type 'p('", "p"),
    "unknown role": (DENY.replace("marketing", "marketimg", 1), 16, "unknown role or caller", "marketing"),
    "unknown purpose": (DENY.replace("account-", "acount-"), 27, "unknown purpose", "account-service"),
    "category in another case": (DENY.replace("pd:Sp", "pd:sp"), 44, DATA, "pd:SpecialCategory"),
    "unknown act": (DENY.replace("read.exists", "read.exist"), 64, "unknown act", "read.exists"),
    "deny that depends on consent": (DENY.replace(" any,", " consent,"), 77, "a deny has the basis", "any"),
    "g2 row": ("g2, personalised-offers, marketing", 1, "'g2' rows come from the YAML files", ""),
    "g row without role": ("g, engine", 4, "a 'g' row has 2 fields after 'g'", ""),
    "g row to a caller": ("g, engine, fraud", 12, "'fraud' is a caller: only a role can stand here", ""),
    "g row to an unknown role": ("g, engine, markting", 12, "unknown role 'markting'", "marketing"),
}


def only_problem(line: str, path: str = "policy.csv") -> PolicyProblem:
    [problem] = problems_of(edited(path, DENY, line))
    return problem


@pytest.mark.parametrize("case", SWALLOWED)
def test_what_casbin_swallows_is_refused_where_it_stands(case: str) -> None:
    """A deny that Casbin would drop or misread is one error with line, column and suggestion."""
    line, column, message, suggestion = SWALLOWED[case]
    problem = only_problem(line)
    assert (problem.line, problem.column) == (DENY_LINE, column)
    assert problem.message.startswith(message)
    assert problem.suggestion == suggestion


@pytest.mark.parametrize(
    ("char", "name"),
    [
        ("\u200b", "U+200B ZERO WIDTH SPACE"),
        ("\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\u00ad", "U+00AD SOFT HYPHEN"),
        ("\x00", "U+0000 control character"),
    ],
)
def test_invisible_characters_are_named(char: str, name: str) -> None:
    """A character no reviewer sees is refused by its name, wherever it stands."""
    problem = only_problem(DENY + char)
    assert (problem.line, problem.column) == (DENY_LINE, len(DENY) + 1)
    assert name in problem.message


def test_a_zero_width_joiner_is_refused_in_a_row() -> None:
    """Joiners are letters of some scripts in texts, and still nothing a rule can hold."""
    assert "U+200D ZERO WIDTH JOINER" in only_problem(DENY + "\u200d").message


def test_a_byte_order_mark_is_refused() -> None:
    """The first row after a byte-order mark would be of an unknown type to Casbin."""
    [problem] = problems_of(edited("policy.csv", "# reads", "\ufeff# reads"))
    assert (problem.line, problem.column) == (1, 1)
    assert "byte-order mark" in problem.message


def test_carriage_returns_are_refused() -> None:
    """A row that ends in CR would end in an unknown effect to Casbin."""
    problems = problems_of(example_files(rules=RULES.replace("\n", "\r\n")))
    assert problems[0].line == 1
    assert "carriage return" in problems[0].message


def test_a_look_alike_letter_is_named_and_the_ascii_one_suggested() -> None:
    """A Cyrillic letter in a role name is one error that says which letter it is."""
    problem = only_problem(DENY.replace("marketing", "m\u0430rketing", 1))
    assert problem.column == 17
    assert "U+0430 CYRILLIC SMALL LETTER A" in problem.message
    assert problem.suggestion == "a"


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n", "g, engine, marketing\n"])
def test_an_emptied_policy_is_refused(text: str) -> None:
    """A file without rules is a mistake, not a policy."""
    problems = problems_of(example_files(rules=text))
    assert (problems[0].path, problems[0].line) == ("policy.csv", 1)
    assert "the policy is empty" in problems[0].message


def chain(links: int) -> str:
    roles = "".join(f'  r{place}: "x"\n' for place in range(1, links + 1))
    return roles


@pytest.mark.parametrize(("links", "refused"), [(9, False), (10, True)])
def test_role_chains_that_casbin_would_not_follow_are_refused(links: int, refused: bool) -> None:
    """Nine links match in Casbin, ten silently do not."""
    files = edited("callers.yaml", "roles:\n", "roles:\n" + chain(links))
    names = ["audit-desk", *(f"r{place}" for place in range(1, links + 1))]
    rows = "".join(f"g, {low}, {high}\n" for low, high in pairwise(names))
    files["policy.csv"] += rows.encode()
    if not refused:
        assert bundle_from_files(files).callers["audit-desk"].roles[-1] == "r9"
        return
    [problem] = problems_of(files)
    assert "a chain of more than 9 roles above 'audit-desk'" in problem.message
    assert problem.line == RULES.count("\n") + 1


def test_a_cycle_of_roles_is_refused() -> None:
    """Roles that reach each other are told at the rows that say so."""
    files = example_files(rules=RULES + "g, everyone, marketing\n")
    messages = {problem.message for problem in problems_of(files)}
    assert messages == {"'marketing' is above itself", "'everyone' is above itself"}


def test_an_id_and_a_link_stand_once() -> None:
    """A second row with the same id, and the same link again, are errors that name the first line."""
    files = example_files(rules=RULES + DENY + "\n" + "g, engine, marketing\n")
    problems = problems_of(files)
    assert [problem.message for problem in problems] == [
        f"rule id 'no-special' already stands in line {DENY_LINE}",
        "this link already stands in line 14",
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("p, x, marketing, administration, email, read.clear, consent, allow", "needs a purpose of the tree"),
        ("p, x, marketing, marketing, none, read.clear, consent, allow", "needs a category or attribute"),
        ("p, x, marketing, marketing, email, read.clear, any, allow", "an allow never has the basis 'any'"),
        ("p, x, marketing, marketing, email, read.clear, operation, allow", "needs a legal basis"),
        ("p, x, marketing, marketing, email, search, operation, allow", "needs a legal basis"),
        ("p, x, marketing, marketing, email, export, operation, allow", "needs a legal basis"),
        ("p, x, marketing, marketing, email, write, operation, allow", "has the purpose 'administration'"),
        ("p, x, marketing, administration, none, write, operation, allow", "needs a category or attribute"),
        ("p, x, marketing, administration, email, audit.read, operation, allow", "has the data 'none'"),
        ("p, x, marketing, administration, none, audit.read, consent, allow", "has the basis 'operation'"),
        (
            "p, none, marketing, administration, none, audit.read, operation, allow",
            "'none' is a reserved word",
        ),
        ("p, $x, marketing, administration, none, audit.read, operation, allow", "names with $ are reserved"),
        (
            "p, X, marketing, administration, none, audit.read, operation, allow",
            "must be lower-case ASCII words",
        ),
    ],
)
def test_acts_purposes_data_and_bases_must_go_together(row: str, message: str) -> None:
    """Reads, search and export ask a purpose and a legal basis; all else is administration."""
    [problem] = problems_of(example_files(rules=RULES + row + "\n"))
    assert message in problem.message


def test_all_mistakes_are_told_at_once() -> None:
    """Three wrong rows give three errors, in order of place."""
    rows = "p, Bad, marketing, x, email, read.clear, consent, allow\nq, x\n"
    problems = problems_of(example_files(rules=RULES + rows))
    assert [(problem.line, problem.column) for problem in problems] == [(18, 4), (18, 20), (19, 1)]


def test_an_unreadable_vocabulary_does_not_make_every_rule_wrong() -> None:
    """Where attributes.yaml cannot be read, only that is told."""
    problems = problems_of(edited("attributes.yaml", "attributes:", "attributes: ["))
    assert {problem.path for problem in problems} == {"attributes.yaml"}
