"""HTTP/1.1 connections for uvicorn, with a bound on everything that a peer may make wait or grow.

uvicorn bounds neither how slowly nor how long a head may come, nor what follows a body, nor how many requests wait behind
one another. And what it cannot parse it answers at once, in front of the answers that are still being made.
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
import msgspec
import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from chat_broker_kit.http.headers import NO_STORE, SECURITY_HEADERS, lines
from chat_broker_kit.http.request_ids import new_request_id
from chat_broker_kit.insides import Needs
from chat_broker_kit.logs.sampling import SampledEvents
from chat_broker_kit.process.draining import draining

HEAD_SECONDS = 10.0
"""From the first byte of a request, or from the opening of the connection, to the end of the head."""
BODY_SECONDS_LEFT = 2.0
"""How long a body may still be on its way when the server stops."""
UNREAD_BODY_SECONDS = 5.0
"""How long a body may still be on its way when its request has been answered."""
LAST_REQUEST_SECONDS = 1.0
"""When the server stops: how long after its opening or its last answer a connection may still bring a request."""
LOOK_AGAIN_SECONDS = 0.05
"""Until a connection on which a request is arriving is looked at again."""
LINGER_SECONDS = 1.0
"""How long what still comes is read and dropped after the last answer: a reset would take the answer along."""
WRITE_SECONDS = 30.0
"""In which a peer that does not read must take at least `LEAST_READ` bytes."""
LEAST_READ = 16 * 1024

LARGEST_HEAD = 48 * 1024
"""Above what the application refuses with a proper answer, so that this bound is for floods alone."""
LARGEST_MESSAGE = 512 * 1024
"""A whole request on the wire: 64 KiB of body in chunks of one byte and their trailers are less."""
LARGEST_LINGER = 8 * 1024 * 1024
PIECE = 8 * 1024
"""What is parsed at a time."""
MOST_AT_ONCE = 8
"""So many short requests in a piece; where there are more it is cut down to `SHORT_PIECE`: each costs some kilobytes."""
SHORT_PIECE = 512
_END_OF_HEAD = b"\r\n\r\n"
MOST_UNREAD = 1024 * 1024

log = SampledEvents(structlog.get_logger("chat_broker.http"))


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, bounded. Idle time between two requests is uvicorn's own concern (`timeout_keep_alive`)."""

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
    """See `chat_broker_kit.http.choose_protocol`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._in_message = False
        self._received = 0
        """Bytes of the message that is being received."""
        self._timer: asyncio.TimerHandle | None = None
        """Until when a head, or the rest of a body that is not wanted any more, has to be there."""
        self._stalled: asyncio.TimerHandle | None = None
        self._unread = b""
        """What came behind requests that wait to be answered."""
        self._last_answer: bytes | None = None
        """What ends the connection once all requests before it have been answered; nothing more is parsed then."""
        self._message: RequestResponseCycle | None = None
        """Of the message that is being received, as soon as its head is complete."""
        self._running: RequestResponseCycle | None = None
        """Of the request that is being answered, or was the last to be."""
        self._waits_since = 0.0
        self._ends = False
        """Has the server been told to stop? Then the next answer is the connection's last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A head is awaited from the first moment."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._await_head()
        if len(self.connections) > most_connections():
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Parse *data*, or as much of it as may be answered soon."""
        if self._last_answer is not None:
            self._drop(data)
        elif self._unread or len(data) > PIECE or data.count(_END_OF_HEAD) > MOST_AT_ONCE:
            self._unread += data
            self._parse_unread()
        else:
            self._parse(data)

    def _parse_unread(self) -> None:
        while self._unread and not self.pipeline and not self.transport.is_closing():
            piece = self._unread[:PIECE]
            if piece.count(_END_OF_HEAD) > MOST_AT_ONCE:
                piece = piece[:SHORT_PIECE]
            self._unread = self._unread[len(piece) :]
            self._parse(piece)
        if len(self._unread) > MOST_UNREAD:
            self.transport.abort()
        elif self._unread:
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
            self._await_head()  # an empty line, which is no request yet

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Take the head once more without the upgrade, which is ignored (RFC 9110 7.8): it may have a body.

        The parser knows no body of a request that upgrades: it would take what a client, or a proxy that passes such
        headers on, has sent as one for the next request. *rest* is what came behind the head.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(
                self._problem(400, "invalid_http", "There is no proxy here to CONNECT to.")
            )
            return
        version = self.parser.get_http_version().encode()
        kept = [pair for pair in self.headers if pair[0] != b"upgrade"]
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, lines(kept))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._parse(head + rest)

    def _bound_message(self) -> None:
        if self._in_head:
            # Only now: most heads come whole, and a timer costs as much as the parser does.
            if self._timer is None:
                self._await_head()
            if self._received > LARGEST_HEAD:
                text = f"The head of a request may have {LARGEST_HEAD // 1024} KiB."
                self._refuse(self._problem(431, "headers_too_large", text))
        elif self._received > LARGEST_MESSAGE:
            self._refuse(self._problem(413, "body_too_large", "The request body is over 64 KiB."))

    # -- what the parser finds --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._received = 0
        self._message = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field: its value is without the white space around it (RFC 9112 5.1), which the parser leaves behind it."""
        name = name.lower()
        if value.endswith((b" ", b"\t")):
            value = value.rstrip(b" \t")
        # As uvicorn has it: calling its method would double what a field costs.
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self.end_of_head()
        upgrades = self.parser.should_upgrade()
        if upgrades and not self._should_upgrade():
            return  # the parser stops here: see `_parse_without_upgrade`
        super().on_headers_complete()
        if upgrades:
            return
        self._message = self.cycle
        if draining.on or self._ends:
            self.cycle.keep_alive = False
        self.headers = _DROPPED

    def end_of_head(self) -> None:
        """Stop waiting for the head."""
        self._in_head = False
        if self._timer is not None:
            self._stop_waiting()

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._in_message = False
        if self._timer is not None:
            self._stop_waiting()
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, unless requests before it wait for their answers, or the server stops."""
        if self._ends:
            text = "The server is starting or stopping."
            self._refuse(self._problem(503, "starting", text))
            return
        if self._is_busy():
            text = "A websocket cannot be opened behind a request that is still being answered."
            self._refuse(self._problem(400, "invalid_http", text))
            return
        self._stop_waiting()
        self._unread = b""
        super().handle_websocket_upgrade()
        websocket = self.transport.get_protocol()
        # uvicorn leaves a handshake that its library cannot read (a body, a long line) without an answer, and open.
        if not getattr(websocket, "handshake_initiated", True):
            log.warning("http.unreadable_request")
            text = "A websocket is asked for without a body, with at most 100 header fields, none of them over 8 KiB."
            self.transport.write(self._problem(400, "invalid_http", text))
            self.transport.close()
        elif not self.transport.is_closing() and hasattr(websocket, "read_paused"):
            # Frames that come before the answer would be taken apart and kept; it reads on when the application does.
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
        """Go on with the requests that wait, then with what has not been parsed, then with the last answer."""
        more = bool(self.pipeline)
        super().on_response_complete()
        if self.transport.is_closing():
            return
        self._waits_since = self.loop.time()
        if self._last_answer is not None:
            if not more:
                self._say_last()
        elif self._unread:
            if self.pipeline:
                self.flow.pause_reading()  # uvicorn reads on after each answer: one more read would be kept for each
            else:
                self._parse_unread()
        elif not more and self._in_message and not self._in_head:
            self._stop_waiting()
            self._timer = self.loop.call_later(UNREAD_BODY_SECONDS, self.transport.abort)

    def _refuse(self, answer: bytes) -> None:
        """End the connection with *answer*, once all requests before it have been answered."""
        if self._last_answer is not None or self.transport.is_closing():
            return
        self._stop_waiting()
        self._last_answer, self._unread = answer, b""
        message = self._message
        busy = self._is_busy()
        if message is not None and self._in_message:  # its own body is what is wrong
            if self.pipeline and self.pipeline[0][0] is message:
                self.pipeline.popleft()
            elif message.response_started:
                self._last_answer = b""
            else:
                message.disconnected, message.waiting_for_100_continue = True, False
                message.message_event.set()
                busy = False
        if not busy:
            self._say_last()

    def _say_last(self) -> None:
        self._unset_keepalive_if_required()
        self.transport.write(self._last_answer or b"")
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
        """A whole answer, in the form of all others, after which the connection ends."""
        request_id = new_request_id()
        body = msgspec.json.encode({
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "instance": "",
            "code": code,
            "message": detail,
            "request_id": request_id,
        })  # fmt: skip
        head = lines((
            *self.server_state.default_headers,
            (b"content-type", b"application/problem+json"),
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
        """Nothing to wait for any more; whoever answers is told so, and what waits is never begun."""
        self._stop_waiting()
        self._unset_keepalive_if_required()
        if self._stalled is not None:
            self._stalled.cancel()
        self._unread = b""
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Told to stop: what is being answered is finished, but a body still on its way gets two seconds.

        uvicorn closes a connection without a request at once. A request that is just arriving would be lost: a proxy
        sends one as soon as a connection is open, and soon after an answer.
        """
        self._ends = True
        if not self._is_busy():
            self._end_unless_used()
            return
        super().shutdown()
        if self.cycle.more_body:
            self.loop.call_later(BODY_SECONDS_LEFT, self._give_up_on, self.cycle)

    def _end_unless_used(self) -> None:
        """Close the connection when no request has come for `LAST_REQUEST_SECONDS`; an answer closes it by itself."""
        if self.transport.is_closing() or self._is_busy() or self._last_answer is not None:
            return
        left = self._waits_since + LAST_REQUEST_SECONDS - self.loop.time()
        if left <= 0 and (self._in_message or self._has_unread()):
            left = LOOK_AGAIN_SECONDS
        if left > 0:
            self.loop.call_later(left, self._end_unless_used)
        else:
            self.transport.close()

    def _has_unread(self) -> bool:
        """Are there bytes that the kernel has received for us? To close would answer them with a reset."""
        connection = self.transport.get_extra_info("socket")
        (waiting,) = struct.unpack("i", ioctl(connection.fileno(), termios.FIONREAD, bytes(4)))
        return bool(waiting)

    def _give_up_on(self, cycle: RequestResponseCycle) -> None:
        if cycle is self.cycle and cycle.more_body and not cycle.response_complete:
            self.transport.abort()

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is answered."""
        super().pause_writing()
        if self._stalled is None:
            self._watch_writing(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The peer has read."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _watch_writing(self, left: int) -> None:
        self._stalled = self.loop.call_later(WRITE_SECONDS, self._look_at_writing, left)

    def _look_at_writing(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if before - left < LEAST_READ:
            self.transport.abort()
        else:
            self._watch_writing(left)

    # -- waiting ----------------------------------------------------------------------------------

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._is_busy():
            self._await_head()  # reading may be paused: the time counts from the last answer on
            return
        text = f"The head of a request has {HEAD_SECONDS:.0f} s to arrive."
        self._refuse(self._problem(408, "request_timeout", text))

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- room -------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Cut a few of the connections that have waited longest for a request; refuse this one if none waits."""
        log.warning("http.connections_full", open=len(self.connections), most=most_connections())
        waiting = [
            one
            for one in self.connections
            if isinstance(one, BoundedHttpProtocol) and one is not self and one.waits_for_peer()
        ]
        if not waiting:
            text = "There are too many connections. Wait as long as Retry-After says."
            self._refuse(self._problem(503, "too_many_connections", text))
            return
        waiting.sort(key=lambda one: one._waits_since)
        for one in waiting[: 1 + len(waiting) // 16]:
            one.transport.abort()

    def waits_for_peer(self) -> bool:
        """Is the next step the peer's: a request, or the rest of one?"""
        return self._in_message or self._last_answer is not None or not self._is_busy()


class _Trailers(list[tuple[bytes, bytes]]):
    """Takes the place of the headers once they are complete: trailers are dropped (RFC 9110 6.5)."""

    __slots__ = ()

    def append(self, _pair: tuple[bytes, bytes]) -> None:
        """Drop it."""


_DROPPED = _Trailers()


@cache
def most_connections() -> int:
    """How many connections may be open; the files that are left are for databases and the like."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        files = 1_000_000
    return files - min(max(files // 4, 64), 1024)
