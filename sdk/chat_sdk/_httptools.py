"""The fastest transport: HTTP/1.1 by hand over asyncio, with the parser that uvicorn uses."""

import asyncio
import importlib.util
import ssl
from time import monotonic
from typing import Any, cast

from ._errors import ChatError, ConfigurationError, bad_response
from ._transport import Body, Header, Request, Response, not_reached, timed_out
from ._turns import Turns

LARGEST_HEAD = 64 * 1024
KEPT_IDLE = 4.0
"""Seconds; below the 5 s after which uvicorn and Node hang up: a connection about to die is not reused."""

TICK = 0.02
"""Seconds within which a request whose time is up is ended."""
MOST_PLACES = 64
MOST_HEADS = 64
MOST_LINES = 4096

Origin = tuple[str, str, int]

_BODILESS = frozenset({"GET", "HEAD", "DELETE"})
_ABOUT_THE_BODY = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


class HttptoolsTransport:
    """Carries requests over connections of its own; needs `httptools`. For asyncio only.

    A tenth of the work of a general client, since it can do less: one request at a time on each
    connection, no redirects, no proxies or netrc from the environment, no cookies. Certificates are checked.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 1.0,
        max_connections: int = 100,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        if importlib.util.find_spec("httptools") is None:
            raise ConfigurationError(
                "HttptoolsTransport needs httptools: pip install httptools",
                code="httptools_missing",
            )
        self._connect_timeout = connect_timeout
        self._verify = verify
        self._idle: dict[Origin, list[_Connection]] = {}
        self._open: set[_Connection] = set()
        self._turns = Turns(max_connections)
        self._sweep: asyncio.TimerHandle | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._places: dict[str, _Place] = {}
        self._lines: dict[tuple[str, str], tuple[_Place, bytes]] = {}

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; see Transport."""
        now = monotonic()
        ends = now + timeout
        known = self._lines.get((request.method, request.url))
        place, line = self._begun(request) if known is None else known
        failure: ChatError
        try:
            if not self._turns.take():
                await self._turns.wait(timeout)
                now = monotonic()
            # One turn is this call's from here to the `finally`, whatever happens.
            try:
                connection = self._from_idle(place, now)
                if connection is None:
                    connection = await self._connected(place, ends)
                connection.ends, connection.patience = ends, timeout
                if self._clock is None:
                    self._clock = connection.loop.call_later(TICK, self._tick, connection.loop)
                try:
                    # In one line, so that no local variable, and so no traceback, holds the head.
                    response = await connection.ask(place.written(request, line), request.method)
                except BaseException:
                    connection.abort()
                    raise
                if connection.usable:
                    self._keep(place, connection)
                else:
                    connection.abort()
            finally:
                self._turns.give_back()
            return response
        except ChatError as error:
            failure = error.with_traceback(None)
        # Raised out here, so that no frame below, which may know the headers, is part of it.
        raise failure

    def _begun(self, request: Request) -> "tuple[_Place, bytes]":
        """Where *request* goes, and its first line: worked out once, since calls go to the same addresses again and again.

        Raises ConfigurationError for an address that would break out of the line.
        """
        method, url = request.method, request.url
        slash = url.find("/", 8)
        prefix, target = (url, "/") if slash < 0 else (url[:slash], url[slash:])
        line = f"{method} {target} HTTP/1.1\r\n"
        if not (line.isascii() and line[:-2].isprintable()):
            raise _bad_head()
        begun = self._places.get(prefix) or self._placed(prefix), line.encode()
        if len(self._lines) >= MOST_LINES:
            self._lines.clear()
        self._lines[method, url] = begun
        return begun

    def _placed(self, prefix: str) -> "_Place":
        """Where URLs that start with *prefix* lead: worked out once, there are few."""
        if len(self._places) > MOST_PLACES:
            self._places.clear()
        origin, host = _split(prefix)
        place = self._places[prefix] = _Place(host, self._idle.setdefault(origin, []), origin)
        return place

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what has taken too long. One timer for all: a timer each would cost more than the parser."""
        now = monotonic()
        busy = False
        for connection in list(self._open):
            if connection.busy:
                busy = True
                if connection.ends <= now:
                    connection.expire(connection.patience)
        self._clock = loop.call_later(TICK, self._tick, loop) if busy else None

    # -- connections ----------------------------------------------------------------------------

    def _from_idle(self, place: "_Place", now: float) -> "_Connection | None":
        idle = place.idle
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.idle_since < KEPT_IDLE:
                return connection
            connection.abort()
        return None

    async def _connected(self, place: "_Place", deadline: float) -> "_Connection":
        """A new connection to *place*."""
        loop = asyncio.get_running_loop()
        scheme, host, port = place.origin
        patience = min(deadline - monotonic(), self._connect_timeout)
        failure: ChatError
        try:
            async with asyncio.timeout(patience):
                _, made = await loop.create_connection(
                    lambda: _Connection(self._open, loop),
                    host,
                    port,
                    ssl=self._context() if scheme == "https" else None,
                )
            return made
        except TimeoutError:
            failure = timed_out(patience)
        except OSError:
            failure = not_reached("no connection")
        raise failure

    def _keep(self, place: "_Place", connection: "_Connection") -> None:
        """Hold *connection* ready for the next call."""
        connection.idle_since = monotonic()
        place.idle.append(connection)
        if self._sweep is None:
            loop = connection.loop
            self._sweep = loop.call_later(KEPT_IDLE, self._close_stale, loop)

    def _close_stale(self, loop: asyncio.AbstractEventLoop) -> None:
        stale = monotonic() - KEPT_IDLE
        for idle in self._idle.values():
            for one in idle:
                if not one.usable or one.idle_since <= stale:
                    one.abort()
            idle[:] = [one for one in idle if one.usable]
        busy = any(self._idle.values())
        self._sweep = loop.call_later(1.0, self._close_stale, loop) if busy else None

    def _context(self) -> ssl.SSLContext:
        if self._verify is None:
            self._verify = ssl.create_default_context()
        return self._verify

    async def aclose(self) -> None:
        """Close all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        self._turns.send_away()
        for idle in self._idle.values():
            idle.clear()
        closing = [one.closed for one in self._open]
        for one in list(self._open):
            one.abort()
        if closing:
            await asyncio.wait(closing, timeout=1.0)


class _Place:
    """One origin: how requests to it begin, and the connections that wait for one."""

    __slots__ = ("_heads", "_host", "idle", "origin")

    def __init__(self, host: str, idle: "list[_Connection]", origin: Origin) -> None:
        self._host = host
        self.idle = idle
        self.origin = origin
        self._heads: dict[int, tuple[tuple[Header, ...], bytes]] = {}

    def written(self, request: Request, line: bytes) -> bytes:
        """The message in one piece, from its first *line* on.

        Raises ConfigurationError for a header that would break out of its line.
        """
        shared, own, body = request.shared, request.own, request.body
        known = self._heads.get(id(shared))
        head = self._shared_head(shared) if known is None or known[0] is not shared else known[1]
        if own:
            head += _lines(own)
        if body is not None:
            length = f"Content-Length: {len(body)}\r\n\r\n".encode()
            return b"".join((line, head, length, body))
        end = b"\r\n" if request.method in _BODILESS else b"Content-Length: 0\r\n\r\n"
        return b"".join((line, head, end))

    def _shared_head(self, headers: tuple[Header, ...]) -> bytes:
        head = _lines((("Host", self._host), *headers))
        if len(self._heads) >= MOST_HEADS:
            self._heads.clear()
        # With the headers themselves, so that their id stays theirs.
        self._heads[id(headers)] = headers, head
        return head


def _lines(headers: tuple[Header, ...]) -> bytes:
    """*headers* as HTTP/1.1 writes them. Raises ConfigurationError for one that would break out of its line."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if text.count("\n") == text.count("\r") == len(headers) and "\0" not in text:
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            pass
    raise _bad_head()


def _bad_head() -> ConfigurationError:
    return ConfigurationError(
        "A header or address holds characters it cannot hold", code="bad_header"
    )


class _Answer(Response):
    """A response whose headers stay as they came until somebody asks for them."""

    __slots__ = ("_given",)

    def __init__(self, status: int, given: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.body = body
        self._given = given

    @property
    def headers(self) -> list[Header]:  # type: ignore[override]  # reads like the attribute it stands for
        """Names and values, as text."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._given]

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        wanted = name.lower().encode("latin-1")
        for key, value in self._given:
            if key == wanted or key.lower() == wanted:
                return value.decode("latin-1")
        return None


class _Connection(asyncio.Protocol):
    """One connection: asked once at a time, and thrown away after anything unusual."""

    __slots__ = (
        "_body",
        "_head",
        "_headers",
        "_method",
        "_no_http",
        "_open",
        "_parser",
        "_reply",
        "_status",
        "_transport",
        "_until_end",
        "closed",
        "ends",
        "idle_since",
        "loop",
        "patience",
        "usable",
    )

    def __init__(self, among: "set[_Connection]", loop: asyncio.AbstractEventLoop) -> None:
        self._open = among
        self.loop = loop
        """Known here, since to ask for it takes a system call."""
        self._reply: asyncio.Future[Response] | None = None
        self._parser: Any = None
        self._transport: asyncio.Transport | None = None
        self.usable = True
        self.idle_since = 0.0
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
        self._begin()
        if self._transport is None or not self.usable:
            self.fail(not_reached("the connection broke"))
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
        import httptools

        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        self._no_http = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self.closed = self.loop.create_future()
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._reply is None:  # nobody has asked: whatever this is, it is no answer to the next
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except self._no_http:
            self.fail(not_reached("the answer is no HTTP"))
            return
        if self._head >= 0:
            self._head += len(data)
            if self._head > LARGEST_HEAD:
                self.fail(bad_response("its headers are too long", status=0))

    def eof_received(self) -> None:
        if self._until_end and self._reply is not None and self._body is not None:
            self.usable = False
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self.usable = False
        if self._reply is not None and exc is None and self._until_end and self._body is not None:
            self._finish()
        self.fail(not_reached("the answer was cut off" if exc is None else "the connection broke"))
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)

    # -- what the parser calls ------------------------------------------------------------------

    def _begin(self) -> None:
        self._head = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._status = 0
        self._body: Body | None = None
        self._until_end = False

    def on_message_begin(self) -> None:
        if self._reply is None:  # a second answer to one question
            self.usable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._reply is None:
            return
        self._head = -1
        status = self._status = self._parser.get_status_code()
        if status < 200:
            return
        encoding = length = None
        chunked = False
        for name, value in self._headers:
            name = name.lower()  # noqa: PLW2901 - compared, not kept
            if name not in _ABOUT_THE_BODY:
                continue
            if name == b"content-encoding":
                encoding = value.decode("latin-1")
            elif name == b"content-length":
                length = value.decode("latin-1")
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
        if self._body is None or self._reply is None:
            return
        try:
            self._body.add(data)
        except ChatError as error:
            self.fail(error.with_traceback(None))

    def on_message_complete(self) -> None:
        if self._reply is None:
            return
        if self._body is None:  # 100, 103: the answer proper is still to come
            if self._status == 101:
                self.fail(not_reached("the answer is no HTTP"))
                return
            self._begin()
            return
        if not self._parser.should_keep_alive():
            self.usable = False
        self._finish()

    def _finish(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done() and self._body is not None:
            reply.set_result(_Answer(self._status, self._headers, self._body.whole()))


def _split(prefix: str) -> tuple[Origin, str]:
    """Origin and Host header of a URL up to its path, as the SDK builds it."""
    scheme, _, authority = prefix.partition("://")
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    number = int(port) if port else 443 if scheme == "https" else 80
    return (scheme, host, number), authority
