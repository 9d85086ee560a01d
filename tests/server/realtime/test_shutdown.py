"""A server that goes away says so, and when to come back; nothing keeps it alive."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest

from tests.programs import run_command, running_server
from tests.server.realtime.live_node import LiveNode, until
from tests.server.realtime.socket_client import connected, opened


async def test_draining_sends_everybody_away_and_lets_nobody_in(node: LiveNode) -> None:
    alice = await node.user("alice")
    sockets = [await node.socket(alice) for _ in range(10)]
    await node.realtime.disconnect_sockets()
    for socket in sockets:
        await socket.ends()
        (error,) = socket.payloads("error")
        assert (error["code"], error["reconnect"]) == ("server_restarting", True)
        assert 1 <= error["retry_after"] <= 10
        assert not socket.said_goodbye
    assert len({socket.payloads("error")[0]["retry_after"] for socket in sockets}) > 1
    async with httpx.AsyncClient(base_url=node.url, trust_env=False) as http:
        answer = await http.get("/socket.io/?EIO=4&transport=polling")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    with pytest.raises(Exception, match="503"):
        async with opened(node.url):
            pass


async def test_a_polling_client_hears_it_too(node: LiveNode) -> None:
    async with httpx.AsyncClient(base_url=node.url, trust_env=False) as http:
        path = "/socket.io/?EIO=4&transport=polling"
        sid = (await http.get(path)).text.partition('"sid":"')[2].partition('"')[0]
        token = await node.token(await node.user("alice"))
        await http.post(f"{path}&sid={sid}", content='40{"token":"%s"}' % token)  # noqa: UP031  # JSON is full of braces
        assert (await http.get(f"{path}&sid={sid}")).text.startswith("40")
        poll = asyncio.ensure_future(http.get(f"{path}&sid={sid}"))
        await asyncio.sleep(0.05)
        await node.realtime.disconnect_sockets()
        assert '"server_restarting"' in (await poll).text
        await until(lambda: node.fact("sockets") == 0)


async def test_the_whole_program_says_goodbye_and_exits(tmp_path: Path) -> None:
    """SIGTERM with sockets open, one of them reading nothing: everybody is told, and it ends soon."""
    environment = {"DATA_DIR": str(tmp_path)}
    code, out, err = await run_command(
        "chat-server", "create-project", "--name", "p", "--json", environment=environment
    )
    assert code == 0, err
    made = json.loads(out)
    async with running_server(data_dir=tmp_path) as server:
        headers = {"X-API-Key": made["api_key"]}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as http:
            base = f"/api/v1/projects/{made['project_id']}/users"
            user = (await http.post(base, json={"username": "a", "external_user_id": "1"})).json()
            token = (await http.post(f"{base}/{user['id']}/token", json={})).json()["token"]
        async with connected(server.url, token) as good, connected(server.url, token) as deaf:
            deaf.stop_reading()
            began = time.monotonic()
            assert await server.stop(within=20) in {0, -15}
            assert time.monotonic() - began < 10
            await good.ends()
            assert good.payloads("error")[0]["code"] == "server_restarting"
            deaf.hang_up()
        assert "Traceback" not in server.log()


async def test_a_token_in_the_query_is_in_no_log(tmp_path: Path) -> None:
    """It is not a way to identify oneself; and whoever tries has not published it by that."""
    async with running_server(data_dir=tmp_path, LOG_LEVEL="INFO") as server:
        async with connected(server.url, None, query={"token": "secret-token"}) as socket:
            assert socket.refused is not None
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
            await http.get("/socket.io/?EIO=4&transport=polling&token=secret-token")
        await server.stop()
        assert "secret-token" not in server.log()
