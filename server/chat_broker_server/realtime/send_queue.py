"""What waits to be sent to one socket: ordered, bounded, and taken by nobody in particular.

Engine.IO makes one queue per socket through its public `create_queue`; a poll, or a writer task of a websocket, empties
it. `Outbox` is that queue, but it counts bytes, and says so when a reader is too slow. Websockets that need no library
have a `Line` in its place.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from engineio import packet

from chat_broker_server.realtime.packets import MESSAGE, Ready, size_of


class Outgoing(Protocol):
    """What is sent to one socket, in order and without waiting: by an `Outbox`, or by a `Line`."""

    @property
    def open(self) -> bool:
        """May `write` be called with a `Ready.frame`? If not, `hold` sends it when it is its turn."""

    @property
    def write(self) -> Callable[[bytes], None]: ...
    @property
    def direct(self) -> bool: ...
    @property
    def waiting(self) -> int:
        """How many bytes of the bound are in use."""

    @property
    def on_overflow(self) -> Callable[[], None]: ...
    def send(self, ready: Ready) -> None: ...
    def hold(self, ready: Ready) -> None: ...
    def end(self, *last: Ready) -> None: ...
    def over(self) -> None: ...
    async def until_sent(self, deadline: float) -> None: ...
    def abort(self) -> None: ...


class Outbox(asyncio.Queue[packet.Packet | None]):
    """The queue of one Engine.IO socket; see the module's text."""

    #: Everything is held, and taken by the library.
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
        """Queue *item*. A message after the end is dropped."""
        if item is None or item.packet_type != MESSAGE:
            super().put_nowait(item)
        elif not self._ended:
            self.send(item if isinstance(item, Ready) else Ready(item.encode()[1:].encode()))

    async def join(self) -> None:
        """Return at once: the library would wait here for ever for a peer that has stopped reading."""

    # -- our side ---------------------------------------------------------------------------------

    def attach(self, task: asyncio.Task[Any] | None) -> None:
        """*task* serves the websocket: to end it is to drop the connection."""
        self._task = task

    @property
    def waiting(self) -> int:
        """See Outgoing."""
        return self._bytes

    def write(self, frame: bytes) -> None:
        """Never called: an outbox is not `open`."""

    def send(self, ready: Ready) -> None:
        """Queue *ready*, in the order of the calls, without waiting."""
        if self._ended or self._overflowed:
            return
        if self._bytes + ready.size > self._limit:
            self._overflowed = True
            self.on_overflow()
            return
        super().put_nowait(ready)

    def hold(self, ready: Ready) -> None:
        """See Outgoing."""
        self.send(ready)

    def take_all(self) -> list[Ready]:
        """The messages that wait, for somebody else to send."""
        waiting = [item for item in self._queue if isinstance(item, Ready)]
        self._drop()
        return waiting

    def _drop(self) -> None:
        self._queue.clear()
        self._bytes = 0

    def end(self, *last: Ready) -> None:
        """Drop what waits, send *last*, and accept nothing more; the writer closes the connection after it."""
        if self._ended:
            return
        self._drop()
        for ready in last:
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
        if self._task is not None and not self._task.done():
            self._task.cancel("cut off")
