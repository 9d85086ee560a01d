"""Numbers for Prometheus. Labels come from short lists of our own, never from what somebody sent."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"})


class _Live(Collector):
    """Facts of the embedded Chat API as gauges; asked once a scrape, since counting sockets takes time."""

    def __init__(self, facts: Callable[[], Mapping[str, int | str]]) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        for name, value in self._facts().items():
            if isinstance(value, int):
                text = f"The embedded Chat API's live side: {name.replace('_', ' ')}"
                yield GaugeMetricFamily(f"chat_broker_live_{name}", text, value)


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "chat_broker_requests_total",
            "Requests answered",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "chat_broker_request_seconds",
            "Seconds a request took",
            ("route",),
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.under_way = 0
        Gauge(
            "chat_broker_requests_under_way", "Requests being answered", registry=self.registry
        ).set_function(lambda: self.under_way)
        # Looking a child up by its labels costs more than counting.
        self._kept: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.limiter_failures = Counter(
            "chat_broker_limiter_failures_total",
            "Times the shared limiter did not answer and this process counted alone",
            registry=self.registry,
        )
        self.other_processes = Gauge(
            "chat_broker_other_processes",
            "Other processes on the same database",
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered. *route* is a template of ours or `unmatched`."""
        key = (method if method in _METHODS else "other", route, status)
        kept = self._kept.get(key)
        if kept is None:
            requests = self._requests.labels(key[0], route, str(status))
            kept = self._kept[key] = (requests, self._seconds.labels(route))
        kept[0].inc()
        kept[1].observe(seconds)

    def watch_sockets(self, facts: Callable[[], Mapping[str, int | str]]) -> None:
        """Show what the embedded Chat API says of its live side: *facts* that are numbers, asked at each scrape."""
        self.registry.register(_Live(facts))

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
