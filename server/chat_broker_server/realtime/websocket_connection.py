"""A websocket that this server handles itself: the asyncio protocol of its transport, and its connection's send queue.

It reads the next message only after the last one has been answered; meanwhile input waits in the kernel. It writes at
once while the transport accepts data. Otherwise it keeps the frames in a bounded queue.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from chat_broker_server.realtime import websocket_frames
from chat_broker_server.realtime.connections import Connection
from chat_broker_server.realtime.packets import EncodedPacket
from chat_broker_server.realtime.slow_readers import overflows
from chat_broker_server.realtime.websocket_frames import Violation

MAX_OVERHEAD_FRAMES: Final = 1000
"""Control frames and fragments a second. No other limit counts them."""


class WebSocketCallbacks(Protocol):
    """The limits of a websocket, and what it calls: `WebSocketServer`."""

    message_bytes: int
    queue_bytes: int
    last_words: float
    cut_after: float

    def on_message(self, websocket: "WebSocketConnection", text: str | None) -> bool:
        """Handle a message (None: a binary one). If True, no further one is read until `resume` is called."""

    def on_violation(self, websocket: "WebSocketConnection", code: int) -> None:
        """The client broke the protocol or a limit; *code* is for the close frame."""

    def on_server_shutdown(self, websocket: "WebSocketConnection") -> None:
        """uvicorn is shutting down."""

    def on_overflow(self, websocket: "WebSocketConnection") -> None:
        """The send queue is over its limit."""

    def on_closed(self, websocket: "WebSocketConnection") -> None:
        """The connection has ended."""


class WebSocketConnection(asyncio.Protocol):
    """One connection. `open` means that `write` may be called with a whole frame."""

    __slots__ = (
        "_buffer",
        "_callbacks",
        "_code",
        "_ended",
        "_fragments",
        "_handling",
        "_ignores_input",
        "_overflowed",
        "_overhead_frames",
        "_overhead_since",
        "_previous_protocol",
        "_queue",
        "_queued_bytes",
        "_reading",
        "_server_connections",
        "_writing_paused",
        "connection",
        "open",
        "transport",
        "write",
    )

    direct: Final = True

    def __init__(
        self, callbacks: WebSocketCallbacks, transport: asyncio.Transport, previous_protocol: Any
    ) -> None:
        """*previous_protocol*: uvicorn's, which is told of the connection's end until `start` is called."""
        self.open = False
        self.write: Callable[[bytes], None] = transport.write
        self.connection: Connection | None = None
        self._callbacks = callbacks
        self.transport = transport
        self._previous_protocol = previous_protocol
        self._server_connections: set[Any] | None = None
        self._buffer: bytes | bytearray = b""
        self._fragments: bytearray | None = None
        self._queue: deque[bytes] | None = None
        self._queued_bytes = 0
        self._handling = True
        self._code = websocket_frames.NORMAL
        self._ignores_input = False
        self._reading = True
        self._writing_paused = False
        self._ended = False
        self._overflowed = False
        self._overhead_frames = 0
        self._overhead_since = 0.0

    def start(self, server_connections: set[Any]) -> None:
        """Begin to read and write. *server_connections*: uvicorn's set, which holds this one until it has closed."""
        self._previous_protocol = None
        self._server_connections = server_connections
        server_connections.add(self)
        self.open = not self._writing_paused

    # -- called by the transport ------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._ignores_input or (self._ended and self.transport.is_closing()):
            return
        if not self._buffer:
            self._buffer = data
        elif isinstance(self._buffer, bytearray):
            self._buffer += data
        else:
            self._buffer = bytearray(self._buffer) + data
        if not self._handling:
            self._read_frames()
        elif self._reading:
            self._reading = False
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        self._writing_paused = True
        self.open = False

    def resume_writing(self) -> None:
        self._writing_paused = False
        queue = self._queue
        while queue and not self._writing_paused:
            frame = queue.popleft()
            self._queued_bytes -= len(frame)
            self.write(frame)
        if not queue:
            self._queue = None
        self.open = (
            not (self._queue or self._writing_paused or self._ended)
            and self._previous_protocol is None
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if self._previous_protocol is not None:
            self._ended = True
            self._previous_protocol.connection_lost(exc)
            return
        self._finish()
        if self._server_connections is not None:
            self._server_connections.discard(self)
        self._callbacks.on_closed(self)

    def shutdown(self) -> None:
        """Called by uvicorn at shutdown, on all its connections."""
        self._code = websocket_frames.RESTART
        self._callbacks.on_server_shutdown(self)
        self._close(websocket_frames.RESTART)

    # -- reading ----------------------------------------------------------------------------------

    def resume(self) -> None:
        """Read the next message. Called when the last one has been answered."""
        self._handling = False
        if self._buffer:
            self._read_frames()
        if not self._handling and not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def _read_frames(self) -> None:
        data, at = self._buffer, 0
        try:
            while (
                frame := websocket_frames.read(data, at, self._callbacks.message_bytes)
            ) is not None:
                first, payload, at = frame
                self._handle_frame(first, payload)
                if self._handling:
                    break
        except Violation as violation:
            self._refuse(violation.code)
            at = len(data)
        if at == len(data):
            self._buffer = b""
        elif at:
            self._buffer = data[at:]

    def _refuse(self, code: int) -> None:
        """Send the reason and close. Input is still read and dropped: else the client's kernel would drop the reason."""
        ended_before = self._ended
        self._ignores_input = True
        self._code = code
        self._callbacks.on_violation(self, code)
        if ended_before or not self._ended:
            self._close(code)

    def _handle_frame(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode > websocket_frames.BINARY or not first & websocket_frames.FINAL:
            self._count_overhead()
        if opcode == websocket_frames.PING:
            if not self._ended and not self._writing_paused:
                self.write(websocket_frames.pong(payload))
        elif opcode == websocket_frames.CLOSE:
            self._answer_close(payload)
        elif opcode <= websocket_frames.BINARY:
            self._handle_fragment(first, opcode, payload)

    def _count_overhead(self) -> None:
        self._overhead_frames += 1
        if self._overhead_frames > MAX_OVERHEAD_FRAMES:
            now = time.monotonic()
            if now - self._overhead_since < 1.0:
                raise Violation(websocket_frames.POLICY)
            self._overhead_frames, self._overhead_since = 0, now

    def _handle_fragment(self, first: int, opcode: int, payload: bytes) -> None:
        fragments = self._fragments
        # Section 5.4: a continuation follows a beginning, and nothing else does.
        if (fragments is None) is not bool(opcode):
            raise Violation(websocket_frames.PROTOCOL_ERROR)
        if fragments is not None or not first & websocket_frames.FINAL:
            if fragments is None:
                fragments = self._fragments = bytearray((opcode,))
            fragments += payload
            if len(fragments) - 1 > self._callbacks.message_bytes:
                raise Violation(websocket_frames.TOO_BIG)
            if not first & websocket_frames.FINAL:
                return
            opcode, payload = fragments[0], bytes(fragments[1:])
            self._fragments = None
        if self._ended:
            return
        text = None
        if opcode == websocket_frames.TEXT:
            try:
                text = payload.decode()
            except UnicodeDecodeError:
                raise Violation(websocket_frames.NOT_UTF8) from None
        self._handling = self._callbacks.on_message(self, text)

    def _answer_close(self, payload: bytes) -> None:
        if len(payload) == 1:
            raise Violation(websocket_frames.PROTOCOL_ERROR)
        if not self._ended:
            self._finish()
            self.write(b"\x88%c%b" % (len(payload[:2]), payload[:2]))
        self.transport.close()

    # -- sending ----------------------------------------------------------------------------------

    def send(self, ready: EncodedPacket) -> None:
        """Send *ready*, in the order of the calls, without waiting."""
        if self.open:
            self.write(ready.frame)
        else:
            self._enqueue(ready.frame)

    def enqueue(self, ready: EncodedPacket) -> None:
        """`send` for a connection that is not `open`."""
        self._enqueue(ready.frame)

    def ping(self) -> None:
        """Send an Engine.IO ping, after all that is queued."""
        if self.open:
            self.write(websocket_frames.ENGINE_PING)
        else:
            self._enqueue(websocket_frames.ENGINE_PING)

    @property
    def waiting(self) -> int:
        return self._queued_bytes

    def on_overflow(self) -> None:
        self._callbacks.on_overflow(self)

    def _enqueue(self, frame: bytes) -> None:
        if self._ended or self._overflowed:
            return
        if overflows(self._queued_bytes, len(frame), self._callbacks.queue_bytes):
            self._overflowed = True
            self.on_overflow()
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(frame)
        self._queued_bytes += len(frame)

    # -- closing ----------------------------------------------------------------------------------

    def end(self, *last: EncodedPacket) -> None:
        """Drop the queue, send *last* and a close frame. The client's close frame, or `abort`, ends the connection."""
        if not self._ended:
            self._finish()
            farewell = (websocket_frames.ENGINE_CLOSE, websocket_frames.close(self._code))
            self.write(b"".join((*(ready.frame for ready in last), *farewell)))
            if self._ignores_input:  # then no answer can arrive
                loop = asyncio.get_running_loop()
                loop.call_later(self._callbacks.last_words, self.transport.close)

    def close_normally(self) -> None:
        """Send a close frame without an error, and close."""
        self._close(websocket_frames.NORMAL)

    def mark_ended(self) -> None:
        self._finish()

    async def wait_until_sent(self, deadline: float) -> None:
        """Returns at once: `end` has written everything."""

    def abort(self) -> None:
        """Close at once; unsent data is lost."""
        self.transport.abort()

    def _finish(self) -> None:
        self.open = False
        self._ended = True
        self._queue = None
        self._queued_bytes = 0

    def _close(self, code: int) -> None:
        if not self._ended:
            self._finish()
            self.write(websocket_frames.close(code))
        self.transport.close()
        # A client that does not read would keep the transport open for ever.
        asyncio.get_running_loop().call_later(self._callbacks.cut_after, self.transport.abort)
