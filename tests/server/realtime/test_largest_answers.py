"""The largest answers and events that the contract allows reach a socket, over polling and websockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from websockets.frames import Frame, Opcode

from chat_broker_sdk import AsyncChatClient, Message
from chat_broker_server.chat.models import Room, RoomChanges, User, UserChanges
from chat_broker_server.chat.sizes import LARGEST_RESPONSE
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.test_transports import polled

WIDE = "𝄞"  # one character, four bytes
CONTENT = WIDE * 8000
METADATA = {"m": "x" * (4096 - len('{"m":""}'))}
MESSAGES = 30  # a megabyte
ROOMS = 6


@pytest.fixture(params=[False, True], ids=["own websocket", "the library's websocket"])
async def node(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[LiveNode]:
    async with running_node(database_url, wrapped=request.param) as node:
        yield node


async def full_room(node: LiveNode, owner: User, *others: User) -> Room:
    room = await node.room(owner, *others)
    for number in range(MESSAGES):
        message_id = WIDE * 126 + f"{number:02d}"
        await node.chat.post(
            PID, room.id, owner.id, CONTENT, client_msg_id=message_id, metadata=METADATA
        )
    changes = RoomChanges(name=WIDE * 128, description=WIDE * 2000, metadata=METADATA)
    return await node.chat.update_room(PID, room.id, changes)


async def wide_user(node: LiveNode) -> User:
    user = await node.user("a" * 64)
    return await node.chat.update_user(PID, user.id, UserChanges(display_name=WIDE * 128))


def since(room: Room) -> dict[str, Any]:
    return {"roomId": room.id, "sinceSeq": 0}


def checked(answer: dict[str, Any], *, whole: bool = True) -> list[int]:
    """What was missed, by `seq`: the first ones, as many as an answer may hold."""
    assert answer["ok"], answer
    assert (answer["last_seq"], answer["has_more"]) == (MESSAGES, True)
    seqs = [message["seq"] for message in answer["missed"]]
    assert seqs == list(range(1, len(seqs) + 1))
    size = len(msgspec.json.encode(answer))
    one = len(msgspec.json.encode(answer["missed"][0]))
    assert size <= LARGEST_RESPONSE
    assert seqs
    if whole:
        assert size > LARGEST_RESPONSE - one - 1
    return seqs


async def test_what_was_missed_comes_as_far_as_an_answer_goes(node: LiveNode) -> None:
    """512 KiB, and from its last message on the next 512 KiB: nothing is skipped, the end is said."""
    alice = await wide_user(node)
    room = await full_room(node, alice)
    ear = await node.socket(alice)
    last, answers = 0, []
    while not answers or answers[-1]["has_more"]:
        answers.append(await ear.call("joinRoom", {"roomId": room.id, "sinceSeq": last}))
        last = answers[-1]["missed"][-1]["seq"]
    checked(answers[0])
    seqs = [message["seq"] for answer in answers for message in answer["missed"]]
    assert seqs == list(range(1, MESSAGES + 1))
    assert len(answers) == 3


async def test_every_other_answer_and_event_at_its_largest(node: LiveNode) -> None:
    alice, bob = await wide_user(node), await node.user("bob")
    room = await node.room(alice, bob)
    ann, ben = await node.socket(alice, room), await node.socket(bob, room)
    draft = {"roomId": room.id, "content": CONTENT, "clientMsgId": WIDE * 128, "metadata": METADATA}
    # As a client library writes it: characters, not escapes of them.
    text = json.dumps(["sendMessage", draft], ensure_ascii=False)
    answer = await ann.call_text(77, text)
    assert answer["message"]["content"] == CONTENT
    assert (await ben.hears("message"))[0] == answer["message"]
    await node.chat.edit(PID, room.id, answer["message"]["id"], CONTENT[::-1], by=None)
    assert (await ben.hears("messageUpdated"))[0]["metadata"] == METADATA
    await node.chat.update_room(PID, room.id, RoomChanges(description=WIDE * 2000))
    assert (await ben.hears("roomUpdated"))[0]["description"] == WIDE * 2000


class Slow:
    """A websocket that is read at a fixed rate, with hardly any buffer of its own, as over a thin line."""

    def __init__(self, raw: socket.socket, rate: int) -> None:
        self._raw = raw
        self._rate = rate
        self._buffer = b""

    async def send(self, text: str) -> None:
        frame = Frame(Opcode.TEXT, text.encode()).serialize(mask=True, extensions=[])
        await asyncio.get_running_loop().sock_sendall(self._raw, frame)

    async def _take(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        while len(self._buffer) < size:
            await asyncio.sleep(0.02)
            data = await loop.sock_recv(self._raw, self._rate // 50)
            assert data, "the server has hung up"
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def text(self) -> str:
        """The next message of the server."""
        length = (await self._take(2))[1]
        if length >= 126:
            length = int.from_bytes(await self._take(2 if length == 126 else 8))
        return (await self._take(length)).decode()

    async def acknowledgement(self, number: int) -> Any:
        while not (text := await self.text()).startswith(f"43{number}["):
            if text == "2":
                await self.send("3")
        return json.loads(text[text.index("[") :])[0]


@asynccontextmanager
async def slow_reader(node: LiveNode, token: str) -> AsyncIterator[Slow]:
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", int(node.url.rpartition(":")[2])))
        await loop.sock_sendall(
            raw,
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        )
        slow = Slow(raw, 2_000_000)
        while not (await slow._take(1) == b"\n" and await slow._take(2) == b"\r\n"):
            pass
        assert (await slow.text()).startswith("0{")
        await slow.send("40" + json.dumps({"token": token}))
        assert (await slow.text()).startswith("40{")
        yield slow


async def test_six_rooms_at_once_for_who_reads_two_megabytes_a_second(node: LiveNode) -> None:
    """Each is answered, with less of what was missed where much waits already; nobody is cut off."""
    alice = await wide_user(node)
    rooms = [await full_room(node, alice) for _ in range(ROOMS)]
    async with slow_reader(node, await node.token(alice)) as slow:
        for number, room in enumerate(rooms):
            await slow.send(f"42{number}" + json.dumps(["joinRoom", since(room)]))
        async with asyncio.timeout(30):
            for number in range(ROOMS):
                checked(await slow.acknowledgement(number), whole=False)
    assert not node.fact("slow_consumers_cut")


async def test_who_joins_rooms_and_never_reads_is_cut_off(node: LiveNode) -> None:
    alice = await wide_user(node)
    room = await full_room(node, alice)
    async with slow_reader(node, await node.token(alice)) as slow:
        async with asyncio.timeout(30):
            while not node.fact("slow_consumers_cut"):
                await slow.send("421" + json.dumps(["joinRoom", since(room)]))
                await asyncio.sleep(0.1)
        await until(lambda: node.fact("sockets") == 0, within=10)


async def test_six_rooms_in_one_polling_request(node: LiveNode) -> None:
    """Their answers wait together for the next poll."""
    alice = await wide_user(node)
    rooms = [await full_room(node, alice) for _ in range(ROOMS)]
    async with httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=20) as http:
        session = await polled(http)
        await http.post(session, content="40" + json.dumps({"token": await node.token(alice)}))
        await http.get(session)
        joins = [
            f"42{number}" + json.dumps(["joinRoom", since(room)])
            for number, room in enumerate(rooms)
        ]
        assert (await http.post(session, content="\x1e".join(joins))).status_code == 200
        packets = (await http.get(session)).text.split("\x1e")
        assert [packet[:3] for packet in packets] == [f"43{number}" for number in range(ROOMS)]
        answers = [json.loads(packet[packet.index("[") :])[0] for packet in packets]
        checked(answers[0])
        for answer in answers:
            checked(answer, whole=False)
        since_seq = answers[0]["missed"][-1]["seq"]
        again = json.dumps(["joinRoom", {"roomId": rooms[0].id, "sinceSeq": since_seq}])
        await http.post(session, content=f"42{ROOMS}{again}")
        [answer] = json.loads((await http.get(session)).text.removeprefix(f"43{ROOMS}"))
        assert answer["missed"][0]["seq"] == since_seq + 1
    assert not node.fact("slow_consumers_cut")


async def test_a_gap_of_many_megabytes_is_filled_for_who_reads(node: LiveNode) -> None:
    """As after an outage of the bus: what this node was not told of is fetched, a part at a time."""
    alice, bob = await wide_user(node), await node.user("bob")
    room = await node.room(alice, bob)
    ear = await node.socket(bob, room)
    publish, node.chat._publish = node.chat._publish, lambda _: None
    for _ in range(100):
        await node.chat.post(PID, room.id, alice.id, CONTENT, metadata=METADATA)
    node.chat._publish = publish
    await node.chat.post(PID, room.id, alice.id, "the last one")
    heard = await ear.hears("message", 101, within=15)
    assert [message["seq"] for message in heard] == list(range(1, 102))
    assert not node.fact("slow_consumers_cut")


async def test_the_sdk_fetches_all_of_it(node: LiveNode) -> None:
    """Past shortened answers, of six rooms at once, each message once and in order."""
    alice = await wide_user(node)
    rooms = [await full_room(node, alice) for _ in range(ROOMS)]
    got: dict[str | None, list[int | None]] = {room.id: [] for room in rooms}
    async with AsyncChatClient(node.url, jwt_token=await node.token(alice)) as client:

        def hear(message: Message) -> None:
            got[message.room_id].append(message.seq)

        client.socket.on_message(hear)
        await client.socket.connect()
        joined = await asyncio.gather(
            *(client.socket.join_room(room.id, since_seq=0) for room in rooms)
        )
        assert {each.has_more for each in joined} == {True}
        await until(lambda: all(len(seqs) == MESSAGES for seqs in got.values()), within=20)
    assert all(seqs == list(range(1, MESSAGES + 1)) for seqs in got.values())
    assert not node.fact("slow_consumers_cut")
