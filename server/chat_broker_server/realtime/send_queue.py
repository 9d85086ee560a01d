"""The send queue of one socket: ordered, and bounded in bytes (see `slow_readers`).

`EngineIOSendQueue` serves connections of python-socketio. Engine.IO makes one per socket through its public
`create_queue`; a poll or the library's writer task empties it. Websockets of this server are their own
send queue: `WebSocketConnection`.

`Sessions.disconnect` closes a socket: it calls `end`, after which the client or the library closes, and later `abort` for
a client that does not read.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from engineio import packet

from chat_broker_server.realtime.packets import MESSAGE, EncodedPacket, size_of
from chat_broker_server.realtime.slow_readers import overflows


class SendQueue(Protocol):
    """Sends packets to one socket, in order and without waiting."""

    @property
    def open(self) -> bool:
        """Whether `write` may be called with an `EncodedPacket.frame`. If not, call `enqueue`."""

    @property
    def write(self) -> Callable[[bytes], None]: ...
    @property
    def direct(self) -> bool:
        """Whether the queue writes to the transport itself, without python-engineio."""

    @property
    def waiting(self) -> int:
        """Bytes that are queued."""

    @property
    def on_overflow(self) -> Callable[[], None]:
        """What to call when something does not fit: the connection is a slow reader."""

    def send(self, ready: EncodedPacket) -> None: ...
    def enqueue(self, ready: EncodedPacket) -> None: ...
    def end(self, *last: EncodedPacket) -> None:
        """Drop what waits, send *last* and the close, and accept nothing more. Waits for nothing."""

    def mark_ended(self) -> None:
        """The connection has ended: accept nothing more, and send nothing."""

    async def wait_until_sent(self, deadline: float) -> None:
        """After `end`: wait until *last* has been handed to the transport, at most *deadline* seconds."""

    def abort(self) -> None:
        """Close the socket at once; unsent data is lost."""


class EngineIOSendQueue(asyncio.Queue[packet.Packet | None]):
    """The queue that Engine.IO reads for one socket. Bounded in bytes; `on_overflow` is called when it is full."""

    open: Final = False
    direct: Final = False

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._bytes = 0
        self._ended = False
        self._overflowed = False
        self._sent = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self.on_overflow: Callable[[], None] = lambda: None

    # -- called by Engine.IO ----------------------------------------------------------------------

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
        """`put_nowait`: the queue is bounded by `send`, so nothing waits here."""
        self.put_nowait(item)

    def put_nowait(self, item: packet.Packet | None) -> None:
        """Queue *item*. Messages after `end` are dropped."""
        if item is None or item.packet_type != MESSAGE:
            super().put_nowait(item)
        elif not self._ended:
            self.send(
                item
                if isinstance(item, EncodedPacket)
                else EncodedPacket(item.encode()[1:].encode())
            )

    async def join(self) -> None:
        """Returns at once: the library would wait for ever for a client that does not read."""

    # -- SendQueue --------------------------------------------------------------------------------

    def attach(self, task: asyncio.Task[Any] | None) -> None:
        """*task* serves the websocket: `abort` cancels it."""
        self._task = task

    @property
    def waiting(self) -> int:
        return self._bytes

    def write(self, frame: bytes) -> None:
        """Never called: this queue is never `open`."""

    def send(self, ready: EncodedPacket) -> None:
        """Queue *ready*, in the order of the calls, without waiting."""
        if self._ended or self._overflowed:
            return
        if overflows(self._bytes, ready.size, self._limit):
            self._overflowed = True
            self.on_overflow()
            return
        super().put_nowait(ready)

    def enqueue(self, ready: EncodedPacket) -> None:
        self.send(ready)

    def take_all(self) -> list[EncodedPacket]:
        """Remove and return the queued messages, for another send queue."""
        waiting = [item for item in self._queue if isinstance(item, EncodedPacket)]
        self._drop()
        return waiting

    def _drop(self) -> None:
        self._queue.clear()
        self._bytes = 0

    def end(self, *last: EncodedPacket) -> None:
        """Drop the queue, send *last*, and accept nothing more. The library then closes the connection."""
        if self._ended:
            return
        self._drop()
        for ready in last:
            super().put_nowait(ready)
        self._ended = True
        super().put_nowait(packet.Packet(packet.CLOSE))
        super().put_nowait(None)

    def mark_ended(self) -> None:
        """Called when the connection has ended: nothing reads the queue any more."""
        if not self._ended:
            super().put_nowait(None)  # a polling request may be waiting
        self._ended = True
        self._sent.set()

    async def wait_until_sent(self, deadline: float) -> None:
        """After `end`: wait until the last packet was read or the connection has ended, at most *deadline* seconds."""
        try:
            async with asyncio.timeout(deadline):
                await self._sent.wait()
        except TimeoutError:
            pass

    def abort(self) -> None:
        """Close at once; unsent data is lost."""
        if self._task is not None and not self._task.done():
            self._task.cancel("cut off")
