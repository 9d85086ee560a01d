"""Invalid requests of unknown clients cause few log lines and no errors in metrics."""

import asyncio
import json
import re
from pathlib import Path

import httpx

from tests.edge.programs import Edge, Start, both, broker, exchange

ALARMS = re.compile(r'status="5\d\d"')


async def hang_up(edge: Edge, data: bytes, *, after: float = 0.02) -> None:
    """Send *data*, and end the connection a little later."""
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(data)
    await asyncio.sleep(after)
    writer.transport.abort()


async def numbers(edge: Edge) -> str:
    async with httpx.AsyncClient(base_url=edge.program.url, trust_env=False) as http:
        return (await http.get("/metrics")).text


def events(edge: Edge) -> list[dict[str, object]]:
    lines = [line for line in edge.program.log().splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


@both
async def test_a_client_that_hangs_up_in_its_body_is_no_failure_of_ours(
    start: Start, tmp_path: Path
) -> None:
    """499 in log and metrics, with the reason; no 500, no traceback."""
    async with start(tmp_path, LOG_FORMAT="json") as edge:
        bodies = [
            edge.post("Content-Length: 100") + b"{",
            edge.post("Transfer-Encoding: chunked") + b"1\r\n{\r\n",
            edge.post("Content-Length: 100", "Expect: 100-continue"),
        ]
        await asyncio.gather(*(hang_up(edge, body) for body in bodies * 4))
        await edge.is_well()
        page = await numbers(edge)
        assert re.search(r'status="499".*\} 12', page), page
        assert not ALARMS.search(page)
        await edge.program.stop()
        gone = [one for one in events(edge) if one.get("status") == 499]
        assert {str(one["code"]) for one in gone} == {"client_gone"}
        assert "Traceback" not in edge.program.log()


async def test_an_operator_who_hangs_up_is_no_failure_of_ours(tmp_path: Path) -> None:
    """The audit record says so as well."""
    key = "ak_" + "k" * 40
    async with (
        broker(tmp_path, ADMIN_KEY=key) as edge,
        httpx.AsyncClient(base_url=edge.program.url, trust_env=False) as http,
    ):
        head = f"POST /admin/users/external:alice/ban HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        await hang_up(edge, head.encode(), after=0.5)
        headers = {"authorization": f"Bearer {key}"}
        found: list[tuple[str, str]] = []
        async with asyncio.timeout(10):
            while not found:
                records = (await http.get("/admin/audit", headers=headers)).json()["items"]
                found = [
                    (one["outcome"], one["detail"].get("code"))
                    for one in records
                    if one["action"] == "users.ban" and one["outcome"] != "open"
                ]
        assert found == [("refused", "client_gone")]
        assert not ALARMS.search(await numbers(edge))


@both
async def test_bad_requests_and_broken_pipelines_write_few_lines(
    start: Start, tmp_path: Path
) -> None:
    """At most a few lines a minute of each kind, and a count of the others."""
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    knock = (
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    )
    sent = [
        knock.replace(b"EIO=4", b"EIO=3") + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"rubbish\r\n\r\n",
        get.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        knock + b"Sec-WebSocket-Key: short\r\n\r\n",
        knock + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\n" + knock[knock.index(b"Connection") :] + b"\r\n",
    ]
    async with start(tmp_path, LOG_FORMAT="json") as edge:
        for _ in range(40):
            await asyncio.gather(*(exchange(edge.port, one, within=0.05) for one in sent))
            await asyncio.gather(*(hang_up(edge, get * 40, after=0) for _ in range(5)))
        await edge.is_well()
        await edge.program.stop()
        log = edge.program.log()
        assert "Traceback" not in log
        assert not [one for one in events(edge) if one.get("level") in {"error", "critical"}]
        told = [one for one in events(edge) if one.get("event") != "request"]
        assert len([one for one in told if one.get("level") != "info"]) <= 40
        assert len(told) <= 60, told
