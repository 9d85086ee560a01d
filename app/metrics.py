"""Numbers for Prometheus. Labels come from short lists of our own, never from what somebody sent."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
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


BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""


class _Requests(Collector):
    """Counts in plain lists: the library's own counters lock and search at each step, 10 µs a request."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._times: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method if method in _METHODS else "other", route, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        times = self._times.get(route)
        if times is None:
            times = self._times[route] = [0] * (len(BUCKETS) + 1)
            self._sums[route] = 0.0
        times[bisect_left(BUCKETS, seconds)] += 1
        self._sums[route] += seconds

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        requests = CounterMetricFamily(
            "chat_broker_requests", "Requests answered", labels=("method", "route", "status")
        )
        for (method, route, status), count in self._counts.items():
            requests.add_metric((method, route, str(status)), count)
        yield requests
        took = HistogramMetricFamily(
            "chat_broker_request_seconds", "Seconds a request took", labels=("route",)
        )
        bounds = [*map(str, BUCKETS), "+Inf"]
        for route, times in self._times.items():
            buckets = list(zip(bounds, accumulate(times, initial=None), strict=True))
            took.add_metric((route,), buckets, self._sums[route])
        yield took


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Requests()
        self.registry.register(self._requests)
        self.answered = self._requests.add
        """One request was answered: method, route (a template of ours or `unmatched`), status, seconds."""
        self.under_way = 0
        Gauge(
            "chat_broker_requests_under_way", "Requests being answered", registry=self.registry
        ).set_function(lambda: self.under_way)
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

    def watch_sockets(self, facts: Callable[[], Mapping[str, int | str]]) -> None:
        """Show what the embedded Chat API says of its live side: *facts* that are numbers, asked at each scrape."""
        self.registry.register(_Live(facts))

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
