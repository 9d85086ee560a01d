"""Metrics are exact at every scrape, although they are computed only then."""

import re

from chat_broker.observability.metrics import BUCKETS, MOST_WAITING, Metrics


def value(page: str, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", page, re.MULTILINE)
    assert found is not None, f"{line} is not in\n{page}"
    return float(found[1])


def test_each_request_is_counted_once_before_and_after_somebody_has_asked() -> None:
    metrics = Metrics()
    many = MOST_WAITING * 2 + 7
    for _ in range(many):
        metrics.answered("GET", "/chat/me", 200, 0.002)
    for _ in range(2):  # to ask changes nothing
        page = metrics.page().decode()
    line = 'chat_broker_requests_total{method="GET",route="/chat/me",status="200"}'
    assert value(page, line) == many
    metrics.answered("GET", "/chat/me", 200, 0.002)
    assert value(metrics.page().decode(), line) == many + 1


def test_times_of_a_route_are_those_of_all_its_methods_and_statuses() -> None:
    metrics = Metrics()
    for method, status, seconds in [
        ("GET", 200, BUCKETS[0]),
        ("GET", 403, BUCKETS[1]),
        ("POST", 200, 1000.0),
        ("BREW", 405, 0.0),
        ("PLANT", 405, 0.0),
    ]:
        metrics.answered(method, "/chat/rooms", status, seconds)
    page = metrics.page().decode()
    times = "chat_broker_request_seconds"
    assert value(page, f'{times}_bucket{{le="{BUCKETS[0]}",route="/chat/rooms"}}') == 3
    assert value(page, f'{times}_bucket{{le="{BUCKETS[1]}",route="/chat/rooms"}}') == 4
    assert value(page, f'{times}_bucket{{le="+Inf",route="/chat/rooms"}}') == 5
    assert value(page, f'{times}_count{{route="/chat/rooms"}}') == 5
    assert value(page, f'{times}_sum{{route="/chat/rooms"}}') == 1000.0 + BUCKETS[0] + BUCKETS[1]
    assert (
        value(
            page,
            'chat_broker_requests_total{method="other",route="/chat/rooms",status="405"}',
        )
        == 2
    )
