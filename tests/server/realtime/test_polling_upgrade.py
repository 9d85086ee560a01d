"""From polling to a websocket: nothing is lost, nothing comes twice, and what goes wrong leaves polling as it was."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chat_broker_server.chat.models import Room, User
from chat_broker_server.realtime.limits import Limits
from tests.server.realtime.live_node import PID, LiveNode, running_node, until

POLL = "/socket.io/?EIO=4&transport=polling"


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[LiveNode]:
    """This file is about the server's own websockets alone."""
    async with running_node(database_url) as node:
        yield node


class Session:
    """A polling session of a user, and the websocket that is to take it over."""

    def __init__(self, node: LiveNode, http: httpx.AsyncClient) -> None:
        self.node = node
        self._http = http
        self.sid = ""
        self.wires: list[ClientConnection] = []

    async def begin(self, user: User, room: Room | None = None) -> None:
        self.sid = json.loads((await self._http.get(POLL)).text[1:])["sid"]
        await self.post("40" + json.dumps({"token": await self.node.token(user)}))
        assert (await self.poll()).startswith("40{")
        if room is not None:
            await self.post("421" + json.dumps(["joinRoom", room.id]))
            assert '"ok":true' in await self.poll()

    async def post(self, packets: str) -> None:
        answer = await self._http.post(f"{POLL}&sid={self.sid}", content=packets)
        assert answer.status_code == 200

    async def poll(self) -> str:
        answer = await self._http.get(f"{POLL}&sid={self.sid}")
        assert answer.status_code == 200
        return answer.text

    async def websocket(self) -> ClientConnection:
        address = (
            self.node.url.replace("http://", "ws://") + "/socket.io/?EIO=4&transport=websocket"
        )
        wire = await connect(f"{address}&sid={self.sid}", compression=None, proxy=None)
        self.wires.append(wire)
        return wire

    async def probed(self) -> ClientConnection:
        """A websocket that has been answered."""
        wire = await self.websocket()
        await wire.send("2probe")
        assert await hear(wire) == "3probe"
        return wire

    async def works(self) -> None:
        """Polling goes on as if nothing had been."""
        await self.post('429["leaveRoom","x"]')
        packets = ["6"]
        while set(packets) == {"6"}:  # it was on its way when the websocket failed
            packets = (await self.poll()).split("\x1e")
        assert packets[-1] == '439[{"ok":true}]'


async def hear(wire: ClientConnection) -> str:
    async with asyncio.timeout(5):
        return str(await wire.recv())


async def closed(wire: ClientConnection) -> None:
    with pytest.raises(ConnectionClosed):
        await hear(wire)


@pytest.fixture
async def session(node: LiveNode) -> AsyncIterator[Session]:
    async with httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=20) as http:
        session = Session(node, http)
        yield session
        for wire in session.wires:
            await wire.close()


def library(node: LiveNode) -> list[Any]:
    """What python-socketio and Engine.IO remember of anybody."""
    sio = node.realtime._sio
    rooms = [name for rooms in sio.manager.rooms.values() for name in rooms]
    return [*sio.eio.sockets, *sio.environ, *rooms]


async def test_what_is_told_on_the_way_is_neither_lost_nor_told_twice(
    node: LiveNode, session: Session
) -> None:
    """Before the probe over polling, from then on over the websocket; the library knows nothing of it in the end."""
    alice = await node.user("alice")
    room = await node.room(alice)
    await session.begin(alice, room)
    waiting = asyncio.ensure_future(session.poll())
    await asyncio.sleep(0.05)
    wire = await session.probed()
    assert await waiting == "6"
    for number in range(3):
        await node.chat.post(PID, room.id, alice.id, f"on the way {number}")
    assert await session.poll() == "6"
    await wire.send("5")
    await until(lambda: node.fact("sockets_direct") == 1)
    for number in range(3):
        await node.chat.post(PID, room.id, alice.id, f"there {number}")
    heard = [json.loads((await hear(wire))[2:])[1]["content"] for _ in range(6)]
    assert heard == [f"{where} {n}" for where in ("on the way", "there") for n in range(3)]
    await wire.send('427["leaveRoom","x"]')
    assert await hear(wire) == '437[{"ok":true}]'
    assert library(node) == []
    assert node.fact("sockets") == 1
    assert node.fact("protocol_errors") == 0
    await wire.close()
    await until(lambda: node.fact("sockets") == 0)


async def test_a_call_over_polling_is_answered_before_the_websocket_takes_over(
    node: LiveNode, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    await session.begin(alice, room)
    asked, go_on = asyncio.Event(), asyncio.Event()
    post = node.chat.post

    async def slow(*arguments: Any, **more: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await post(*arguments, **more)

    monkeypatch.setattr(node.chat, "post", slow)
    wire = await session.probed()
    calling = asyncio.ensure_future(session.post("428" + json.dumps(["sendMessage", room.id, "a"])))
    await asked.wait()
    await wire.send("5")
    await wire.send('429["leaveRoom","x"]')
    await asyncio.sleep(0.1)
    assert node.fact("sockets_direct") == 0
    go_on.set()
    await calling
    heard = [await hear(wire) for _ in range(3)]
    assert [text[:3] for text in heard] == ["42[", "438", "439"]


@pytest.mark.parametrize("said", [["5"], ["2probe", "2probe"], ["2probe", "4x"], ["3"], [b"\x00"]])
async def test_a_wrong_step_costs_the_websocket_and_nothing_else(
    node: LiveNode, session: Session, said: list[str | bytes]
) -> None:
    await session.begin(await node.user("alice"))
    wire = await session.websocket()
    for text in said:
        await wire.send(text)
    if said[0] == "2probe":
        assert await hear(wire) == "3probe"
    await closed(wire)
    await session.works()
    wire = await session.probed()
    await wire.send("5")
    await until(lambda: node.fact("sockets_direct") == 1)


async def test_a_websocket_that_goes_away_half_way_leaves_polling_as_it_was(
    node: LiveNode, session: Session
) -> None:
    await session.begin(await node.user("alice"))
    wire = await session.probed()
    wire.transport.abort()
    await until(lambda: not node.realtime._websockets.upgrading(session.sid))
    await session.works()


async def test_it_goes_away_while_a_call_is_answered(
    node: LiveNode, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said `5`, and gone before the session could move: it stays where it is."""
    alice = await node.user("alice")
    room = await node.room(alice)
    await session.begin(alice, room)
    asked, go_on = asyncio.Event(), asyncio.Event()
    member = node.chat.member

    async def slow(*arguments: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await member(*arguments)

    monkeypatch.setattr(node.chat, "member", slow)
    wire = await session.probed()
    calling = asyncio.ensure_future(session.post('428["startTyping","x"]'))
    await asked.wait()
    await wire.send("5")
    await wire.close()
    await until(lambda: not node.realtime._websockets.upgrading(session.sid))
    go_on.set()
    await calling
    text = await session.poll()
    assert "438" in (text if text != "6" else await session.poll())
    assert node.fact("sockets") == 1
    assert node.fact("sockets_direct") == 0


async def test_one_at_a_time_and_not_for_ever(database_url: str) -> None:
    """A second websocket is refused while there is one; one that says nothing is let go."""
    async with (
        running_node(database_url, limits=Limits(auth_deadline=0.5)) as node,
        httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=20) as http,
    ):
        session = Session(node, http)
        await session.begin(await node.user("alice"))
        wire = await session.websocket()
        with pytest.raises(InvalidStatus):
            await session.websocket()
        await closed(wire)
        await session.works()
        wire = await session.probed()
        await wire.send("5")
        await asyncio.sleep(0.7)
        await wire.send('429["leaveRoom","x"]')
        assert await hear(wire) == '439[{"ok":true}]'


async def test_who_is_sent_away_half_way_gets_nowhere(node: LiveNode, session: Session) -> None:
    alice = await node.user("alice")
    await session.begin(alice)
    wire = await session.probed()
    await node.realtime.close_user(PID, alice.id, "token_revoked")
    await wire.send("5")
    await closed(wire)
    await until(lambda: node.fact("sockets") == 0)


async def test_who_has_moved_is_found_by_everything_that_looks_for_them(
    node: LiveNode, session: Session
) -> None:
    """Told to leave a room, and sent away, over the websocket."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    await session.begin(bob, room)
    wire = await session.probed()
    await wire.send("5")
    await until(lambda: node.fact("sockets_direct") == 1)
    await node.chat.remove_member(PID, room.id, bob.id)
    assert "userLeft" in await hear(wire)
    await node.realtime.close_user(PID, bob.id, "token_revoked")
    assert "token_revoked" in await hear(wire)
    assert [await hear(wire), await hear(wire)] == ["41", "1"]
    await closed(wire)
    await until(lambda: node.fact("sockets") == 0)


async def test_a_ping_asked_over_polling_may_be_answered_over_the_websocket(
    database_url: str,
) -> None:
    limits = Limits(ping_interval=0.3, ping_timeout=2.0, heartbeat=0.05)
    async with (
        running_node(database_url, limits=limits) as node,
        httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=20) as http,
    ):
        session = Session(node, http)
        await session.begin(await node.user("alice"))
        assert await session.poll() == "2"
        wire = await session.probed()
        await wire.send("5")
        await wire.send("3")
        assert await hear(wire) == "2"
        assert node.fact("protocol_errors") == 0
        await wire.close()
