"""The story in eight steps (each is told, then checked by what really came back)."""

from collections.abc import Callable
from typing import Final

from vault.cli.demonstration.audit import who_read_what
from vault.cli.demonstration.proof import flipped_byte_is_found, log_verifies
from vault.cli.demonstration.reads import (
    after_withdrawal,
    on_its_own_basis,
    with_consent,
    without_consent,
    without_rule,
)
from vault.cli.demonstration.service import Service
from vault.cli.demonstration.stage import Stage
from vault.cli.exits import CommandError
from vault.client import DatavaultClientError
from vault.domain.errors import DatavaultError

Step = Callable[[Stage], None]

STEPS: Final[tuple[tuple[str, Step], ...]] = (
    ("With consent: the engine gets what policy and consent allow, and nothing else", with_consent),
    ("Without consent: nothing", without_consent),
    ("Consent is withdrawn: nothing, at once", after_withdrawal),
    ("For another purpose: no rule, so nothing", without_rule),
    ("Fraud detection reads the same customer, on its own basis", on_its_own_basis),
    ("Who read what, and why", who_read_what),
    ("The log verifies, offline", log_verifies),
    ("One byte of the log is changed", flipped_byte_is_found),
)


def tell(stage: Stage, service: Service) -> None:
    """All steps in order; one that fails does not keep the next from being told.

    Raises:
        CommandError: the service has ended.
    """
    for title, step in STEPS:
        stage.screen.heading(title)
        try:
            step(stage)
        except (DatavaultClientError, DatavaultError, CommandError) as error:
            service.require_running()
            stage.check(f"the step ended early: {error}", False)
