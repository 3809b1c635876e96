"""What stands between the service and the KMS answers in its place, or answers badly: a proxy says how."""

import pytest

from tests.support.outage_proxy import Fault, HalfAnswer, LostAnswer, LostRequest, Page, Status, Trickle
from tests.support.outages import ProxiedScene, bears

pytestmark = pytest.mark.xdist_group("outages-proxy")


def test_429(proxied: ProxiedScene) -> None:
    """A KMS that refuses every request for its rate is borne as promised."""
    bears(proxied, proxied.proxy.trouble(Status(429, "request path: rate limit quota exceeded")))


def test_503(proxied: ProxiedScene) -> None:
    """A KMS, or the load balancer before it, that answers 503 is borne as promised."""
    bears(proxied, proxied.proxy.trouble(Page(503)))


def test_412(proxied: ProxiedScene) -> None:
    """A replica of the KMS that does not catch up is borne as promised."""
    bears(proxied, proxied.proxy.trouble(Status(412, "required index state not present")))


def test_trickle(proxied: ProxiedScene) -> None:
    """An answer that comes byte by byte without an end is given up in bounded time, and borne as promised."""
    bears(proxied, proxied.proxy.trouble(Trickle()))


@pytest.mark.parametrize(
    "fault", [HalfAnswer(), LostAnswer(), LostRequest()], ids=["half", "answer", "request"]
)
def test_connection_cut(proxied: ProxiedScene, fault: Fault) -> None:
    """A connection that is cut before, after or within the KMS's answer is borne as promised."""
    bears(proxied, proxied.proxy.trouble(fault))
