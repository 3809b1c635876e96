"""What goes wrong in a step for one read stays its own."""

from collections.abc import Callable

import structlog

from vault.disclosing.item import Item
from vault.domain.errors import DatavaultError

log = structlog.get_logger("datavault.disclosure")


def guard(step: Callable[..., None], item: Item, *arguments: object) -> None:
    """Run a step for one item; what it raises becomes the item's error."""
    failed = failure(step, item, *arguments)
    if failed is not None:
        item.error = failed


def failure(step: Callable[..., None], *arguments: object) -> DatavaultError | None:
    """What goes wrong in a step, None when nothing does."""
    try:
        step(*arguments)
    except DatavaultError as error:
        return error
    except Exception as error:
        log.error("disclosure_fault", step=step.__name__, kind=type(error).__name__)
        return DatavaultError("internal error")
    return None
