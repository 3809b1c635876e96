"""One Prometheus page for all workers: each one's metrics, told apart by the label `worker`.

A replaced worker counts from 0 again under the same label, which is what Prometheus expects of a counter.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

LABEL: Final = "worker"
SCRAPE_SECONDS: Final = 5.0


class Pages(Collector):
    """`pages` asks all workers and gives what came in time, by number; it blocks. `serving` and `restarts`
    are the service's own: how many workers serve, and how often each was replaced."""

    def __init__(
        self,
        pages: Callable[[], Mapping[int, str]],
        serving: Callable[[], int],
        restarts: Callable[[], Mapping[int, int]],
    ) -> None:
        self._pages = pages
        self._serving = serving
        self._restarts = restarts

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked while it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("datavault_workers", "Workers that serve", self._serving())
        restarts = CounterMetricFamily(
            "datavault_worker_restarts", "Processes that took the place of another one", labels=[LABEL]
        )
        for number, count in sorted(self._restarts().items()):
            restarts.add_metric([str(number)], count)
        yield restarts
        yield from merged(self._pages()).values()

    def serve(self, host: str, port: int) -> int:
        """Serve /metrics over HTTP; returns the port."""
        registry = CollectorRegistry()
        registry.register(self)
        server, _ = start_http_server(port, host, registry=registry)
        return int(server.server_port)


def merged(pages: Mapping[int, str]) -> dict[str, Metric]:
    """The families of all pages by name, each sample with the label of its worker."""
    families: dict[str, Metric] = {}
    for number, page in sorted(pages.items()):
        for family in text_string_to_metric_families(page):
            whole = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type, family.unit)
            )
            for sample in family.samples:
                labels = {**sample.labels, LABEL: str(number)}
                whole.samples.append(sample._replace(labels=labels))
    return families
