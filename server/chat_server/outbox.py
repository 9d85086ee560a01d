"""What waits to be sent to one socket: ordered, bounded, and written straight to the wire where that can be done.

Engine.IO makes one queue per socket through its public `create_queue`, and a writer task empties it. `Outbox` is that
queue, with two differences. It counts bytes, and says so when a reader is too slow. And once the writer has caught up
on a websocket whose transport is known, messages skip queue and writer: the ready-made frame goes to the transport
at once. Everything else (pings, the end) still takes the queue.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from engineio import packet

from chat_server.frames import MESSAGE, Ready, size_of

try:  # a private class of one version of uvicorn: without it, everything takes the queue
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError:  # pragma: no cover
    WebSocketsSansIOProtocol = None  # type: ignore[assignment, misc]


class Outgoing(Protocol):
    """What is sent to one socket, in order and without waiting: by an `Outbox`, or by a `Line`."""

    open: bool
    """May `write` be called with a `Ready.frame`? If not, `hold` sends it when it is its turn."""

    @property
    def direct(self) -> bool: ...
    @property
    def on_overflow(self) -> Callable[[], None]: ...
    @property
    def write(self) -> Callable[[bytes], None]: ...
    def send(self, ready: Ready) -> None: ...
    def hold(self, ready: Ready) -> None: ...
    def end(self, *last: Ready) -> None: ...
    def over(self) -> None: ...
    async def until_sent(self, deadline: float) -> None: ...
    def abort(self) -> None: ...


class Wire:
    """The transport under a websocket, as far as ready-made frames need it."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._can_write: Callable[[], bool] = protocol.writable.is_set
        self._is_closing: Callable[[], bool] = protocol.transport.is_closing
        self.write: Callable[[bytes], None] = protocol.transport.write

    @property
    def gone(self) -> bool:
        """True when nothing may be written any more: a close frame was sent, or the peer went away."""
        return self._protocol.close_sent or self._protocol.disconnected or self._is_closing()

    @property
    def full(self) -> bool:
        """True while the transport asks to wait."""
        return not self._can_write()

    async def until_writable(self) -> None:
        """Wait until the transport takes more, or is lost."""
        await self._protocol.writable.wait()

    def abort(self) -> None:
        """Drop the connection now, with all that was not sent."""
        self._transport.abort()


def wire_behind(send: Any) -> Wire | None:
    """The transport behind an ASGI *send*, if the server is one whose frames we know how to write."""
    protocol = getattr(send, "__self__", None)
    if WebSocketsSansIOProtocol is None or not isinstance(protocol, WebSocketsSansIOProtocol):
        return None
    needed = ("transport", "writable", "close_sent", "disconnected")
    return Wire(protocol) if all(hasattr(protocol, name) for name in needed) else None


class Outbox(asyncio.Queue[packet.Packet | None]):
    """The queue of one Engine.IO socket; see the module's text."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._bytes = 0
        self._wire: Wire | None = None
        self._direct = False
        self._backlog: deque[Ready] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._ended = False
        self._overflowed = False
        self._sent = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self.on_overflow: Callable[[], None] = lambda: None

    # -- Engine.IO's side -------------------------------------------------------------------------

    def _init(self, maxsize: int) -> None:  # noqa: ARG002  # asyncio's signature
        self._queue: deque[packet.Packet | None] = deque()

    def _put(self, item: packet.Packet | None) -> None:
        self._queue.append(item)
        self._bytes += size_of(item)

    def _get(self) -> packet.Packet | None:
        item = self._queue.popleft()
        self._bytes -= size_of(item)
        if self._ended and not self._queue:
            self._sent.set()
        return item

    async def put(self, item: packet.Packet | None) -> None:
        """Queue *item*; never waits."""
        self.put_nowait(item)

    def put_nowait(self, item: packet.Packet | None) -> None:
        """Send or queue *item*. A message after the end is dropped."""
        if item is None or item.packet_type != MESSAGE:
            super().put_nowait(item)
        elif not self._ended:
            self.send(item if isinstance(item, Ready) else Ready(item.encode()[1:].encode()))

    async def get(self) -> packet.Packet | None:
        """Wait for the next packet."""
        # Asking again with nothing queued means that all that was taken before has been sent.
        if self._wire is not None and not self._queue:
            self._direct = True
        return await super().get()

    async def join(self) -> None:
        """Return at once: the library would wait here for ever for a peer that has stopped reading."""

    # -- our side ---------------------------------------------------------------------------------

    def attach(self, wire: Wire | None, task: asyncio.Task[Any] | None) -> None:
        """From the moment the queue has run empty, write messages to *wire*; *task* serves the websocket."""
        self._wire = wire
        self._task = task

    @property
    def direct(self) -> bool:
        """Do messages skip the queue by now?"""
        return self._direct

    open = False

    def write(self, frame: bytes) -> None:
        """Never called: what is sent is always to be held until its turn, which may be now."""

    def hold(self, ready: Ready) -> None:
        """See Outgoing."""
        self.send(ready)

    def send(self, ready: Ready) -> None:
        """Send *ready*, in the order of the calls, without waiting."""
        if self._direct and not self._backlog and not self._ended:
            wire = self._wire
            if wire is not None and not wire.full:
                if not wire.gone:
                    wire.write(ready.frame)
                return
        self._hold(ready)

    def _hold(self, ready: Ready) -> None:
        if self._ended or self._overflowed:
            return
        if self._bytes + ready.size > self._limit:
            self._overflowed = True
            self.on_overflow()
            return
        if not self._direct:
            super().put_nowait(ready)
            return
        self._backlog.append(ready)
        self._bytes += ready.size
        if self._flushing is None:
            self._flushing = asyncio.ensure_future(self._flush())

    async def _flush(self) -> None:
        wire = self._wire
        try:
            while wire is not None and self._backlog:
                await wire.until_writable()
                while self._backlog and not wire.full:
                    ready = self._backlog.popleft()
                    self._bytes -= ready.size
                    if wire.gone:
                        self._drop()
                    else:
                        wire.write(ready.frame)
        finally:
            self._flushing = None

    def _drop(self) -> None:
        self._backlog.clear()
        self._queue.clear()
        self._bytes = 0

    def end(self, *last: Ready) -> None:
        """Drop what waits, send *last*, and accept nothing more; the writer closes the connection after it."""
        if self._ended:
            return
        self._drop()
        for ready in last:
            if self._direct and self._wire is not None:
                if not self._wire.gone:
                    self._wire.write(ready.frame)
            else:
                super().put_nowait(ready)
        self._ended = True
        super().put_nowait(packet.Packet(packet.CLOSE))
        super().put_nowait(None)

    def over(self) -> None:
        """The connection has ended: nobody takes anything any more."""
        if not self._ended:
            super().put_nowait(None)  # a polling request may be waiting
        self._ended = True
        self._sent.set()

    async def until_sent(self, deadline: float) -> None:
        """After `end`: wait until the writer has taken the last packet or is gone, *deadline* seconds at most."""
        try:
            async with asyncio.timeout(deadline):
                await self._sent.wait()
        except TimeoutError:
            pass

    def abort(self) -> None:
        """Drop the connection at once, with all that was not sent."""
        if self._wire is not None:
            self._wire.abort()
        elif self._task is not None and not self._task.done():
            self._task.cancel("cut off")
