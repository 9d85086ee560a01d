"""Handshakes are limited by address before authentication, with responses that clients understand."""

import re
from pathlib import Path

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chat_broker_server.realtime.handshake_limit import HandshakeLimit
from tests.edge.programs import Edge, Start, both

POLL = "/socket.io/?EIO=4&transport=polling"
LIMITED = {"RATE_IP": "30/minute", "RATE_HANDSHAKES": "30"}


async def websocket_status(edge: Edge) -> tuple[int, str | None]:
    """The status of a websocket's handshake, and how long to wait."""
    url = f"ws://127.0.0.1:{edge.port}/socket.io/?EIO=4&transport=websocket"
    try:
        async with connect(url, proxy=None):
            return 101, None
    except InvalidStatus as refused:
        return refused.response.status_code, refused.response.headers.get("retry-after")


@both
async def test_handshakes_are_bounded_by_address(start: Start, tmp_path: Path) -> None:
    """429 with `Retry-After` over polling and websocket, whatever the query; open sessions go on."""
    async with (
        start(tmp_path, **LIMITED) as edge,
        httpx.AsyncClient(base_url=edge.program.url, trust_env=False) as http,
    ):
        first = await http.get(POLL)
        session = re.search(r'"sid":"([^"]+)"', first.text)
        assert session
        answers = [await http.get(POLL + more) for more in ("", "&xsid=1", "&t=sid=") * 20]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:20] == [200] * 20
        assert set(statuses[40:]) == {429}
        refused = answers[-1]
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["code"] == "slow_down"
        assert int(refused.headers["retry-after"]) >= 1
        assert await websocket_status(edge) == (429, refused.headers["retry-after"])
        poll = await http.post(f"{POLL}&sid={session[1]}", content="40{}")
        assert poll.status_code == 200
        page = (await http.get("/metrics")).text
        limited = re.search(r"handshakes_limited_total (\d+)", page)
        assert limited
        assert int(limited[1]) > 20
    assert 1 <= edge.program.log().count("socket.handshakes_limited") <= 12


def test_a_limit_leaks_at_its_rate_and_forgets_the_quiet() -> None:
    """One minute's limit at once, then the rate; an IPv6 /64 is one address; memory is bounded."""
    now = 0.0
    limit = HandshakeLimit(60, clock=lambda: now, most=10)
    assert [limit.take("192.0.2.1") for _ in range(61)] == [0] * 60 + [1]
    assert limit.take("192.0.2.2") == 0
    now = 1.0
    assert (limit.take("192.0.2.1"), limit.take("192.0.2.1")) == (0, 1)
    assert [limit.take(f"2001:db8::{n:x}") for n in range(61)][-1] == 1
    for n in range(50):
        limit.take(f"198.51.100.{n}")
    assert len(limit._used) == 10
    assert [HandshakeLimit(0).take("192.0.2.1") for _ in range(5000)][-1] == 0
