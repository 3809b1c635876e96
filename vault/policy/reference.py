"""The same questions answered by Casbin itself.

The engine's answers are compared with these, and `DATAVAULT_POLICY_ENGINE=casbin` serves them. Policies go in
as rows, never through Casbin's CSV reader; an enforcer is made once per bundle and never reloaded.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from vault.domain.errors import DatavaultError
from vault.domain.types import ADMINISTRATION, ANY_BASIS, NO_DATA, Act, Decision, Form, Reason
from vault.policy.bundle import Bundle
from vault.policy.engine import NOTHING_MATCHED, OPERATION, forms_to_try
from vault.policy.model import ACTS, FORM_LINKS, MODEL, READ_ACTS
from vault.policy.rules import Rule

if TYPE_CHECKING:
    import casbin

_ATTEMPTS: Final = 8
_LINKS: Final = 65_536
"""How many answers about links are kept."""


class PolicyEngineError(DatavaultError):
    """Casbin gave no answer: nothing is permitted."""


def casbin_rows(bundle: Bundle) -> dict[str, list[list[str]]]:
    """The bundle as rows of Casbin's policy types `p`, `g`, `g2`, `g3`, `g4`."""
    category_parents = [[name, above[1]] for name, above in bundle.categories.items() if len(above) > 1]
    return {
        "p": [
            [rule.id, rule.subject, rule.purpose, rule.data, rule.act, rule.basis, rule.effect]
            for rule in bundle.rules
        ],
        "g": [[link.member, link.role] for link in bundle.links],
        "g2": [[node.id, node.parent] for node in bundle.purposes.values() if node.parent],
        "g3": [[item.id, item.category] for item in bundle.attributes.values()] + category_parents,
        "g4": [list(link) for link in FORM_LINKS],
    }


def make_enforcer(bundle: Bundle) -> "casbin.Enforcer":
    """A new enforcer that holds this bundle and nothing else."""
    # workers after the first one, and most commands, never ask Casbin
    import casbin

    enforcer = casbin.Enforcer(casbin.Enforcer.new_model(text=MODEL))
    for kind, rows in casbin_rows(bundle).items():
        # Model.add_policy looks each row up in all others first: quadratic, and rows are unique already
        enforcer.get_model()[kind[0]][kind].policy = rows
    enforcer.build_role_links()
    return enforcer


class CasbinEngine:
    """Implements DecisionEngine by Casbin: slower than CompiledEngine, the same answers."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._enforcer = make_enforcer(bundle)
        self._links = {kind: self._enforcer.get_named_role_manager(kind) for kind in ("g", "g2", "g3", "g4")}
        # a bundle's links never change, and one question asks for the same few a hundred times over
        self._reaches = lru_cache(_LINKS)(self._has_link)
        self._subjects = frozenset({*bundle.callers, *bundle.roles})
        self._purposes = frozenset({*bundle.purposes, ADMINISTRATION})
        self._data = frozenset({*bundle.attributes, *bundle.categories, NO_DATA})

    def permits(self, caller: str, purpose: str, data: str, act: str, bases: frozenset[str]) -> bool:
        """The Casbin question as it stands in model.conf; `any` is added to the bases.

        Raises:
            PolicyEngineError: Casbin's evaluator failed again and again.
        """
        known = caller in self._subjects and purpose in self._purposes and data in self._data and act in ACTS
        # Casbin's role managers keep every name they are asked for, for ever
        return known and self._enforce(caller, purpose, data, act, bases | {ANY_BASIS})

    def decide(
        self, caller: str, purpose: str, attribute: str, bases: frozenset[str], max_form: Form | None
    ) -> Decision:
        """See CompiledEngine.decide. Raises: PolicyEngineError."""
        declared = self._bundle.attributes.get(attribute)
        node = self._bundle.purposes.get(purpose)
        if caller not in self._bundle.callers or declared is None or node is None or not node.leaf:
            return NOTHING_MATCHED
        tried = forms_to_try(declared, max_form)
        rows = self._rows(caller, purpose, attribute)
        for form in tried:
            if self.permits(caller, purpose, attribute, form.act, bases):
                rules = tuple(
                    rule.id for rule in rows if self._allows(rule, form.act) and rule.basis in bases
                )
                return Decision(form, None, rules[0], rules)
        denials = {form: [rule.id for rule in rows if self._denies(rule, form.act)] for form in tried}
        refused = {rule for rules in denials.values() for rule in rules}
        rules = tuple(rule.id for rule in rows if rule.id in refused)
        wanted = frozenset(
            rule.basis for form in tried if not denials[form] for rule in rows if self._allows(rule, form.act)
        )
        if wanted:
            return Decision(None, Reason.BASIS_MISSING, "", rules, wanted)
        return Decision(None, Reason.NOT_PERMITTED, rules[0], rules) if rules else NOTHING_MATCHED

    def act(self, caller: str, act: str, data: str = NO_DATA) -> Decision:
        """See CompiledEngine.act. Raises: PolicyEngineError."""
        expected: Iterable[str] = self._bundle.attributes if act == Act.WRITE.value else (NO_DATA,)
        if caller not in self._bundle.callers or data not in expected:
            return NOTHING_MATCHED
        allowed = self.permits(caller, ADMINISTRATION, data, act, OPERATION)
        matches = self._allows if allowed else self._denies
        rules = tuple(rule.id for rule in self._rows(caller, ADMINISTRATION, data) if matches(rule, act))
        if not rules:
            return NOTHING_MATCHED
        return Decision(None, None if allowed else Reason.NOT_PERMITTED, rules[0], rules)

    def entitled(self, caller: str, purpose: str) -> bool:
        """Whether some allow row of a read, search or export matches (caller, purpose) at all."""
        if caller not in self._bundle.callers or purpose not in self._purposes:
            return False
        return any(
            rule.allows
            and rule.act in READ_ACTS
            and self._reaches("g", caller, rule.subject)
            and self._reaches("g2", purpose, rule.purpose)
            for rule in self._bundle.rules
        )

    def _enforce(self, caller: str, purpose: str, data: str, act: str, bases: frozenset[str]) -> bool:
        for _ in range(_ATTEMPTS):
            try:
                return bool(self._enforcer.enforce(caller, purpose, data, act, bases))
            except SystemError:
                # cpython 106905: on 3.11 ast.parse sporadically loses count of its own depth
                continue
            except Exception:
                break
        raise PolicyEngineError("the Casbin engine gave no answer")

    def _rows(self, caller: str, purpose: str, data: str) -> list[Rule]:
        return [
            rule
            for rule in self._bundle.rules
            if self._reaches("g", caller, rule.subject)
            and self._reaches("g2", purpose, rule.purpose)
            and self._reaches("g3", data, rule.data)
        ]

    def _allows(self, rule: Rule, act: str) -> bool:
        return rule.allows and self._reaches("g4", act, rule.act)

    def _denies(self, rule: Rule, act: str) -> bool:
        return not rule.allows and self._reaches("g4", rule.act, act)

    def _has_link(self, kind: str, name: str, above: str) -> bool:
        return bool(self._links[kind].has_link(name, above))
