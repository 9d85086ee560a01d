"""Many Socket.IO clients in one cheap process: join a room, speak in turn, count what arrives.

`python -m benchmarks.crowd` is told what to do by JSON lines on standard input, one command a line, and answers
each with one JSON line: `connect` {port, tokens, room}, `speak` {messages, every, room} (*every* seconds apart; 0
sends them all at once), `close`. Frames are counted, not parsed, once a client is in the room.
"""

import asyncio
import base64
import json
import os
import struct
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

_PATIENCE = 30.0
_TEXT, _PING, _PONG = 0x1, 0x9, 0xA


def text_frame(text: str) -> bytes:
    """One masked text frame. The mask is zero, because no proxy is in between."""
    body = text.encode()
    if len(body) < 126:
        return struct.pack("!BB4x", 0x81, 0x80 | len(body)) + body
    return struct.pack("!BBH4x", 0x81, 0x80 | 126, len(body)) + body


@dataclass
class Crowd:
    """The clients, their messages and their errors."""

    clients: list["Client"] = field(default_factory=list)
    heard: int = 0
    expected: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    complaints: list[str] = field(default_factory=list)

    async def until(self, ready: Any) -> None:
        """Wait until *ready()* is true. Raises TimeoutError with the first error."""
        async with asyncio.timeout(_PATIENCE):
            while not ready():
                self.changed.clear()
                await self.changed.wait()


class Client(asyncio.Protocol):
    """One websocket: handshake, connect with the token, join, then count `message` events."""

    def __init__(self, crowd: Crowd, port: int, token: str, room: str | None) -> None:
        self._crowd = crowd
        self._port = port
        self._token = token
        self._room = room
        self._buffer = b""
        self._upgraded = False
        self.ready = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def say(self, text: str) -> None:
        """Send one text frame."""
        if self.transport is not None:
            self.transport.write(text_frame(text))

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._upgraded:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            if not self._buffer.startswith(b"HTTP/1.1 101"):
                self._crowd.complaints.append(self._buffer[:300].decode("latin-1"))
                self._crowd.changed.set()
                return
            self._buffer = self._buffer[head + 4 :]
            self._upgraded = True
        self._frames()

    def _frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                if len(buffer) < start + 2:
                    break
                length, start = int.from_bytes(buffer[start : start + 2], "big"), start + 2
            elif length == 127:
                if len(buffer) < start + 8:
                    break
                length, start = int.from_bytes(buffer[start : start + 8], "big"), start + 8
            if len(buffer) < start + length:
                break
            opcode = buffer[at] & 0x0F
            if opcode == _TEXT:
                self._frame(buffer[start : start + length])
            elif opcode == _PING and self.transport is not None:
                pong = struct.pack("!BB4x", 0x80 | _PONG, 0x80 | length)
                self.transport.write(pong + buffer[start : start + length])
            at = start + length
        self._buffer = buffer[at:]

    def _frame(self, body: bytes) -> None:
        if body.startswith(b'42["message",'):
            self._crowd.heard += 1
            if self._crowd.heard >= self._crowd.expected:
                self._crowd.changed.set()
        elif body == b"2":
            self.say("3")
        elif body.startswith(b"0"):
            self.say("40" + json.dumps({"token": self._token}))
        elif body.startswith(b"40"):
            if self._room is None:
                self._is_ready()
            else:
                self.say("421" + json.dumps(["joinRoom", self._room]))
        elif body.startswith(b"431"):
            if b'"ok":true' not in body.replace(b" ", b""):
                self._crowd.complaints.append(body[:300].decode())
            self._is_ready()
        elif body.startswith((b"44", b'42["error"')):
            self._crowd.complaints.append(body[:300].decode())
            self._crowd.changed.set()

    def _is_ready(self) -> None:
        self.ready = True
        self._crowd.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ready = False
        self._crowd.complaints.append(f"connection lost: {exc}")
        self._crowd.changed.set()


async def connect(crowd: Crowd, port: int, tokens: list[str], room: str | None) -> dict[str, Any]:
    """Add one client a token, a hundred at a time; done when all are in the room."""
    loop = asyncio.get_running_loop()
    for start in range(0, len(tokens), 100):
        batch = tokens[start : start + 100]
        made = await asyncio.gather(
            *(
                loop.create_connection(partial(Client, crowd, port, token, room), "127.0.0.1", port)
                for token in batch
            )
        )
        added = [client for _, client in made]
        crowd.clients += added
        await crowd.until(
            lambda added=added: crowd.complaints or all(client.ready for client in added)
        )
        if crowd.complaints:
            break
    return {"clients": len(crowd.clients)}


async def speak(crowd: Crowd, messages: int, every: float, room: str) -> dict[str, Any]:
    """Each message by another client; done when every client has heard every message."""
    loop = asyncio.get_running_loop()
    crowd.heard, crowd.expected = 0, messages * len(crowd.clients)
    began = loop.time()
    for number in range(messages):
        speaker = crowd.clients[number % len(crowd.clients)]
        speaker.say(
            "422" + json.dumps(["sendMessage", room, "See you at noon? I bring the coffee."])
        )
        if every:
            await asyncio.sleep(max(0.0, began + (number + 1) * every - loop.time()))
    await crowd.until(lambda: crowd.heard >= crowd.expected or crowd.complaints)
    return {"heard": crowd.heard, "expected": crowd.expected, "seconds": loop.time() - began}


async def listen() -> None:
    """Carry out commands until standard input ends."""
    crowd = Crowd()
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        name = command.pop("command")
        try:
            if name == "connect":
                answer = await connect(crowd, **command)
            else:
                answer = await speak(crowd, **command)
        except TimeoutError:
            answer = {"failed": f"only {crowd.heard} of {crowd.expected} messages arrived"}
        if crowd.complaints:
            answer["failed"] = crowd.complaints[0]
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Run on uvloop."""
    import uvloop

    uvloop.run(listen())


if __name__ == "__main__":
    main()
