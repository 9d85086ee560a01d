"""What the official Socket.IO client makes of an address that has used up its limit."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from tests.edge.programs import Start, both

POLL = "/socket.io/?EIO=4&transport=polling"
LIMITED = {"RATE_IP": "20/10second", "RATE_HANDSHAKES": "60"}


@pytest.mark.services("node")
@pytest.mark.parametrize("transport", ["polling", "websocket"])
@both
async def test_an_unmodified_client_comes_back_by_itself(
    start: Start, tmp_path: Path, transport: str
) -> None:
    """A 429 is a lost connection to it: it tries again, and is heard once there is room."""
    async with (
        start(tmp_path, **LIMITED) as edge,
        httpx.AsyncClient(base_url=edge.program.url, trust_env=False) as http,
    ):
        knocking = True

        async def knock() -> None:
            while knocking:
                await asyncio.gather(*(http.get(POLL) for _ in range(20)))

        flood = asyncio.create_task(knock())
        while (await http.get(POLL)).status_code != 429:
            pass
        client = await asyncio.create_subprocess_exec(
            "node",
            str(Path(__file__).parent / "knock.mjs"),
            edge.program.url,
            transport,
            stdout=asyncio.subprocess.PIPE,
        )
        assert client.stdout is not None
        heard = [json.loads(await asyncio.wait_for(client.stdout.readline(), 20))]
        knocking = False
        await flood
        async with asyncio.timeout(30):
            while line := await client.stdout.readline():
                heard.append(json.loads(line))
            await client.wait()
    assert heard[0] == {"code": None, "active": True}
    assert heard[-1]["code"] == "token_invalid"
