"""Metrics for Prometheus. Labels come from short lists of our own, never from input."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from chat_broker_kit.logs.outages import GOOD

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"})


class _Live(Collector):
    """Facts of the embedded Chat API as gauges, read once for each scrape: counting sockets takes time."""

    def __init__(self, facts: Callable[[], Mapping[str, int | str]]) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        for name, value in self._facts().items():
            if isinstance(value, int):
                text = f"The embedded Chat API's live side: {name.replace('_', ' ')}"
                yield GaugeMetricFamily(f"chat_broker_live_{name}", text, value)


class _Dependencies(Collector):
    """The last result of /readyz, and the age of identity providers' keys."""

    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        readiness = self._metrics.readiness
        good = GaugeMetricFamily(
            "chat_broker_dependency_ok",
            "1 if what the broker needs is as it should be, or is not used",
            labels=("dependency",),
        )
        for name, answer in readiness.get("checks", {}).items():
            good.add_metric((name,), float(answer in GOOD))
        yield good
        yield GaugeMetricFamily(
            "chat_broker_ready",
            "1 while /readyz answers 200",
            float(readiness.get("status") in {"ok", "degraded"}),
        )
        ages = GaugeMetricFamily(
            "chat_broker_identity_keys_age_seconds",
            "Seconds since the keys of an issuer were read; they are used for an hour",
            labels=("issuer",),
        )
        for issuer, age in self._metrics.key_ages().items():
            ages.add_metric((issuer,), age)
        yield ages


BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""


MOST_WAITING = 256
"""Durations of one kind of request that wait to be counted."""


class _Kind:
    """The histogram of requests with the same method, route and status."""

    __slots__ = ("buckets", "count", "seconds", "waiting")

    def __init__(self) -> None:
        self.waiting: list[float] = []
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    def settle(self) -> None:
        """Add the waiting durations to the histogram."""
        for seconds in self.waiting:
            self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.count += len(self.waiting)
        self.seconds += sum(self.waiting)
        self.waiting.clear()


class _Requests(Collector):
    """Counts in plain lists: the library's counters lock and search at each step, 10 µs for each request.

    A duration waits until the next scrape, or until many wait: counting many together costs little more than
    counting one.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, int], _Kind] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        kind = self._kinds.get((method, route, status))
        if kind is None:
            known = method if method in _METHODS else "other"
            kind = self._kinds.setdefault((known, route, status), _Kind())
        waiting = kind.waiting
        waiting.append(seconds)
        if len(waiting) >= MOST_WAITING:
            kind.settle()

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "chat_broker_requests", "Requests answered", labels=("method", "route", "status")
        )
        took = HistogramMetricFamily(
            "chat_broker_request_seconds", "Seconds a request took", labels=("route",)
        )
        routes: dict[str, list[_Kind]] = {}
        for (method, route, status), kind in self._kinds.items():
            kind.settle()
            requests.add_metric((method, route, str(status)), kind.count)
            routes.setdefault(route, []).append(kind)
        yield requests
        bounds = [*map(str, BUCKETS), "+Inf"]
        for route, kinds in routes.items():
            times = map(sum, zip(*(kind.buckets for kind in kinds), strict=True))
            buckets = list(zip(bounds, accumulate(times), strict=True))
            took.add_metric((route,), buckets, sum(kind.seconds for kind in kinds))
        yield took


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Requests()
        self.registry.register(self._requests)
        self.answered = self._requests.add
        """Counts a request: method, route (a template of ours or `unmatched`), status, seconds."""
        self.readiness: Mapping[str, Any] = {}
        """The present result of `Readiness.look`. To be set before each `page`."""
        self.key_ages: Callable[[], Mapping[str, float]] = dict
        self.registry.register(_Dependencies(self))
        self.under_way = 0
        self._elsewhere: Callable[[], int] = lambda: 0
        Gauge(
            "chat_broker_requests_under_way", "Requests being answered", registry=self.registry
        ).set_function(lambda: self.under_way + self._elsewhere())
        self.limiter_failures = Counter(
            "chat_broker_limiter_failures_total",
            "Times the shared limiter did not answer and this process counted alone",
            registry=self.registry,
        )
        self.preflights_refused = Counter(
            "chat_broker_preflights_refused_total",
            "Preflights of origins that CORS_ORIGINS does not list",
            registry=self.registry,
        )
        self.handshakes_limited = Counter(
            "chat_broker_handshakes_limited_total",
            "Socket handshakes of addresses that had used up RATE_IP",
            registry=self.registry,
        )
        self.other_processes = Gauge(
            "chat_broker_other_processes",
            "Other processes on the same database",
            registry=self.registry,
        )

    def count_also(self, under_way: Callable[[], int]) -> None:
        """Add the number that *under_way* returns to the requests under way, at each scrape."""
        self._elsewhere = under_way

    def watch_sockets(self, facts: Callable[[], Mapping[str, int | str]]) -> None:
        """Export *facts* of the embedded Chat API that are numbers, read at each scrape."""
        self.registry.register(_Live(facts))

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
