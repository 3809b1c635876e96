"""Purposes and notices for consent tests: a small tree as a security team would write it."""

from vault.domain.types import Basis, Notice, Purpose

MARKETING = "marketing"
OFFERS = "personalised-offers"
NEWSLETTER = "newsletter"
PROFILING = "profiling"
FRAUD = "fraud-detection"
ACCOUNTS = "account-servicing"
INCOME = "pd:Income"
EMAIL = "pd:EmailAddress"
PHONE = "pd:TelephoneNumber"


def purpose(purpose_id: str, *ancestors: str, leaf: bool = True, **fields: object) -> Purpose:
    return Purpose(
        id=purpose_id,
        dpv="dpv:Purpose",
        parent=ancestors[0] if ancestors else "",
        ancestors=ancestors,
        leaf=leaf,
        descriptions={"en": purpose_id},
        bases=fields.pop("bases", {}),  # type: ignore[arg-type]
        **fields,  # type: ignore[arg-type]
    )


def tree(*more: Purpose) -> dict[str, Purpose]:
    """marketing (personalised-offers, newsletter: direct marketing), profiling, fraud, accounts; and more."""
    nodes = (
        purpose(MARKETING, leaf=False),
        purpose(
            OFFERS,
            MARKETING,
            bases={"US-CA": frozenset({Basis.OPT_OUT}), "*": frozenset()},
            direct_marketing=True,
            notice="offers",
            notice_minimum_version=2,
            consent_lifetime_seconds=86_400,
        ),
        purpose(
            NEWSLETTER,
            MARKETING,
            bases={"*": frozenset({Basis.LEGITIMATE_INTEREST})},
            direct_marketing=True,
        ),
        purpose(
            PROFILING,
            MARKETING,
            bases={"US-CA": frozenset({Basis.OPT_OUT}), "EU": frozenset({Basis.LEGITIMATE_INTEREST})},
        ),
        purpose(
            FRAUD,
            bases={"*": frozenset({Basis.LEGITIMATE_INTEREST, Basis.LEGAL_CLAIM})},
            objection_overridden="payment fraud",
        ),
        purpose(ACCOUNTS, bases={"EU": frozenset({Basis.CONTRACT}), "GB": frozenset({Basis.CONTRACT})}),
        *more,
    )
    return {node.id: node for node in nodes}


def offers_notice(version: int = 2, **covers: frozenset[str]) -> Notice:
    """The notice `offers`: income and email for offers, email for profiling."""
    listed = {OFFERS: frozenset({INCOME, EMAIL}), PROFILING: frozenset({EMAIL})}
    return Notice("offers", version, covers or listed, {"en": "e" * 64, "pt": "f" * 64})


def notices() -> dict[tuple[str, int], Notice]:
    return {("offers", version): offers_notice(version) for version in (1, 2, 3)}
