"""HTTP/1.1 connections for uvicorn, with limits on all time and memory that a client can use.

uvicorn limits neither the time nor the size of a head, nor trailers, nor pipelined requests. It also answers an invalid
request before the responses of the requests in front of it.
"""

import asyncio
import resource
import struct
import termios
from fcntl import ioctl
from functools import cache
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from chat_broker_kit.http.headers import NO_STORE, SECURITY_HEADERS, lines
from chat_broker_kit.http.problems import PROBLEM_JSON, problem_document
from chat_broker_kit.insides import Needs
from chat_broker_kit.logs.sampling import SampledEvents
from chat_broker_kit.process.draining_switch import draining_switch
from chat_broker_kit.text.random_hex import random_hex

HEAD_SECONDS = 10.0
"""From the opening of the connection, or the first byte of a request, to the end of its head."""
BODY_SECONDS_LEFT = 2.0
"""For the rest of a body when the server stops."""
UNREAD_BODY_SECONDS = 5.0
"""For the rest of a body after its response."""
LAST_REQUEST_SECONDS = 1.0
"""When the server stops: for a request, from the opening of the connection or its last response on."""
RECHECK_SECONDS = 0.05
"""Between two checks of a connection on which a request arrives."""
LINGER_SECONDS = 1.0
"""For reading and dropping data after the last response: a reset would destroy the response."""
WRITE_SECONDS = 30.0
"""In which a slow client must read at least MIN_READ bytes."""
MIN_READ = 16 * 1024

LARGEST_HEAD = 48 * 1024
"""Bytes. More than the application's own limit, which has the better response."""
LARGEST_MESSAGE = 512 * 1024
"""Bytes of a request on the wire. More than 64 KiB of body in chunks of one byte, with trailers."""
LARGEST_LINGER = 8 * 1024 * 1024
PIECE = 8 * 1024
"""Bytes parsed at a time."""
MAX_REQUESTS_IN_PIECE = 8
"""A piece with more short requests is cut to SHORT_PIECE bytes: each request takes some kilobytes."""
SHORT_PIECE = 512
_END_OF_HEAD = b"\r\n\r\n"
MAX_UNPARSED = 1024 * 1024

log = SampledEvents(structlog.get_logger("chat_broker.http"))


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits. uvicorn itself limits the idle time between requests (`timeout_keep_alive`)."""

    NEEDS: ClassVar[Needs] = {
        HttpToolsProtocol: (
            "_should_upgrade", "_start_asgi_task", "_unset_keepalive_if_required", "connections", "cycle", "flow",
            "handle_websocket_upgrade", "headers", "loop", "on_headers_complete", "on_message_begin", "on_message_complete",
            "on_response_complete", "parser", "pause_writing", "pipeline", "resume_writing", "server_state", "shutdown",
            "transport", "url",
        ),
        RequestResponseCycle: (
            "disconnected", "keep_alive", "message_event", "more_body", "response_complete", "response_started",
            "waiting_for_100_continue",
        ),
        FlowControl: ("pause_reading", "resume_reading"),
        ServerState: ("default_headers",),
    }  # fmt: skip
    """What this class uses of uvicorn, for `choose_protocol`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._in_message = False
        self._received = 0
        """Bytes of the request being received; after the last response, of dropped data."""
        self._timer: asyncio.TimerHandle | None = None
        """The deadline of a head, or of the rest of a body after its response."""
        self._write_timer: asyncio.TimerHandle | None = None
        self._unparsed = b""
        """Data that is not parsed until earlier requests are answered."""
        self._last_response: bytes | None = None
        """The response that ends the connection after those of earlier requests. Nothing more is parsed then."""
        self._message: RequestResponseCycle | None = None
        """The cycle of the request being received, from the end of its head on."""
        self._running: RequestResponseCycle | None = None
        """The cycle of the request being answered, or answered last."""
        self._waits_since = 0.0
        self._stopping = False
        """Whether the server stops: then the next response is the last one on this connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the deadline of the first head. Make room if there are too many connections."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._start_head_timer()
        if len(self.connections) > max_connections():
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Parse *data*, but not more than a few requests ahead of their responses."""
        if self._last_response is not None:
            self._drop(data)
        elif (
            self._unparsed or len(data) > PIECE or data.count(_END_OF_HEAD) > MAX_REQUESTS_IN_PIECE
        ):
            self._unparsed += data
            self._parse_unparsed()
        else:
            self._parse(data)

    def _parse_unparsed(self) -> None:
        while self._unparsed and not self.pipeline and not self.transport.is_closing():
            piece = self._unparsed[:PIECE]
            if piece.count(_END_OF_HEAD) > MAX_REQUESTS_IN_PIECE:
                piece = piece[:SHORT_PIECE]
            self._unparsed = self._unparsed[len(piece) :]
            self._parse(piece)
        if len(self._unparsed) > MAX_UNPARSED:
            self.transport.abort()
        elif self._unparsed:
            self.flow.pause_reading()

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._parse_without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            log.warning("http.unreadable_request")
            text = "This is not HTTP/1.1 as RFC 9112 has it."
            self._refuse(self._problem(400, "invalid_http", text))
            return
        if self._in_message:
            self._received += len(data)
            self._bound_message()
        elif self._timer is None and not self._is_busy():
            self._start_head_timer()  # an empty line before a request

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Parse the head again without the Upgrade header, which is ignored (RFC 9110, 7.8). *rest* is the data after it.

        The parser expects no body after an upgrade, and would read a body as the next request.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(
                self._problem(400, "invalid_http", "There is no proxy here to CONNECT to.")
            )
            return
        version = self.parser.get_http_version().encode()
        fields = [pair for pair in self.headers if pair[0] != b"upgrade"]
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, lines(fields))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._parse(head + rest)

    def _bound_message(self) -> None:
        if self._in_head:
            # Not earlier: most heads arrive whole, and a timer costs as much as the parser.
            if self._timer is None:
                self._start_head_timer()
            if self._received > LARGEST_HEAD:
                text = f"The head of a request may have {LARGEST_HEAD // 1024} KiB."
                self._refuse(self._problem(431, "headers_too_large", text))
        elif self._received > LARGEST_MESSAGE:
            self._refuse(self._problem(413, "body_too_large", "The request body is over 64 KiB."))

    # -- called by the parser -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called at the first byte of a request."""
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._received = 0
        self._message = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field, without the trailing white space that the parser leaves (RFC 9112, 5.1)."""
        name = name.lower()
        if value.endswith((b" ", b"\t")):
            value = value.rstrip(b" \t")
        # Copied from uvicorn: calling its method would double the cost of a field.
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the application, unless the request asks for an upgrade."""
        self.end_of_head()
        upgrades = self.parser.should_upgrade()
        if upgrades and not self._should_upgrade():
            return  # the parser stops here, and `_parse_without_upgrade` goes on
        super().on_headers_complete()
        if upgrades:
            return
        self._message = self.cycle
        if draining_switch.on or self._stopping:
            self.cycle.keep_alive = False
        self.headers = _DROPPED

    def end_of_head(self) -> None:
        """Cancel the head's deadline."""
        self._in_head = False
        if self._timer is not None:
            self._cancel_timer()

    def on_message_complete(self) -> None:
        """Called at the end of a request."""
        self._in_message = False
        if self._timer is not None:
            self._cancel_timer()
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the websocket protocol, unless earlier requests are not answered or the server stops."""
        if self._stopping:
            text = "The server is starting or stopping."
            self._refuse(self._problem(503, "starting", text))
            return
        if self._is_busy():
            text = "A websocket cannot be opened behind a request that is still being answered."
            self._refuse(self._problem(400, "invalid_http", text))
            return
        self._cancel_timer()
        self._unparsed = b""
        super().handle_websocket_upgrade()
        websocket = self.transport.get_protocol()
        # uvicorn does not answer a handshake that its library cannot parse (a body, a long line), nor close the connection.
        if not getattr(websocket, "handshake_initiated", True):
            log.warning("http.unreadable_request")
            text = "A websocket is asked for without a body, with at most 100 header fields, none of them over 8 KiB."
            self.transport.write(self._problem(400, "invalid_http", text))
            self.transport.close()
        elif not self.transport.is_closing() and hasattr(websocket, "read_paused"):
            # Frames before the response would be parsed and buffered. Reading resumes when the application receives.
            websocket.read_paused = True
            self.transport.pause_reading()

    # -- answering --------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        newest: RequestResponseCycle | None = self.cycle
        return newest is not None and not newest.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Continue with pipelined requests, then with unparsed data, then with the last response."""
        more = bool(self.pipeline)
        super().on_response_complete()
        if self.transport.is_closing():
            return
        self._waits_since = self.loop.time()
        if self._last_response is not None:
            if not more:
                self._send_last_response()
        elif self._unparsed:
            if self.pipeline:
                self.flow.pause_reading()  # uvicorn resumes reading after each response, which would buffer one more read each time
            else:
                self._parse_unparsed()
        elif not more and self._in_message and not self._in_head:
            self._cancel_timer()
            self._timer = self.loop.call_later(UNREAD_BODY_SECONDS, self.transport.abort)

    def _refuse(self, response: bytes) -> None:
        """End the connection with *response*, after the responses to earlier requests."""
        if self._last_response is not None or self.transport.is_closing():
            return
        self._cancel_timer()
        self._last_response, self._unparsed = response, b""
        message = self._message
        busy = self._is_busy()
        if message is not None and self._in_message:  # the body of this request is invalid
            if self.pipeline and self.pipeline[0][0] is message:
                self.pipeline.popleft()
            elif message.response_started:
                self._last_response = b""
            else:
                message.disconnected, message.waiting_for_100_continue = True, False
                message.message_event.set()
                busy = False
        if not busy:
            self._send_last_response()

    def _send_last_response(self) -> None:
        self._unset_keepalive_if_required()
        self.transport.write(self._last_response or b"")
        self._received = 0
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
        self.flow.resume_reading()

    def _drop(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > LARGEST_LINGER:
            self.transport.abort()

    def _problem(self, status: int, code: str, detail: str) -> bytes:
        """A complete response with a problem document, after which the connection ends."""
        request_id = random_hex()
        body = problem_document(status, code, detail, request_id=request_id)
        head = lines((
            *self.server_state.default_headers,
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", b"%d" % len(body)),
            *SECURITY_HEADERS,
            NO_STORE,
            (b"x-request-id", request_id.encode()),
            *([(b"retry-after", b"1")] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
            (b"connection", b"close"),
        ))  # fmt: skip
        return STATUS_LINE[status] + head + b"\r\n" + body

    # -- ends -------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running application, and drop all pipelined requests."""
        self._cancel_timer()
        self._unset_keepalive_if_required()
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._unparsed = b""
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Finish the running request. The rest of its body has BODY_SECONDS_LEFT.

        uvicorn closes a connection without a request at once, which loses a request that is just arriving: a proxy sends
        one as soon as a connection is open, and soon after a response.
        """
        self._stopping = True
        if not self._is_busy():
            self._close_if_unused()
            return
        super().shutdown()
        if self.cycle.more_body:
            self.loop.call_later(BODY_SECONDS_LEFT, self._abort_body, self.cycle)

    def _close_if_unused(self) -> None:
        """Close the connection after LAST_REQUEST_SECONDS without a request. A response closes it anyway."""
        if self.transport.is_closing() or self._is_busy() or self._last_response is not None:
            return
        left = self._waits_since + LAST_REQUEST_SECONDS - self.loop.time()
        if left <= 0 and (self._in_message or self._has_unread_data()):
            left = RECHECK_SECONDS
        if left > 0:
            self.loop.call_later(left, self._close_if_unused)
        else:
            self.transport.close()

    def _has_unread_data(self) -> bool:
        """Whether the kernel has received data that is not read. Closing would answer it with a reset."""
        connection = self.transport.get_extra_info("socket")
        (waiting,) = struct.unpack("i", ioctl(connection.fileno(), termios.FIONREAD, bytes(4)))
        return bool(waiting)

    def _abort_body(self, cycle: RequestResponseCycle) -> None:
        if cycle is self.cycle and cycle.more_body and not cycle.response_complete:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Called when the client reads too slowly."""
        super().pause_writing()
        if self._write_timer is None:
            self._start_write_timer(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Called when the client has read."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_write_timer(self, left: int) -> None:
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self._check_writing, left)

    def _check_writing(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if before - left < MIN_READ:
            self.transport.abort()
        else:
            self._start_write_timer(left)

    # -- deadlines ----------------------------------------------------------------------------------

    def _start_head_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._head_timed_out)

    def _head_timed_out(self) -> None:
        if self._is_busy():
            self._start_head_timer()  # reading may be paused, so the deadline starts after the last response
            return
        text = f"The head of a request has {HEAD_SECONDS:.0f} s to arrive."
        self._refuse(self._problem(408, "request_timeout", text))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- too many connections -------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Close a few of the connections that have waited longest for their client; refuse this one if there is none."""
        log.warning("http.connections_full", open=len(self.connections), most=max_connections())
        waiting = [
            each
            for each in self.connections
            if isinstance(each, BoundedHttpProtocol)
            and each is not self
            and each.waits_for_client()
        ]
        if not waiting:
            text = "There are too many connections. Wait as long as Retry-After says."
            self._refuse(self._problem(503, "too_many_connections", text))
            return
        waiting.sort(key=lambda connection: connection._waits_since)
        for connection in waiting[: 1 + len(waiting) // 16]:
            connection.transport.abort()

    def waits_for_client(self) -> bool:
        """Whether the connection waits for a request, or for the rest of one."""
        return self._in_message or self._last_response is not None or not self._is_busy()


class _Trailers(list[tuple[bytes, bytes]]):
    """Replaces the list of headers after the head, so that trailers are dropped (RFC 9110, 6.5)."""

    __slots__ = ()

    def append(self, _pair: tuple[bytes, bytes]) -> None:
        """Ignore the field."""


_DROPPED = _Trailers()


@cache
def max_connections() -> int:
    """How many connections may be open. The other file descriptors are for databases, logs and so on."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        files = 1_000_000
    return files - min(max(files // 4, 64), 1024)
