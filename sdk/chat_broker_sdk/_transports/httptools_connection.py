"""One HTTP/1.1 connection of HttptoolsTransport, which counts each received byte."""

import asyncio
from typing import Any, cast

from chat_broker_sdk._errors import ChatError

from .base import (
    CHUNK_FRAMING,
    LARGEST_HEAD,
    Body,
    Header,
    Response,
    network_error,
    not_http,
    overhead_too_large,
    timed_out,
)

_BODY_HEADERS = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
_SHORTEST_BODY_HEADER = min(map(len, _BODY_HEADERS))
"""Most header names are shorter, and need no comparison."""


class LazyResponse(Response):
    """A response that decodes its headers when they are read."""

    __slots__ = ("_raw",)

    def __init__(self, status: int, raw: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.body = body
        self._raw = raw

    @property
    def headers(self) -> list[Header]:  # type: ignore[override]  # reads like the attribute it stands for
        """Names and values, decoded."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._raw]

    def header(self, name: str) -> str | None:
        """The first header of that name, case-insensitive; None if there is none."""
        wanted = name.lower().encode("latin-1")
        for key, value in self._raw:
            if key == wanted or key.lower() == wanted:
                return value.decode("latin-1")
        return None


class HttpConnection(asyncio.Protocol):
    """One connection with one request at a time, closed after anything unusual.

    *open_connections* contains it while it is open.
    """

    __slots__ = (
        "_body",
        "_ends_with_connection",
        "_headers",
        "_method",
        "_open",
        "_overhead_left",
        "_parser",
        "_parser_errors",
        "_pending",
        "_received_unrequested",
        "_status",
        "_transport",
        "closed",
        "deadline",
        "last_used",
        "loop",
        "timeout",
        "usable",
    )

    def __init__(
        self, open_connections: "set[HttpConnection]", loop: asyncio.AbstractEventLoop
    ) -> None:
        self._open = open_connections
        self.loop = loop
        """Stored, because asking for the running loop takes a system call."""
        self._pending: asyncio.Future[Response] | None = None
        self._parser: Any = None
        self._transport: asyncio.Transport | None = None
        self._overhead_left = 0
        """How many more bytes besides the body may arrive: heads, chunk extensions, trailers."""
        self._received_unrequested = False
        self.usable = True
        self.last_used = 0.0
        self.deadline = self.timeout = 0.0

    @property
    def busy(self) -> bool:
        """Whether a request waits for its response."""
        return self._pending is not None

    # -- called by the transport ----------------------------------------------------------------

    def request(self, message: bytes, method: str) -> "asyncio.Future[Response]":
        """Send *message*. The future gets the response, or a ChatError."""
        pending: asyncio.Future[Response] = self.loop.create_future()
        self._pending = pending
        self._method = method
        self._overhead_left = LARGEST_HEAD
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: Body | None = None
        self._ends_with_connection = False
        if self._transport is None or not self.usable:
            self.fail(
                not_http() if self._received_unrequested else network_error("the connection broke")
            )
        else:
            self._transport.write(message)
        return pending

    def expire(self, seconds: float) -> None:
        """End the request, whose timeout was *seconds*."""
        self.fail(timed_out(seconds))

    def fail(self, error: ChatError) -> None:
        """End the request with *error*, and the connection."""
        self.usable = False
        pending, self._pending = self._pending, None
        if pending is not None and not pending.done():
            pending.set_exception(error)
        self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # -- called by asyncio ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        import httptools  # optional

        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        self._parser_errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self.closed = self.loop.create_future()
        self._open.add(self)
        if not self.usable:  # the call has ended meanwhile
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._pending is None:  # not the response to the next request
            self._received_unrequested = True
            self.abort()
            return
        self._overhead_left -= len(data)
        try:
            self._parser.feed_data(data)
        except self._parser_errors:
            self.fail(not_http())
        if self._overhead_left < 0:
            self.fail(overhead_too_large())

    def eof_received(self) -> None:
        self.usable = False
        if self._pending is not None and self._ends_with_connection:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self.usable = False
        if self._pending is not None and self._ends_with_connection and exc is None:
            self._finish()
        self.fail(
            network_error("the answer was cut off" if exc is None else "the connection broke")
        )
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)

    # -- called by the parser ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._pending is None:  # a second response to one request
            self.usable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._body is None:  # else a trailer, which is ignored
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._pending is None:
            return
        status = self._status = self._parser.get_status_code()
        if status < 200:
            return
        encoding = length = None
        chunked = False
        for name, value in self._headers:
            if len(name) < _SHORTEST_BODY_HEADER or (name := name.lower()) not in _BODY_HEADERS:
                continue
            text = value.decode("latin-1")
            if name == b"content-length":
                length = text
            elif name == b"content-encoding":
                encoding = text if encoding is None else f"{encoding}, {text}"
            elif chunked or text.strip().lower() != "chunked":
                self.fail(not_http())
                return
            else:
                chunked = True
        try:
            self._body = Body(status, encoding, length)
        except ChatError as error:
            self.fail(error.with_traceback(None))
            return
        self._ends_with_connection = length is None and not chunked
        if self._method == "HEAD":
            self.usable = False
            self._finish()

    def on_body(self, data: bytes) -> None:
        self._overhead_left += len(data)
        if self._body is None or self._pending is None:
            return
        try:
            self._body.add(data)
        except ChatError as error:
            self.fail(error.with_traceback(None))

    def on_chunk_header(self) -> None:
        self._overhead_left += CHUNK_FRAMING

    def on_message_complete(self) -> None:
        if self._pending is None:
            return
        if self._body is None:  # 100, 103: the final response follows
            if self._status == 101:
                self.fail(not_http())
            else:
                self._headers = []
            return
        if not self._parser.should_keep_alive():
            self.usable = False
        self._finish()

    def _finish(self) -> None:
        assert self._body is not None  # noqa: S101 - set at the end of the head
        try:
            body = self._body.complete()
        except ChatError as error:
            self.fail(error.with_traceback(None))
            return
        pending, self._pending = self._pending, None
        if pending is not None and not pending.done():
            pending.set_result(LazyResponse(self._status, self._headers, body))
