"""HTTP connections: uvicorn's, with a bound on heads, and with a short way for hot routes.

uvicorn bounds neither how slowly nor how long a head may come. And it hands everything to ASGI, where
`app.lane` needs no more than a whole request: that one answers before a cycle of ASGI messages has begun.
"""

import asyncio
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from app.auth.origins import lines
from app.errors import BadInput
from app.heads import Peer
from app.lane import Call, Lane
from app.middleware import USUAL, error_answer, request_id_of

HEAD_SECONDS = 10.0
BODY_SECONDS_LEFT = 2.0
LARGEST_HEAD = 48 * 1024
"""Above what the edge refuses with a proper answer, so that this one is for floods alone."""

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHeadProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but a request's head has 10 s and 48 KiB to come in, and then the connection ends.

    Idle connections between two requests are uvicorn's own concern (`timeout_keep_alive`). A request to a hot
    route that came in one piece, head and body, is answered by the application's lane.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._lane: Lane | None = getattr(self.app, "lane", None)
        if self.limit_concurrency is not None:
            self._lane = None  # uvicorn's own answer to too many; ours are limits of other kinds
        self._held: Call | None = None
        # Only then is the next byte the first of a request. One that lies in the body of another is nobody's.
        self._between_requests = True
        # And then nothing is under way here either, and nothing waited for.
        self._quiet = False
        self._whole: Call | None = None
        self._blank: Scope = {}
        self._peer: Peer = (None, "http")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A head is awaited from the first moment."""
        super().connection_made(transport)
        super().on_message_begin()
        self._blank = self.scope  # type: ignore[assignment]  # a TypedDict of uvicorn's
        self._peer = (None if self.client is None else self.client[0], self.scheme or "http")
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Answer a request that needs no parsing; else have it parsed, and count what belongs to an unfinished head."""
        lane = self._lane
        if self._quiet and lane is not None:
            call = lane.recall(data, self._blank, self._peer)
            if call is not None:
                self._take(call)
                return
        self._quiet = False
        fresh = self._between_requests and not self._is_busy()
        super().data_received(data)
        whole, self._whole = self._whole, None
        if self._held is not None:
            self._let_go()
        elif lane is not None and fresh and whole is not None:
            lane.remember(data, self._line(), whole)
        if self._in_head:
            # Only now: most heads come whole, and a timer costs as much as the parser does.
            self._await_head()
        if self._head_timer is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self._end(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head = True
        self._between_requests = False
        self._whole = None

    def on_headers_complete(self) -> None:
        """The head is whole: hold on to the request if it may go the short way."""
        self._in_head = False
        if self._head_timer is not None:
            self._stop_waiting()
        if self._lane is None or self._is_busy() or self.parser.get_http_version() != "1.1":
            super().on_headers_complete()
            return
        scope: Scope = self.scope  # type: ignore[assignment]  # a TypedDict of uvicorn's
        self._held = self._lane.recognise(self._line(), scope, self._peer)
        if self._held is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held.body += body

    def on_message_complete(self) -> None:
        """The request is whole."""
        keep_alive = self.parser.should_keep_alive()
        self._between_requests = keep_alive and not self.parser.should_upgrade()
        call = self._held
        if call is None:
            super().on_message_complete()
            return
        self._held = None
        call.keep_alive = keep_alive
        if keep_alive:
            self._whole = call
        self._take(call)

    def _line(self) -> bytes:
        """The request line as it must have come, the version being 1.1."""
        return b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)

    def _take(self, call: Call) -> None:
        """Have the lane answer, in the loop's next turn.

        An eager task would be a seventh dearer: requests that come together take each step together, and find its code
        in the processor's cache.
        """
        assert self._lane is not None  # noqa: S101 - it has made the call
        self._quiet = False
        self.cycle = call  # type: ignore[assignment]  # it has what uvicorn looks at
        task = call.task = self.loop.create_task(self._answer(call, self._lane))
        self.tasks.add(task)  # for a server that stops to wait for; it leaves by itself

    async def _answer(self, call: Call, lane: Lane) -> None:
        """Have *lane* answer; then go on to what was pipelined, or wait for more."""
        transport = self.transport
        try:
            status, rest = await lane.answer(call)
            if self.flow.write_paused:
                await self.flow.drain()
        except BaseException:
            transport.close()  # as when uvicorn stops before an answer has begun
            raise
        finally:
            self.tasks.discard(call.task)
        if not call.disconnected:
            ours = _standing.lines_of(self.server_state.default_headers)
            if not call.keep_alive:
                ours += b"connection: close\r\n"
            transport.write(b"".join((STATUS_LINE[status], ours, *rest)))
        call.response_complete = True
        if not call.keep_alive:
            transport.close()
        if self.pipeline or transport.is_closing():
            self.on_response_complete()
            return
        # To wait for more, as uvicorn does, but with one timer for a connection's life instead of one for each request.
        self._quiet = self._between_requests and self._head_timer is None
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._end_if_idle)

    def _end_if_idle(self) -> None:
        self._idle_timer = None
        if self.transport.is_closing():
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self._is_busy() or self._held is not None or self._in_head:
            left = self.timeout_keep_alive
        if left <= 0:
            if self.timeout_keep_alive_task is None:  # uvicorn has not begun to wait since
                self.transport.close()
            return
        self._idle_timer = self.loop.call_later(left, self._end_if_idle)

    def _is_busy(self) -> bool:
        before: RequestResponseCycle | None = self.cycle
        return before is not None and not before.response_complete

    def _let_go(self) -> None:
        """The body takes its time: that is for the ordinary way, which has a deadline and a bound for it."""
        call, self._held = self._held, None
        if call is None or self.transport.is_closing():
            return
        super().on_headers_complete()
        if call.body:
            super().on_body(call.body)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all is refused in the same form as everything else."""
        error = BadInput("invalid_http", f"{msg} Send HTTP/1.1 as RFC 9112 has it.")
        request_id = request_id_of(())
        status, headers, body = error_answer(
            error, {"path": "", "raw_path": b"", "state": {"request_id": request_id}}
        )
        about = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
        date = self.server_state.default_headers
        head = lines([*date, *headers, *USUAL, *about])
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._stop_waiting()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Told to stop: what is being answered is finished, but a body still on its way gets two seconds."""
        super().shutdown()
        busy: RequestResponseCycle | None = self.cycle
        if busy is not None and not busy.response_complete and busy.more_body:
            self.loop.call_later(BODY_SECONDS_LEFT, self._give_up_on, busy)

    def _give_up_on(self, cycle: RequestResponseCycle) -> None:
        if cycle is self.cycle and cycle.more_body and not cycle.response_complete:
            self.transport.abort()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end, _TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self, answer: bytes) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        # A pipelined head may dawdle while the request before it is being answered: say nothing then.
        busy: RequestResponseCycle | None = self.cycle
        if busy is None or busy.response_complete:
            self.transport.write(answer)
        self.transport.close()


class _Standing:
    """What uvicorn adds to every answer, as lines: it makes a new list of it once a second."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines = b""

    def lines_of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """*headers* as HTTP/1.1 writes them."""
        if headers is not self._headers:
            self._headers, self._lines = headers, lines(headers)
        return self._lines


_standing = _Standing()
