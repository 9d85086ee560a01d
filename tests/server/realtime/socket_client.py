"""A Socket.IO client of a few lines: it shows what went over the wire, and can send what no library would."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 5.0


class Socket:
    """One websocket connection, and everything it heard."""

    def __init__(self, wire: ClientConnection) -> None:
        self.wire = wire
        self.heard: list[tuple[str, Any]] = []
        self.hello = ""
        self.sid: str | None = None
        self.refused: dict[str, Any] | None = None
        self.said_goodbye = False
        self.answers_pings = True
        self._acks: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()
        self.closed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for text in self.wire:
                self._take(str(text))
                self._news.set()
        except ConnectionClosed:
            pass
        self.closed.set()
        self._news.set()

    def _take(self, text: str) -> None:
        if text == "2" and self.answers_pings:
            self._later(self.wire.send("3"))
        elif text.startswith("0"):
            self.hello = text
        elif text.startswith("40"):
            self.sid = json.loads(text[2:])["sid"]
        elif text.startswith("41"):
            self.said_goodbye = True
        elif text.startswith("44"):
            self.refused = json.loads(text[text.index("{") :])
        elif text.startswith("42"):
            event, payload = json.loads(text[2:])
            self.heard.append((event, payload))
        elif text.startswith("43"):
            number, _, rest = text[2:].partition("[")
            self._acks.pop(int(number)).set_result(json.loads("[" + rest)[0])

    def _later(self, work: Any) -> None:
        asyncio.ensure_future(work).add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )

    async def until(self, condition: Any, *, within: float = PATIENCE) -> None:
        """Wait for what goes over the wire to make *condition* true."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"it did not happen; heard {self.heard[-20:]}") from None

    def payloads(self, event: str) -> list[Any]:
        """What was heard under this name so far."""
        return [payload for name, payload in self.heard if name == event]

    async def hears(self, event: str, count: int = 1, *, within: float = PATIENCE) -> list[Any]:
        """Wait until *event* was heard *count* times."""
        await self.until(lambda: len(self.payloads(event)) >= count, within=within)
        return self.payloads(event)

    async def ends(self, within: float = PATIENCE) -> None:
        """Wait for the server to close the connection."""
        async with asyncio.timeout(within):
            await self.closed.wait()

    async def send(self, text: str | bytes) -> None:
        """Send a frame exactly as it is."""
        await self.wire.send(text)

    async def emit(self, event: str, *arguments: Any) -> None:
        """Send an event, asking for no acknowledgement."""
        await self.send("42" + json.dumps([event, *arguments]))

    def ask(self, event: str, *arguments: Any) -> "asyncio.Future[Any]":
        """Send an event; the future is its acknowledgement."""
        number = next(self._numbers)
        future = self._acks[number] = asyncio.get_running_loop().create_future()
        self._later(self.send(f"42{number}" + json.dumps([event, *arguments])))
        return future

    async def call(self, event: str, *arguments: Any) -> Any:
        """Send an event and wait for its acknowledgement."""
        async with asyncio.timeout(PATIENCE):
            return await self.ask(event, *arguments)

    async def call_text(self, number: int, event: str) -> Any:
        """Like `call`, with the JSON of the event as it is."""
        future = self._acks[number] = asyncio.get_running_loop().create_future()
        await self.send(f"42{number}{event}")
        async with asyncio.timeout(PATIENCE):
            return await future

    async def quiet(self) -> None:
        """Return when the server has handled everything sent before: an answer comes after all of it."""
        await self.call("leaveRoom", "no-such-room")

    async def close(self) -> None:
        """Hang up."""
        await self.wire.close()
        await asyncio.gather(self._reader, return_exceptions=True)

    def stop_reading(self) -> None:
        """Read nothing any more, and leave the connection open."""
        self._reader.cancel()
        self.wire.transport.pause_reading()

    def hang_up(self) -> None:
        """Drop the connection without a word."""
        self.wire.transport.abort()


def address(url: str, query: dict[str, str]) -> str:
    extra = "".join(f"&{name}={value}" for name, value in query.items())
    return url.replace("http://", "ws://") + f"/socket.io/?EIO=4&transport=websocket{extra}"


@asynccontextmanager
async def opened(
    url: str, *, headers: dict[str, str] | None = None, query: dict[str, str] | None = None
) -> AsyncIterator[Socket]:
    """An Engine.IO connection that has shown no token."""
    wire = await connect(
        address(url, query or {}),
        additional_headers=headers,
        max_size=None,
        compression=None,
        proxy=None,
    )
    socket = Socket(wire)
    try:
        await socket.until(lambda: socket.hello)
        yield socket
    finally:
        await socket.close()


@asynccontextmanager
async def connected(url: str, token: Any, **more: Any) -> AsyncIterator[Socket]:
    """A connection that has shown *token*: accepted, or refused (see `refused`)."""
    async with opened(url, **more) as socket:
        await socket.send("40" + json.dumps({"token": token}))
        await socket.until(lambda: socket.sid or socket.refused)
        yield socket
