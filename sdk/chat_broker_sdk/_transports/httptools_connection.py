"""One HTTP/1.1 connection of HttptoolsTransport: a message out, an answer in, every byte of it counted."""

import asyncio
from typing import Any, cast

from chat_broker_sdk._errors import ChatError

from .base import (
    CHUNK_FRAMING,
    LARGEST_HEAD,
    Body,
    Header,
    Response,
    no_http,
    not_reached,
    timed_out,
    too_much_beside_the_body,
)

_ABOUT_THE_BODY = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
_SHORTEST = min(map(len, _ABOUT_THE_BODY))
"""Most headers are shorter, and need no second look."""


class Answer(Response):
    """A response whose headers stay as they came until they are asked for."""

    __slots__ = ("_raw",)

    def __init__(self, status: int, raw: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.body = body
        self._raw = raw

    @property
    def headers(self) -> list[Header]:  # type: ignore[override]  # reads like the attribute it stands for
        """Names and values, as text."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._raw]

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        wanted = name.lower().encode("latin-1")
        for key, value in self._raw:
            if key == wanted or key.lower() == wanted:
                return value.decode("latin-1")
        return None


class Connection(asyncio.Protocol):
    """One connection: asked once at a time, and thrown away after anything unusual."""

    __slots__ = (
        "_beside",
        "_body",
        "_headers",
        "_method",
        "_no_http",
        "_open",
        "_parser",
        "_reply",
        "_spoke_first",
        "_status",
        "_transport",
        "_until_end",
        "closed",
        "ends",
        "last_used",
        "loop",
        "patience",
        "usable",
    )

    def __init__(self, among: "set[Connection]", loop: asyncio.AbstractEventLoop) -> None:
        self._open = among
        self.loop = loop
        """Known here, since to ask for it takes a system call."""
        self._reply: asyncio.Future[Response] | None = None
        self._parser: Any = None
        self._transport: asyncio.Transport | None = None
        self._beside = 0
        """How many bytes may still come that are not of the body: in the head, between chunks, in trailers."""
        self._spoke_first = False
        self.usable = True
        self.last_used = 0.0
        self.ends = self.patience = 0.0

    @property
    def busy(self) -> bool:
        """Is an answer awaited?"""
        return self._reply is not None

    # -- what the transport does ----------------------------------------------------------------

    def ask(self, message: bytes, method: str) -> "asyncio.Future[Response]":
        """Send *message*; the answer, or a ChatError, comes as the future's result."""
        reply: asyncio.Future[Response] = self.loop.create_future()
        self._reply = reply
        self._method = method
        self._beside = LARGEST_HEAD
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: Body | None = None
        self._until_end = False
        if self._transport is None or not self.usable:
            self.fail(no_http() if self._spoke_first else not_reached("the connection broke"))
        else:
            self._transport.write(message)
        return reply

    def expire(self, seconds: float) -> None:
        """Time is up."""
        self.fail(timed_out(seconds))

    def fail(self, error: ChatError) -> None:
        """No answer comes any more, and nothing else will be asked here."""
        self.usable = False
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_exception(error)
        self.abort()

    def abort(self) -> None:
        """Hang up."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # -- what asyncio calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        import httptools  # optional

        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        self._no_http = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self.closed = self.loop.create_future()
        self._open.add(self)
        if not self.usable:  # the call that wanted it has ended meanwhile
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._reply is None:  # nothing was asked: whatever this is, it is no answer to the next
            self._spoke_first = True
            self.abort()
            return
        self._beside -= len(data)
        try:
            self._parser.feed_data(data)
        except self._no_http:
            self.fail(no_http())
        if self._beside < 0:
            self.fail(too_much_beside_the_body())

    def eof_received(self) -> None:
        self.usable = False
        if self._reply is not None and self._until_end:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self.usable = False
        if self._reply is not None and self._until_end and exc is None:
            self._finish()
        self.fail(not_reached("the answer was cut off" if exc is None else "the connection broke"))
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)

    # -- what the parser calls ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._reply is None:  # a second answer to one question
            self.usable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._body is None:  # else a trailer, which nobody reads
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._reply is None:
            return
        status = self._status = self._parser.get_status_code()
        if status < 200:
            return
        encoding = length = None
        chunked = False
        for name, value in self._headers:
            if len(name) < _SHORTEST or (name := name.lower()) not in _ABOUT_THE_BODY:
                continue
            text = value.decode("latin-1")
            if name == b"content-length":
                length = text
            elif name == b"content-encoding":
                encoding = text if encoding is None else f"{encoding}, {text}"
            elif chunked or text.strip().lower() != "chunked":
                self.fail(no_http())
                return
            else:
                chunked = True
        try:
            self._body = Body(status, encoding, length)
        except ChatError as error:
            self.fail(error.with_traceback(None))
            return
        self._until_end = length is None and not chunked
        if self._method == "HEAD":
            self.usable = False
            self._finish()

    def on_body(self, data: bytes) -> None:
        self._beside += len(data)
        if self._body is None or self._reply is None:
            return
        try:
            self._body.add(data)
        except ChatError as error:
            self.fail(error.with_traceback(None))

    def on_chunk_header(self) -> None:
        self._beside += CHUNK_FRAMING

    def on_message_complete(self) -> None:
        if self._reply is None:
            return
        if self._body is None:  # 100, 103: the answer proper is still to come
            if self._status == 101:
                self.fail(no_http())
            else:
                self._headers = []
            return
        if not self._parser.should_keep_alive():
            self.usable = False
        self._finish()

    def _finish(self) -> None:
        """The answer is whole, unless its compression says otherwise."""
        assert self._body is not None  # noqa: S101 - there is a body from the end of the head on
        try:
            body = self._body.whole()
        except ChatError as error:
            self.fail(error.with_traceback(None))
            return
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_result(Answer(self._status, self._headers, body))
