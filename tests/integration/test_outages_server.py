"""The KMS is sealed, stopped or hangs under a running service; a real server in each case."""

import pytest

from tests.support.faults import FRAUD, eventually, gauge, read
from tests.support.outages import (
    BOTH,
    Scene,
    bears,
    expected,
    heals_reads,
    hung,
    reasons,
    sealed,
    signed,
    stopped,
    values,
)
from vault.client import DenialReason, NotPermitted

pytestmark = pytest.mark.xdist_group("outages")


def test_stopped(stage: Scene) -> None:
    """A KMS that is stopped and started again on the same port is borne as promised."""
    bears(stage, stopped(stage))


def test_sealed(stage: Scene) -> None:
    """A KMS that is sealed, and unsealed later, is borne as promised."""
    bears(stage, sealed(stage))


def test_hung(stage: Scene) -> None:
    """A KMS that takes requests and answers none is borne as promised, each call in bounded time."""
    bears(stage, hung(stage))


def test_batches_and_require_all(stage: Scene) -> None:
    """In a batch each customer has an answer of its own; a read that demands all gets nothing and is told."""
    service, warm, cold = stage.service, stage.warm(), stage.cold()
    client = service.client(FRAUD)
    with sealed(stage):
        first, second = client.read_many([warm, cold], purpose=FRAUD, attributes=BOTH)
        assert first.disclosure is not None
        assert values(first.disclosure) == expected(warm)
        assert second.disclosure is not None
        assert reasons(second.disclosure) == dict.fromkeys(BOTH, DenialReason.KEY_UNAVAILABLE)
        with pytest.raises(NotPermitted) as refused:
            client.read_attributes(cold, purpose=FRAUD, attributes=BOTH, require_all=True)
        assert refused.value.reason == "REQUIRE_ALL"
    heals_reads(service, cold)


def test_checkpoints_lag(stage: Scene) -> None:
    """Without the signer records stay durable and the metric tells the lag; then a checkpoint covers all."""
    service, warm = stage.service, stage.warm()
    with stopped(stage):
        position = read(service, warm, *BOTH).position
        assert service.records()[position]["outcome"] == "authorised"
        eventually(lambda: gauge(service, "log_lag_seconds") > 1, "the lag is told")
        assert signed(service) <= position
    eventually(lambda: signed(service) > position, "a checkpoint covers the record")
    eventually(lambda: gauge(service, "log_lag_seconds") == 0, "nothing lags")
    assert service.verify().problems == []
