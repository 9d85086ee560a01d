"""The main job as its users do it: two app users, the official JavaScript client, plain fetch, a restart."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.javascript import Frontend, frontend
from tests.programs import Program, running_broker

pytestmark = pytest.mark.services("node")


async def sign_in(broker: Program, username: str) -> dict[str, str]:
    """A session of the development mode, as the header a frontend would send."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{broker.url}/dev/login", json={"username": username})
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}


async def fetch(js: Frontend, method: str, url: str, who: dict[str, str], body: Any = None) -> Any:
    headers = dict(who)
    if body is not None:
        headers["content-type"] = "application/json"
    answer = await js.call("fetch", url=url, method=method, headers=headers, body=body)
    assert answer["status"] < 300, answer
    return answer["body"]


@pytest.mark.parametrize("prefix", ["/chat", "/api/chat"])
async def test_two_users_get_tokens_and_talk_in_a_room(prefix: str) -> None:
    """`fetch(…/token).then(r => r.json())` and `.token` connect; what one says, the other hears; REST sees the same."""
    async with running_broker(ROUTE_PREFIX=prefix) as broker, frontend() as js:
        api = broker.url + prefix
        alice, bob = await sign_in(broker, "alice"), await sign_in(broker, "bob")
        room = await fetch(js, "POST", f"{api}/rooms", alice, {"name": "General"})
        for name, who in (("alice", alice), ("bob", bob)):
            minted = await js.call("token", url=f"{api}/token", authorization=who["authorization"])
            assert minted["whole"]["user"]["username"] == name
            server = minted["whole"]["server"]
            assert server == {"url": broker.url, "socket_path": "/socket.io"}
            connected = await js.call("connect", name=name, server=server, token=minted["token"])
            assert connected["connected"] is True, connected
            joined = await js.call("emit", name=name, event="joinRoom", args=[room["id"]])
            assert joined["ok"] is True, joined

        newcomer = await js.call("heard", name="alice", event="userJoined")
        assert newcomer["payloads"][0]["username"] == "bob", newcomer
        sent = await js.call("emit", name="alice", event="sendMessage", args=[room["id"], "Hello!"])
        assert sent["ok"] is True, sent
        posted = await fetch(
            js, "POST", f"{api}/rooms/{room['id']}/messages", bob, {"content": "Hi, over REST"}
        )
        for name in ("alice", "bob"):
            heard = await js.call("heard", name=name, event="message", count=2)
            assert heard["payloads"] == [sent["message"], posted], heard
        page = await fetch(js, "GET", f"{api}/rooms/{room['id']}/messages?page=1", bob)
        assert [item["content"] for item in page["items"]] == ["Hi, over REST", "Hello!"]
        assert [item["seq"] for item in page["items"]] == [2, 1]

        await js.call("emit", name="bob", event="startTyping", args=[room["id"]])
        typing = await js.call("heard", name="alice", event="userTyping")
        assert typing["payloads"][0]["username"] == "bob"


@pytest.mark.parametrize("ending", ["stop", "kill"])
async def test_a_restart_loses_nothing(tmp_path: Path, ending: str) -> None:
    """After SIGTERM and after SIGKILL the room, the users, the messages and even the token are still good."""
    async with frontend() as js:
        async with running_broker(tmp_path) as broker:
            alice = await sign_in(broker, "alice")
            room = await fetch(js, "POST", f"{broker.url}/chat/rooms", alice, {"name": "General"})
            messages = f"/chat/rooms/{room['id']}/messages"
            said = [
                await fetch(js, "POST", broker.url + messages, alice, {"content": f"message {n}"})
                for n in range(20)
            ]
            token = await fetch(js, "POST", f"{broker.url}/chat/token", alice)
            await (broker.stop() if ending == "stop" else broker.kill())
        async with running_broker(tmp_path) as broker:
            again = await sign_in(broker, "alice")
            page = await fetch(js, "GET", f"{broker.url}{messages}?limit=50", again)
            assert page["items"] == said[::-1]
            me = await fetch(js, "GET", f"{broker.url}/chat/me", again)
            assert me["id"] == token["user"]["id"]
            server = {"url": broker.url, "socket_path": "/socket.io"}
            connected = await js.call("connect", name="a", server=server, token=token["token"])
            assert connected["connected"] is True, connected
            joined = await js.call(
                "emit", name="a", event="joinRoom", args=[{"roomId": room["id"], "sinceSeq": 17}]
            )
            assert [message["content"] for message in joined["missed"]] == [
                "message 17",
                "message 18",
                "message 19",
            ]


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_the_official_client_connects_over_every_transport(transports: list[str]) -> None:
    """Websocket, polling, and polling upgraded to websocket all work."""
    async with running_broker() as broker, frontend() as js:
        alice = await sign_in(broker, "alice")
        token = await fetch(js, "GET", f"{broker.url}/chat/token", alice)
        connected = await js.call(
            "connect",
            name="alice",
            server=token["server"],
            token=token["token"],
            transports=transports,
        )
        assert connected["connected"] is True, connected
        room = await fetch(js, "POST", f"{broker.url}/chat/rooms", alice, {"name": "General"})
        joined = await js.call("emit", name="alice", event="join_room", args=[room["id"]])
        assert joined["ok"] is True, joined
        sent = await js.call(
            "emit", name="alice", event="sendMessage", args=[{"roomId": room["id"], "content": "x"}]
        )
        heard = await js.call("heard", name="alice", event="message")
        assert heard["payloads"] == [sent["message"]]


async def test_a_dead_or_foreign_token_is_refused_with_a_code() -> None:
    """A refused handshake tells the official client what was wrong and whether to come back."""
    async with running_broker() as broker, frontend() as js:
        alice = await sign_in(broker, "alice")
        server = {"url": broker.url, "socket_path": "/socket.io"}
        app_credential = alice["authorization"].removeprefix("Bearer ")
        for index, bad in enumerate(["", "a.b.c", app_credential]):
            refused = await js.call("connect", name=f"bad{index}", server=server, token=bad)
            assert refused["connected"] is False
            assert refused["data"]["code"] == "token_invalid", refused
            assert refused["data"]["reconnect"] is False
        token = await fetch(js, "GET", f"{broker.url}/chat/token", alice)
        live = await js.call("connect", name="live", server=server, token=token["token"])
        assert live["connected"] is True
        await fetch(js, "DELETE", f"{broker.url}/chat/token", alice)
        told = await js.call("heard", name="live", event="error")
        assert told["payloads"][0]["code"] == "token_revoked", told
        await js.call("heard", name="live", event="disconnect")
        refused = await js.call("connect", name="dead", server=server, token=token["token"])
        assert refused["data"]["code"] == "token_revoked", refused
