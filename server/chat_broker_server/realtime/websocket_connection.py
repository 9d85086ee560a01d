"""A websocket that this server speaks itself: the protocol of its transport, and the outbox of its connection.

It reads one message at a time, and not the next before that one has been answered: what comes meanwhile waits in the
kernel. What is to be sent is written at once while the transport takes it, and kept in order and bounded while not.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from chat_broker_server.realtime import websocket_frames
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.packets import Ready
from chat_broker_server.realtime.websocket_frames import Violation

MOST_TRIFLES: Final = 1000
"""Frames a second that bring no message to its end. They are short, and nothing else bounds how many are read."""


class Side(Protocol):
    """What all lines of a node have in common."""

    message_bytes: int
    queue_bytes: int
    last_words: float
    cut_after: float

    def hear(self, line: "Line", text: str | None) -> bool:
        """A message came (None: a binary one). True if it is being answered: `go_on` is called then."""

    def violated(self, line: "Line", code: int) -> None:
        """What the peer sent cannot be read on; *code* is the reason, as close frames have it."""

    def restarting(self, line: "Line") -> None:
        """The server goes down."""

    def too_slow(self, line: "Line") -> None:
        """More waits for this peer than may."""

    def lost(self, line: "Line") -> None:
        """The connection has ended."""


class Line(asyncio.Protocol):
    """One connection. Between `start` and its end, `open` says that `write` may be called with a whole frame."""

    __slots__ = (
        "_before",
        "_buffer",
        "_busy",
        "_code",
        "_deaf",
        "_ended",
        "_full",
        "_held",
        "_held_bytes",
        "_overflowed",
        "_parts",
        "_peers",
        "_reading",
        "_side",
        "_trifles",
        "_trifles_since",
        "connection",
        "open",
        "transport",
        "write",
    )

    #: Messages never take another way.
    direct: Final = True

    def __init__(self, side: Side, transport: asyncio.Transport, before: Any) -> None:
        """*before*: the protocol that has had *transport* so far, and hears of its end until `start`."""
        self.open = False
        self.write: Callable[[bytes], None] = transport.write
        self.connection: Connection | None = None
        self._side = side
        self.transport = transport
        self._before = before
        self._peers: set[Any] | None = None
        self._buffer: bytes | bytearray = b""
        self._parts: bytearray | None = None
        self._held: deque[bytes] | None = None
        self._held_bytes = 0
        self._busy = True
        self._code = websocket_frames.NORMAL
        self._deaf = False
        self._reading = True
        self._full = False
        self._ended = False
        self._overflowed = False
        self._trifles = 0
        self._trifles_since = 0.0

    def start(self, peers: set[Any]) -> None:
        """Speak; until the end, be one of the server's connections in *peers*."""
        self._before = None
        self._peers = peers
        peers.add(self)
        self.open = not self._full

    # -- the transport's side ---------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._deaf or (self._ended and self.transport.is_closing()):
            return
        if not self._buffer:
            self._buffer = data
        elif isinstance(self._buffer, bytearray):
            self._buffer += data
        else:
            self._buffer = bytearray(self._buffer) + data
        if not self._busy:
            self._read_on()
        elif self._reading:
            self._reading = False
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        self._full = True
        self.open = False

    def resume_writing(self) -> None:
        self._full = False
        held = self._held
        while held and not self._full:
            frame = held.popleft()
            self._held_bytes -= len(frame)
            self.write(frame)
        if not held:
            self._held = None
        self.open = not (self._held or self._full or self._ended) and self._before is None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._before is not None:
            self._ended = True
            self._before.connection_lost(exc)
            return
        self._finish()
        if self._peers is not None:
            self._peers.discard(self)
        self._side.lost(self)

    def shutdown(self) -> None:
        """The server goes down: it calls this on all its connections."""
        self._code = websocket_frames.RESTART
        self._side.restarting(self)
        self._close(websocket_frames.RESTART)

    # -- reading ----------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Take the next message: this one has been answered."""
        self._busy = False
        if self._buffer:
            self._read_on()
        if not self._busy and not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def _read_on(self) -> None:
        data, at = self._buffer, 0
        try:
            while (frame := websocket_frames.read(data, at, self._side.message_bytes)) is not None:
                first, payload, at = frame
                self._take(first, payload)
                if self._busy:
                    break
        except Violation as violation:
            self._refuse(violation.code)
            at = len(data)
        if at == len(data):
            self._buffer = b""
        elif at:
            self._buffer = data[at:]

    def _refuse(self, code: int) -> None:
        """Say why, and close. What still comes is dropped, but read: else the peer's kernel drops the reason."""
        ended_before = self._ended
        self._deaf = True
        self._code = code
        self._side.violated(self, code)
        if ended_before or not self._ended:
            self._close(code)

    def _take(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode > websocket_frames.BINARY or not first & websocket_frames.FINAL:
            self._count_trifle()
        if opcode == websocket_frames.PING:
            if not self._ended and not self._full:
                self.write(websocket_frames.pong(payload))
        elif opcode == websocket_frames.CLOSE:
            self._answer_close(payload)
        elif opcode <= websocket_frames.BINARY:
            self._part(first, opcode, payload)

    def _count_trifle(self) -> None:
        self._trifles += 1
        if self._trifles > MOST_TRIFLES:
            now = time.monotonic()
            if now - self._trifles_since < 1.0:
                raise Violation(websocket_frames.POLICY)
            self._trifles, self._trifles_since = 0, now

    def _part(self, first: int, opcode: int, payload: bytes) -> None:
        parts = self._parts
        # Section 5.4: a continuation follows a beginning, and nothing else does.
        if (parts is None) is not bool(opcode):
            raise Violation(websocket_frames.PROTOCOL_ERROR)
        if parts is not None or not first & websocket_frames.FINAL:
            if parts is None:
                parts = self._parts = bytearray((opcode,))
            parts += payload
            if len(parts) - 1 > self._side.message_bytes:
                raise Violation(websocket_frames.TOO_BIG)
            if not first & websocket_frames.FINAL:
                return
            opcode, payload = parts[0], bytes(parts[1:])
            self._parts = None
        if self._ended:
            return
        text = None
        if opcode == websocket_frames.TEXT:
            try:
                text = payload.decode()
            except UnicodeDecodeError:
                raise Violation(websocket_frames.NOT_UTF8) from None
        self._busy = self._side.hear(self, text)

    def _answer_close(self, payload: bytes) -> None:
        if len(payload) == 1:
            raise Violation(websocket_frames.PROTOCOL_ERROR)
        if not self._ended:
            self._finish()
            self.write(b"\x88%c%b" % (len(payload[:2]), payload[:2]))
        self.transport.close()

    # -- sending ----------------------------------------------------------------------------------

    def send(self, ready: Ready) -> None:
        """Send *ready*, in the order of the calls, without waiting."""
        if self.open:
            self.write(ready.frame)
        else:
            self._keep(ready.frame)

    def hold(self, ready: Ready) -> None:
        """`send`, for one that is not `open`."""
        self._keep(ready.frame)

    def ping(self) -> None:
        """Ask whether somebody is there, in the order of what is sent."""
        if self.open:
            self.write(websocket_frames.ENGINE_PING)
        else:
            self._keep(websocket_frames.ENGINE_PING)

    @property
    def waiting(self) -> int:
        """See Outgoing."""
        return self._held_bytes

    def on_overflow(self) -> None:
        """More was to be kept for this peer than may."""
        self._side.too_slow(self)

    def _keep(self, frame: bytes) -> None:
        if self._ended or self._overflowed:
            return
        if self._held_bytes + len(frame) > self._side.queue_bytes:
            self._overflowed = True
            self.on_overflow()
            return
        if self._held is None:
            self._held = deque()
        self._held.append(frame)
        self._held_bytes += len(frame)

    # -- the end ----------------------------------------------------------------------------------

    def end(self, *last: Ready) -> None:
        """Drop what waits, send *last*, and close: the peer's answer, or `abort`, ends the connection."""
        if not self._ended:
            self._finish()
            farewell = (websocket_frames.ENGINE_CLOSE, websocket_frames.close(self._code))
            self.write(b"".join((*(ready.frame for ready in last), *farewell)))
            if self._deaf:  # also for the peer's answer
                loop = asyncio.get_running_loop()
                loop.call_later(self._side.last_words, self.transport.close)

    def hang_up(self) -> None:
        """Close the connection as one that has come to its end."""
        self._close(websocket_frames.NORMAL)

    def over(self) -> None:
        """Nothing is sent any more."""
        self._finish()

    async def until_sent(self, deadline: float) -> None:
        """After `end`: all has been given to the transport by then."""

    def abort(self) -> None:
        """Drop the connection at once, with all that was not sent."""
        self.transport.abort()

    def _finish(self) -> None:
        self.open = False
        self._ended = True
        self._held = None
        self._held_bytes = 0

    def _close(self, code: int) -> None:
        if not self._ended:
            self._finish()
            self.write(websocket_frames.close(code))
        self.transport.close()
        # A peer that does not read would keep the transport for ever.
        asyncio.get_running_loop().call_later(self._side.cut_after, self.transport.abort)
