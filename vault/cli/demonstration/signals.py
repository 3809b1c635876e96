"""What an offer looks for in what is known about a customer. A signal scores, and says why."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from vault.client import PyValue

Fits = Callable[[Any], bool]

_BAND: Final = re.compile(r"(?:>=)?(?P<floor>-?[0-9]+)(?:-[0-9]+)?")
_DECADE: Final = re.compile(r"([0-9]{4})s")


@dataclass(frozen=True, slots=True)
class Signal:
    """`points` when the value of `attribute` fits. `{}` in `because` stands for the value as it was given."""

    attribute: str
    points: int
    fits: Fits
    because: str

    def reason(self, value: PyValue) -> str:
        """Why the points were given."""
        return self.because.format(str(value))


def band_floor(band: object) -> int | None:
    """The lower bound of a generalised number: 25000 of `25000-40000`, 90000 of `>=90000`, else None."""
    match = _BAND.fullmatch(str(band))
    return int(match["floor"]) if match else None


def from_band(floor: int) -> Fits:
    """A band that lies at or above `floor`."""
    return lambda band: (found := band_floor(band)) is not None and found >= floor


def one_of(*words: str) -> Fits:
    """One of these words."""
    return lambda value: value in words


def born_in(first: int, last: int) -> Fits:
    """A decade such as `1980s` that begins in the years `first` to `last`."""
    return lambda value: (
        (match := _DECADE.fullmatch(str(value))) is not None and (first <= int(match[1]) <= last)
    )


def holds(product: str) -> Fits:
    """A list of product holdings with this product."""
    return lambda holdings: product in products_of(holdings)


def clicked(product: str) -> Fits:
    """Clicks by product, with at least one on this product."""
    return lambda clicks: isinstance(clicks, dict) and bool(clicks.get(product))


def products_of(holdings: object) -> frozenset[str]:
    """The products of a list such as `[{"product": "mortgage", "since": "2019-04"}]`."""
    if not isinstance(holdings, list):
        return frozenset()
    return frozenset(str(each.get("product", "")) for each in holdings if isinstance(each, dict))
