"""Below a path of a site: what is handed out as `server` connects, through an nginx that takes the path away."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_broker_sdk import AsyncChatClient, Dialect
from tests.e2e.javascript import frontend
from tests.e2e.nginx import nginx
from tests.programs import free_port, run_command, running_broker, running_server

MAP = 'map $http_upgrade $connection_to_upstream { default upgrade; "" ""; }'
pytestmark = pytest.mark.services("nginx", "node")

LOCATION = """
location {path}/ {{
  proxy_pass {to}/;  # the slash takes the path away
  proxy_http_version 1.1;
  proxy_set_header Host $http_host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_to_upstream;
  proxy_buffering off;
}}
"""


async def talk(api: str, server: dict[str, str]) -> None:
    """alice mints at *api*, is told of *server*, and the official client and the SDK connect to just that."""
    async with httpx.AsyncClient(trust_env=False) as http, frontend() as js:
        signed_in = await http.post(f"{api}/dev/login", json={"username": "alice"})
        who = {"authorization": f"Bearer {signed_in.json()['token']}"}
        minted = (await http.post(f"{api}/chat/token", headers=who)).json()
        assert minted["server"] == server
        room = (await http.post(f"{api}/chat/rooms", headers=who, json={"name": "General"})).json()[
            "id"
        ]
        for transports in (["websocket"], ["polling", "websocket"]):
            connected = await js.call(
                "connect", name="a", server=server, token=minted["token"], transports=transports
            )
            assert connected["connected"] is True, connected
            joined = await js.call("emit", name="a", event="joinRoom", args=[room])
            assert joined["ok"] is True, joined
            await js.call("close", name="a")
        dialect = Dialect(socket_path=server["socket_path"])
        async with AsyncChatClient(
            server["url"], jwt_token=minted["token"], dialect=dialect
        ) as chat:
            await chat.socket.connect()
            await chat.socket.join_room(room)
            sent = await chat.socket.send_message(room, "Hello!")
            assert sent.content == "Hello!"
            await chat.socket.disconnect()


async def test_the_embedded_server_below_a_path(tmp_path: Path) -> None:
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    async with (
        running_broker(PUBLIC_URL=f"{site}/chatapp", CORS_ORIGINS="https://app.example.com") as one,
        nginx(tmp_path, LOCATION.format(path="/chatapp", to=one.url), more=MAP, port=port),
    ):
        server = {"url": site, "socket_path": "/chatapp/socket.io"}
        await talk(f"{site}/chatapp", server)


async def test_a_remote_chat_api_whose_sockets_are_below_a_path(tmp_path: Path) -> None:
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    data = tmp_path / "chat"
    _, out, _ = await run_command(
        "chat-server",
        "create-project",
        "--name",
        "p",
        "--json",
        environment={"DATA_DIR": str(data)},
    )
    project: dict[str, Any] = json.loads(out.splitlines()[-1])
    async with (
        running_server(data) as chat,
        running_broker(
            CHAT_BASE_URL=chat.url,
            CHAT_API_KEY=project["api_key"],
            CHAT_SOCKET_URL=f"{site}/live/now/",
        ) as one,
        nginx(tmp_path, LOCATION.format(path="/live/now", to=chat.url), more=MAP, port=port),
    ):
        await talk(one.url, {"url": site, "socket_path": "/live/now/socket.io"})
