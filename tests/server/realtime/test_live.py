"""The live side is loaded when the server is up, and nobody can tell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from chat_broker_server import Server, Settings, open_server
from chat_broker_server.realtime.live import NOT_LOADED

HANDSHAKE = {
    "type": "http",
    "method": "GET",
    "path": "/socket.io/",
    "root_path": "/socket.io",
    "query_string": b"EIO=4&transport=polling",
    "headers": [],
}


async def knock(server: Server) -> tuple[int, bytes]:
    """A first request of a Socket.IO client, and what it gets."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await server.socket(dict(HANDSHAKE), receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def test_a_start_does_not_wait_for_the_library_of_sockets() -> None:
    """REST, tokens and keys are there without python-socketio and what that brings with it."""
    program = "import json, sys, chat_broker_server; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    library = {"aiohttp", "engineio", "redis", "requests", "socketio", "websockets"}
    assert not library & set(json.loads(done.stdout))


async def test_who_knocks_before_it_is_loaded_is_served(tmp_path: Path) -> None:
    """The first request loads it; what is told about it has the same names before and after."""
    async with open_server(Settings(data_dir=tmp_path)) as server:
        before = server.facts()
        status, body = await knock(server)
        assert (status, body[:1]) == (200, b"0")
        after = server.facts()
    assert before.keys() == after.keys() == {"database", *NOT_LOADED}
    assert (before["sockets"], after["sockets"]) == (0, 1)


async def test_who_knocks_while_the_server_goes_away_is_sent_away(tmp_path: Path) -> None:
    """Loaded or not."""
    async with open_server(Settings(data_dir=tmp_path)) as server:
        await server.disconnect_sockets()
        assert [(await knock(server))[0] for _ in range(2)] == [503, 503]
