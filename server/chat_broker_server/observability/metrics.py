"""Prometheus metrics. Label values come from the route table and the code, never from a caller."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from chat_broker_kit.logs.outages import GOOD

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "chat_server_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "chat_server_request_seconds",
            "Time to answer.",
            ["route"],
            registry=self._registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
        )
        self._dependencies = Gauge(
            "chat_server_dependency_ok",
            "1 if what the server needs is as it should be, or is not used.",
            ["dependency"],
            registry=self._registry,
        )
        self.preflights_refused = Counter(
            "chat_server_preflights_refused",
            "Preflights of origins that CORS_ORIGINS does not list.",
            registry=self._registry,
        )
        self.handshakes_limited = Counter(
            "chat_server_handshakes_limited",
            "Socket handshakes of addresses that had used up RATE_HANDSHAKES.",
            registry=self._registry,
        )
        self._gauges: dict[str, Gauge] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        label = method if method in METHODS else "other"
        self._requests.labels(route, label, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def page(
        self, facts: dict[str, int | str], dependencies: dict[str, str]
    ) -> tuple[bytes, bytes]:
        """The text of /metrics and its content type, with the numbers in *facts* and the states of /readyz."""
        for name, answer in dependencies.items():
            self._dependencies.labels(name).set(answer in GOOD)
        for name, value in facts.items():
            if isinstance(value, str):
                continue
            gauge = self._gauges.get(name)
            if gauge is None:
                gauge = Gauge(f"chat_server_{name}", "See docs.", registry=self._registry)
                self._gauges[name] = gauge
            gauge.set(value)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST.encode()
