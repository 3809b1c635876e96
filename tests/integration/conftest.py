"""Servers and services that several modules use: started once for all of them, when the first one asks."""

from tests.support.outages import proxied, stage
from tests.support.transit_production import production_transit

__all__ = ["production_transit", "proxied", "stage"]
