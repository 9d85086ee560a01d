"""HTTP connections: the kit's, with the fast path for hot routes.

uvicorn hands everything to ASGI, where `chat_broker.fast_path.dispatcher` needs no more than a whole request: that one answers before a cycle of
ASGI messages has begun.
"""

import asyncio
from typing import Any, ClassVar

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from chat_broker.fast_path.dispatcher import Dispatcher, FastRequest
from chat_broker.fast_path.header_cache import Peer
from chat_broker_kit.http.headers import lines
from chat_broker_kit.http.protocol import BoundedHttpProtocol
from chat_broker_kit.insides import Needs
from chat_broker_kit.process.draining_switch import draining_switch


class FastPathProtocol(BoundedHttpProtocol):
    """A request to a hot route that came in one piece, head and body, is answered by the application's dispatcher."""

    NEEDS: ClassVar[Needs] = {
        **BoundedHttpProtocol.NEEDS,
        HttpToolsProtocol: (
            *BoundedHttpProtocol.NEEDS[HttpToolsProtocol], "app", "client", "limit_concurrency", "on_body", "scheme", "scope",
            "tasks", "timeout_keep_alive", "timeout_keep_alive_task",
        ),
        FlowControl: (*BoundedHttpProtocol.NEEDS[FlowControl], "drain", "write_paused"),
        ServerState: (*BoundedHttpProtocol.NEEDS[ServerState], "tasks", "total_requests"),
    }  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle_from = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        # uvicorn has an answer of its own to too many connections at once; our limits are of other kinds.
        unlimited = self.limit_concurrency is None
        dispatcher = getattr(self.app, "fast_path", None) if unlimited else None
        self._dispatcher: Dispatcher | None = dispatcher
        self._cache: Dispatcher | None = None
        if dispatcher is not None and dispatcher.caches_headers:
            self._cache = dispatcher
        self._held: FastRequest | None = None
        # Only then is the next byte the first of a request. One that lies in the body of another is none.
        self._between_requests = True
        # And then nothing is under way here either, and nothing waited for.
        self._quiet = False
        self._whole: FastRequest | None = None
        self._connection_scope: Scope = {}
        self._peer: Peer = (None, "http")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """What the scopes of this connection have in common is known from the first moment."""
        super().connection_made(transport)
        HttpToolsProtocol.on_message_begin(self)
        self._connection_scope = self.scope  # type: ignore[assignment]  # a TypedDict of uvicorn's
        self._peer = (None if self.client is None else self.client[0], self.scheme or "http")

    def data_received(self, data: bytes) -> None:
        """Answer a request that needs no parsing; else have it parsed."""
        if self._quiet and self._cache is not None:
            request = self._cache.cached_request(data, self._connection_scope, self._peer)
            if request is not None:
                self._take(request)
                return
        self._quiet = False
        fresh = self._between_requests and not self._is_busy()
        super().data_received(data)
        whole, self._whole = self._whole, None
        if self._held is not None:
            self._give_up_fast_path()
        elif self._cache is not None and fresh and whole is not None:
            self._cache.cache_head(data, self._line(), whole)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._between_requests = False
        self._whole = None

    def on_headers_complete(self) -> None:
        """The head is whole: hold on to the request if it may take the fast path."""
        if self._dispatcher is None or self._is_busy() or self.parser.get_http_version() != "1.1":
            super().on_headers_complete()
            return
        scope: Scope = self.scope  # type: ignore[assignment]  # a TypedDict of uvicorn's
        self._held = self._dispatcher.recognize(self._line(), scope, self._peer)
        if self._held is None:
            super().on_headers_complete()
        else:
            self.end_of_head()

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
        request = self._held
        if request is None:
            super().on_message_complete()
            return
        self._held = None
        self._in_message = False
        request.keep_alive = keep_alive
        if keep_alive:
            self._whole = request
        self._take(request)

    def _line(self) -> bytes:
        """The request line as it must have come, the version being 1.1."""
        return b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)

    def _take(self, request: FastRequest) -> None:
        """Have the dispatcher answer, in the loop's next turn.

        An eager task would be a seventh dearer: requests that come together take each step together, and find its code
        in the processor's cache.
        """
        assert self._dispatcher is not None  # noqa: S101 - it has made the request
        self._quiet = False
        if draining_switch.on:
            request.keep_alive = False
        self.cycle = self._running = request  # type: ignore[assignment]  # it has what uvicorn looks at
        task = request.task = self.loop.create_task(self._answer(request, self._dispatcher))
        self.tasks.add(task)  # for a server that stops to wait for; it leaves by itself

    async def _answer(self, request: FastRequest, dispatcher: Dispatcher) -> None:
        """Have *dispatcher* answer; then go on to what was pipelined, or wait for more."""
        transport = self.transport
        try:
            status, rest = await dispatcher.respond(request)
            if self.flow.write_paused:
                await self.flow.drain()
        except BaseException:
            transport.close()  # as when uvicorn stops before an answer has begun
            raise
        finally:
            self.tasks.discard(request.task)
        if not request.disconnected:
            ours = _default_headers.lines_of(self.server_state.default_headers)
            if not request.keep_alive:
                ours += b"connection: close\r\n"
            transport.write(b"".join((STATUS_LINE[status], ours, *rest)))
        request.response_complete = True
        if not request.keep_alive:
            transport.close()
        if (
            self.pipeline
            or self._unparsed
            or self._last_response is not None
            or transport.is_closing()
        ):
            self.on_response_complete()
            return
        # To wait for more, as uvicorn does, but with one timer for a connection's life instead of one for each request.
        self._quiet = self._between_requests and self._timer is None
        self.server_state.total_requests += 1
        self._idle_from = self._waits_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._end_if_idle)

    def _end_if_idle(self) -> None:
        self._idle_timer = None
        if self.transport.is_closing():
            return
        left = self._idle_from + self.timeout_keep_alive - self.loop.time()
        if self._is_busy() or self._in_message:
            left = self.timeout_keep_alive
        if left <= 0:
            if self.timeout_keep_alive_task is None:  # uvicorn has not begun to wait since
                self.transport.close()
            return
        self._idle_timer = self.loop.call_later(left, self._end_if_idle)

    def _give_up_fast_path(self) -> None:
        """The body takes its time: that is for the ordinary way, which has a deadline and a bound for it."""
        request, self._held = self._held, None
        if request is None or self.transport.is_closing() or self._last_response is not None:
            return
        super().on_headers_complete()
        if request.body:
            super().on_body(request.body)

    def shutdown(self) -> None:
        """Told to stop: what still comes goes the ordinary way, which closes the connection behind it."""
        self._dispatcher = self._cache = None
        super().shutdown()

    def handle_websocket_upgrade(self) -> None:
        """The connection is another protocol's from now on."""
        self._stop_idling()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._stop_idling()
        super().connection_lost(exc)

    def _stop_idling(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None


class _DefaultHeaders:
    """What uvicorn adds to every answer, as lines: it makes a new list of it once a second."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines = b""

    def lines_of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """*headers* as HTTP/1.1 writes them."""
        if headers is not self._headers:
            self._headers, self._lines = headers, lines(headers)
        return self._lines


_default_headers = _DefaultHeaders()
