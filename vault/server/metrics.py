"""Prometheus metrics. Labels hold ids of the policy and reasons, never customers, values or identities."""

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server


class Meter:
    """The service's counters and gauges, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reads = Counter("datavault_reads", "Reads answered", ["outcome"], registry=self.registry)
        self._denials = Counter("datavault_denials", "Attributes denied", ["reason"], registry=self.registry)
        self._failures = Counter(
            "datavault_failures", "Calls failed", ["method", "reason"], registry=self.registry
        )
        self._unauthenticated = Counter(
            "datavault_unauthenticated", "Calls without a mapped identity", registry=self.registry
        )
        self._gauges = {
            name: Gauge(f"datavault_{name}", text, registry=self.registry)
            for name, text in (
                ("queued_reads", "Reads waiting for the disclosure worker"),
                ("queued_changes", "Changes waiting"),
                ("group_seconds", "How long the group under way has taken"),
                ("groups", "Groups disclosed"),
                ("group_reads", "Reads disclosed in groups"),
                ("log_lag_seconds", "Age of the oldest record without checkpoint or entry not outside"),
                ("dek_cache_entries", "Data keys in the cache"),
                ("dek_cache_hits", "Data keys found in the cache"),
                ("dek_cache_misses", "Data keys not found in the cache"),
                ("serving", "1 while reads are served"),
            )
        }

    def unauthenticated(self) -> None:
        self._unauthenticated.inc()

    def failed(self, method: str, reason: str) -> None:
        self._failures.labels(method, reason).inc()

    def read(self, outcome: str, denials: tuple[str, ...]) -> None:
        _child(self._reads, outcome).inc()
        for reason in denials:
            _child(self._denials, reason).inc()

    def set(self, name: str, value: float) -> None:
        self._gauges[name].set(value)

    def serve(self, host: str, port: int) -> int:
        """Serve /metrics over HTTP; returns the port."""
        server, _ = start_http_server(port, host, registry=self.registry)
        return int(server.server_port)


@lru_cache(maxsize=256)
def _child(counter: Counter, label: str) -> Counter:
    # finding it takes five times as long as counting, and there are as many as outcomes and reasons
    return counter.labels(label)
