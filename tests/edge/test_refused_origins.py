"""A missing origin is named in the browser's tools, in the log and in the metrics."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chat_broker_kit.http.refused_origins import MOST_LOGGED, RefusedOrigins
from tests.edge.programs import Start, both

LISTED, OTHER = "https://app.example.com", "https://forgotten.example.com"
POLL = "/socket.io/?EIO=4&transport=polling"


@both
async def test_a_refused_origin_is_named_with_the_setting(start: Start, tmp_path: Path) -> None:
    """Preflight, polling and websocket: 403, what was seen, what lists it; one line a minute, and a number."""
    async with (
        start(tmp_path, CORS_ORIGINS=LISTED, LOG_FORMAT="json") as edge,
        httpx.AsyncClient(base_url=edge.program.url, trust_env=False) as http,
    ):
        asks = {"Access-Control-Request-Method": "POST", "Origin": OTHER}
        for _ in range(50):
            preflight = await http.options(edge.post_path, headers=asks)
        assert preflight.status_code == 403
        assert preflight.headers["content-type"] == "application/problem+json"
        told = preflight.json()
        assert told["code"] == "origin_not_allowed"
        assert told["request_id"] == preflight.headers["x-request-id"]
        poll = await http.get(POLL, headers={"Origin": OTHER})
        assert poll.status_code == 403
        url = f"ws://127.0.0.1:{edge.port}/socket.io/?EIO=4&transport=websocket"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, origin=OTHER, proxy=None):  # type: ignore[arg-type]  # a NewType of text
                pass
        assert refused.value.response.status_code == 403
        websocket = (refused.value.response.body or b"").decode()
        for text in (told["message"], poll.json()["message"], websocket):
            assert OTHER in text
            assert "CORS_ORIGINS" in text
        for answer in (preflight, poll):
            assert "access-control-allow-origin" not in answer.headers
        page = (await http.get("/metrics")).text
        assert re.search(r"preflights_refused_total 50", page)
        assert re.search(r"origins_refused(_total)? 2", page)
        good = await http.options(edge.post_path, headers={**asks, "Origin": LISTED})
        assert good.status_code == 204
    assert 1 <= edge.program.log().count('"origin.refused"') <= 4


def test_lines_about_origins_are_few_however_many_there_are() -> None:
    """Each once a minute, so many in all; what was left out is counted; nothing unprintable is repeated."""
    lines: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def warning(self, event: str, **fields: Any) -> None:
            lines.append((event, fields))

    now, counted = 0.0, 0

    def count() -> None:
        nonlocal counted
        counted += 1

    refused = RefusedOrigins(Log(), count, clock=lambda: now)
    for number in range(1000):
        refused.refuse([b"https://%d.example" % number], of="preflight")
        refused.refuse([b"https://0.example"], of="preflight")
    assert (len(lines), counted) == (MOST_LOGGED, 2000)
    now = 60.0
    text = refused.refuse([b"https://x.example/\x1b[31m" + b"a" * 500], of="handshake")
    assert "\x1b" not in text
    assert [event for event, _ in lines[MOST_LOGGED:]] == [
        "origin.refused_again",
        "origin.others_refused",
        "origin.refused",
    ]
    assert lines[MOST_LOGGED][1]["times"] == 1000
