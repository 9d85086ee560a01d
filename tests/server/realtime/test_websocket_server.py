"""Frames of websockets that the server reads and writes itself, and how it comes by such a websocket."""

import asyncio
import gc
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from chat_broker_server.realtime import uvicorn_takeover, websocket_frames
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.websocket_frames import Violation
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.socket_client import address, connected, opened

LIMIT = 70_000


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[LiveNode]:
    """This file is about the server's own websockets alone."""
    async with running_node(database_url) as node:
        yield node


def masked(payload: bytes, opcode: Opcode = Opcode.TEXT, *, final: bool = True) -> bytes:
    """A client's frame, as the library of the tests' clients writes it."""
    return Frame(opcode, payload, fin=final).serialize(mask=True, extensions=[])


# -- reading --------------------------------------------------------------------------------------


@given(
    payload=st.binary(max_size=300) | st.sampled_from([b"x" * 65_535, b"y" * 65_536]),
    before=st.binary(max_size=5),
    after=st.binary(max_size=5),
)
def test_what_another_library_writes_is_read(payload: bytes, before: bytes, after: bytes) -> None:
    """At any place of the buffer, and whatever follows."""
    frame = masked(payload, Opcode.BINARY)
    first, body, end = websocket_frames.read(before + frame + after, len(before), LIMIT) or (
        0,
        b"",
        0,
    )
    assert (first, body) == (0x82, payload)
    assert end == len(before) + len(frame)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_frame_that_has_not_arrived_completely_is_waited_for(size: int) -> None:
    frame = masked(os.urandom(size))
    for cut in {*range(min(16, len(frame))), len(frame) // 2, len(frame) - 1}:
        assert websocket_frames.read(frame[:cut], 0, LIMIT) is None
        assert websocket_frames.read(bytearray(frame[:cut]), 0, LIMIT) is None


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_what_is_written_is_one_whole_frame(size: int) -> None:
    body = b"z" * size
    assert websocket_frames.text(body) == Frame(Opcode.TEXT, body).serialize(
        mask=False, extensions=[]
    )


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x01x", 1002),  # not masked
        (b"\xc1\x80", 1002),  # a bit of an extension
        (b"\x91\x80", 1002),
        (b"\x83\x80", 1002),  # kinds that do not exist
        (b"\x8b\x80", 1002),
        (b"\x09\x80", 1002),  # a ping in pieces
        (b"\x88\xfe\x00\x7e", 1002),  # a long close
        (b"\x81\xff" + (LIMIT + 1).to_bytes(8), 1009),  # seen before it has arrived
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1009),
        (b"\x00\xff" + (LIMIT + 1).to_bytes(8), 1009),
    ],
)
def test_what_no_client_may_send_is_refused(frame: bytes, code: int) -> None:
    with pytest.raises(Violation) as refused:
        websocket_frames.read(frame, 0, LIMIT)
    assert refused.value.code == code


# -- over a real port -----------------------------------------------------------------------------


class Raw:
    """A websocket of bytes: nothing is made better than it was sent, nothing is hidden."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of the server: its kind, and its payload."""
        async with asyncio.timeout(5):
            first, length = await self._reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self._reader.readexactly(2))
            return first & 0x0F, await self._reader.readexactly(length)

    async def answer(self) -> dict[str, Any]:
        """The next acknowledgement."""
        while True:
            _, payload = await self.frame()
            if payload.startswith(b"43"):
                answer: dict[str, Any] = json.loads(payload[payload.index(b"[") :])[0]
                return answer

    async def closed_with(self) -> int:
        """What the close frame says; after it, the server hangs up."""
        while True:
            opcode, payload = await self.frame()
            if opcode == Opcode.CLOSE:
                async with asyncio.timeout(5):
                    assert await self._reader.read() == b""
                return int.from_bytes(payload)


@asynccontextmanager
async def raw(node: LiveNode) -> AsyncIterator[Raw]:
    """A websocket with a token."""
    token = await node.token(await node.user(f"user-{secrets.token_hex(4)}"))
    port = int(node.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    socket = Raw(reader, writer)
    try:
        assert (await socket.frame())[1].startswith(b"0{")
        writer.write(masked(b"40" + json.dumps({"token": token}).encode()))
        assert (await socket.frame())[1].startswith(b"40{")
        yield socket
    finally:
        writer.close()


ASK = b'421["leaveRoom","x"]'


async def test_a_message_may_come_in_pieces_with_pings_in_between(node: LiveNode) -> None:
    async with raw(node) as socket:
        socket.writer.write(masked(ASK[:3], final=False))
        socket.writer.write(masked(b"are you there?", Opcode.PING))
        socket.writer.write(masked(b"", Opcode.CONT, final=False))
        socket.writer.write(masked(ASK[3:], Opcode.CONT))
        assert await socket.frame() == (Opcode.PONG, b"are you there?")
        assert (await socket.answer())["ok"]
        socket.writer.write(masked(ASK))
        assert (await socket.answer())["ok"]
    assert node.fact("protocol_errors") == 0


async def test_bytes_may_come_one_by_one_or_all_at_once(node: LiveNode) -> None:
    async with raw(node) as socket:
        for at in range(len(frame := masked(ASK))):
            socket.writer.write(frame[at : at + 1])
            await asyncio.sleep(0)
        assert (await socket.answer())["ok"]
        socket.writer.write(masked(ASK) * 20)
        for _ in range(20):
            assert (await socket.answer())["ok"]


async def test_pieces_without_end_are_bounded(database_url: str) -> None:
    """Empty ones take no room; as soon as they are more than a message may have, it is over."""
    async with running_node(database_url, limits=Limits(message_bytes=1000)) as node:
        async with raw(node) as socket:
            socket.writer.write(masked(b"4", final=False))
            socket.writer.write(masked(b"", Opcode.CONT, final=False) * 500)
            socket.writer.write(masked(b"", Opcode.PING))
            assert await socket.frame() == (Opcode.PONG, b"")
            socket.writer.write(masked(b"x" * 600, Opcode.CONT, final=False))
            socket.writer.write(masked(b"x" * 600, Opcode.CONT, final=False))
            assert await socket.closed_with() == 1009
        await until(lambda: node.fact("sockets") == 0)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (masked(b"rest", Opcode.CONT), 1002),
        (masked(b"4", final=False) + masked(b"4"), 1002),
        (masked(b"4\xff\xfe"), 1007),
        (masked(b"4", final=False) + masked(b"\xff", Opcode.CONT), 1007),
        (masked(b"x", Opcode.CLOSE), 1002),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
        (b"\x81\xff" + (1 << 20).to_bytes(8), 1009),
    ],
    ids=range(7),
)
async def test_what_is_no_websocket_ends_it(
    node: LiveNode, capfd: pytest.CaptureFixture[str], frames: bytes, code: int
) -> None:
    """Said in a close frame, and nothing in the log; what follows is not read."""
    async with raw(node) as socket:
        socket.writer.write(frames + masked(ASK) * 10)
        assert await socket.closed_with() == code
    await until(lambda: node.fact("sockets") == 0)
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_a_close_is_answered_and_ends_it(node: LiveNode) -> None:
    async with raw(node) as socket:
        socket.writer.write(masked((4001).to_bytes(2) + b"because", Opcode.CLOSE))
        assert await socket.closed_with() == 4001
    async with raw(node) as socket:
        socket.writer.write(masked(b"1"))
        assert await socket.closed_with() == 1000
    await until(lambda: node.fact("sockets") == 0)


async def test_who_is_cut_off_and_goes_on_talking_is_not_heard(database_url: str) -> None:
    """The goodbye is a close frame; a peer that does not answer it is dropped after a while."""
    limits = Limits(cut_after=0.3)
    async with running_node(database_url, limits=limits) as node, raw(node) as socket:
        for _ in range(3):
            socket.writer.write(masked(b"49"))
        while (await socket.frame())[0] != Opcode.CLOSE:
            pass
        heard = node.fact("protocol_errors")
        socket.writer.write(masked(b"49") * 10)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await socket.frame()
        assert node.fact("protocol_errors") == heard == 3


async def test_a_pong_nobody_asked_for_is_a_protocol_error(node: LiveNode) -> None:
    async with raw(node) as socket:
        socket.writer.write(masked(b"3"))
        assert b"protocol_error" in (await socket.frame())[1]


async def test_who_does_not_read_is_sent_no_pongs(node: LiveNode) -> None:
    """Pings without end are answered as long as somebody takes the answers; what waits is bounded."""
    async with raw(node) as socket:
        frames = masked(b"p" * 125, Opcode.PING) * 1_000
        for _ in range(200):  # 26 MB: more than the kernel keeps for the two of them
            socket.writer.write(frames)
            async with asyncio.timeout(5):
                await socket.writer.drain()
        (line,) = node.server.server_state.connections
        assert line.transport.get_write_buffer_size() < 500_000


# -- how it is come by ----------------------------------------------------------------------------


def of_uvicorn() -> int:
    """How many websockets uvicorn holds in this process."""
    return sum(isinstance(each, WebSocketsSansIOProtocol) for each in gc.get_objects())


async def test_uvicorn_keeps_the_count_and_nothing_else(node: LiveNode) -> None:
    """It is one of the server's connections, so that limits and shutting down know it; the rest is free at once."""
    alice = await node.user("alice")
    gc.collect()
    gc.disable()
    try:
        sockets = [await node.socket(alice) for _ in range(5)]
        state = node.server.server_state
        await until(lambda: not state.tasks)
        assert len(state.connections) == 5
        assert of_uvicorn() == 0
    finally:
        gc.enable()
    for socket in sockets[:2]:
        await socket.close()
    sockets[2].hang_up()
    await until(lambda: len(state.connections) == 2)
    for connection in list(state.connections):
        connection.shutdown()
    for socket in sockets[3:]:
        await socket.ends()
        assert socket.wire.close_code == 1012
    await until(lambda: not state.connections)
    await until(lambda: node.fact("sockets") == 0)


@pytest.mark.parametrize("hidden", ["uvicorn", "a name", "a judgement"])
async def test_a_server_it_does_not_know_serves_as_well(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    """No uvicorn, one that lacks something, one that looks strange: the library serves, and nobody can tell."""
    if hidden == "uvicorn":
        monkeypatch.setattr(uvicorn_takeover, "WebSocketsSansIOProtocol", None)
    elif hidden == "a name":
        monkeypatch.setattr(
            uvicorn_takeover, "_NEEDED", (*uvicorn_takeover._NEEDED, "will_be_there_in_2030")
        )
    else:
        monkeypatch.setattr(uvicorn_takeover, "untouched", lambda _: False)
    alice = await node.user("alice")
    room = await node.room(alice)
    gc.collect()
    socket = await node.socket(alice, room)
    assert of_uvicorn() == 1
    await node.chat.post(PID, room.id, alice.id, "hello")
    assert (await socket.hears("message"))[0]["content"] == "hello"


async def test_compression_goes_the_ordinary_way(node: LiveNode) -> None:
    """Where the server agrees to it; ours do not."""
    async with connect(address(node.url, {}), compression="deflate", proxy=None) as wire:
        assert wire.protocol.extensions
        assert str(await wire.recv()).startswith("0{")
        await wire.send("40" + json.dumps({"token": await node.token(await node.user("alice"))}))
        assert str(await wire.recv()).startswith("40{")
        await wire.send(ASK.decode())
        assert str(await wire.recv()).startswith("431")


async def test_sessions_of_websockets_are_not_for_polling(node: LiveNode) -> None:
    """Nobody comes into one by its id over the other transport."""
    async with opened(node.url) as socket:
        sid = json.loads(socket.hello[1:])["sid"]
        port = int(node.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        path = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert b'"Session ID unknown"' in await reader.read()
        writer.close()


async def test_pings_are_asked_in_order_and_once(database_url: str) -> None:
    """Every interval one, and none before the last was answered."""
    limits = Limits(ping_interval=0.2, ping_timeout=1.0, heartbeat=0.05)
    async with running_node(database_url, limits=limits) as node, raw(node) as socket:
        for _ in range(3):
            assert await socket.frame() == (Opcode.TEXT, b"2")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.4):
                    await socket.frame()
            socket.writer.write(masked(b"3"))
        assert await socket.frame() == (Opcode.TEXT, b"2")
        assert await socket.closed_with() == 1000
        assert node.fact("protocol_errors") == 0


async def test_a_second_handshake_after_a_refusal_may_succeed(node: LiveNode) -> None:
    """And after a goodbye of the client's own, too."""
    alice = await node.user("alice")
    async with connected(node.url, "no token") as socket:
        assert socket.refused is not None
        for _ in range(2):
            socket.sid = None
            await socket.send("40" + json.dumps({"token": await node.token(alice)}))
            await socket.until(lambda: socket.sid)
            assert (await socket.call("leaveRoom", "x"))["ok"]
            await socket.send("41")
            await until(lambda: node.fact("sockets_authenticated") == 0)
