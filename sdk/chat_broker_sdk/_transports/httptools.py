"""The fastest transport: HTTP/1.1 over asyncio, with the parser that uvicorn uses."""

import asyncio
import ssl
from threading import get_ident
from time import monotonic

from chat_broker_sdk._cache import put_bounded
from chat_broker_sdk._errors import ChatError, ConfigurationError

from .base import Header, Request, Response, require_library, timed_out
from .connect_errors import connect_error
from .connection_limit import ConnectionLimit
from .httptools_connection import HttpConnection
from .loops import check_loop_closed, wrong_loop_error

IDLE_TIMEOUT = 4.0
"""Seconds since the last call began. uvicorn and Node close idle connections after 5 s."""

TIMEOUT_RESOLUTION = 0.02
"""Seconds after its deadline within which a request is ended."""
MAX_POOLS = 64
MAX_HEADS = 64
MAX_TARGETS = 4096

Origin = tuple[str, str, int]

_BODILESS = frozenset({"GET", "HEAD", "DELETE"})


class HttptoolsTransport:
    """Carries requests over its own connections (`pip install httptools`). For asyncio only.

    Costs a tenth of a general client: one request at a time on each connection, no redirects, no proxies or netrc from
    the environment, no cookies. Certificates are checked. *connect_timeout* is in seconds.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 1.0,
        max_connections: int = 100,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        require_library("httptools", "HttptoolsTransport")
        self._connect_timeout = connect_timeout
        self._verify = verify
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._idle: dict[Origin, list[HttpConnection]] = {}
        self._open: set[HttpConnection] = set()
        self._limit = ConnectionLimit(max_connections)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._timeout_timer: asyncio.TimerHandle | None = None
        self._pools: dict[str, _OriginPool] = {}
        self._targets: dict[tuple[str, str], _Target] = {}

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt, as Transport promises."""
        # Asking for the running loop takes a system call. Another loop runs on another thread, or after this one is
        # closed. Two open loops on one thread are noticed by asyncio's RuntimeError below.
        if get_ident() != self._thread or self._loop is None or self._loop.is_closed():
            self._change_loop()
        now = monotonic()
        deadline = now + timeout
        target = self._targets.get((request.method, request.url)) or self._resolve(request)
        pool = target.pool
        failure: ChatError
        limit = self._limit
        try:
            if limit.in_use < limit.size:
                limit.in_use += 1
            else:
                await limit.acquire(timeout)
                now = monotonic()
            # This call holds a slot from here to the `finally`.
            try:
                connection = self._take_idle(pool, now)
                if connection is None:
                    connection = await self._connect(pool, deadline)
                connection.deadline, connection.timeout = deadline, timeout
                if self._timeout_timer is None:
                    self._timeout_timer = connection.loop.call_later(
                        TIMEOUT_RESOLUTION, self._end_overdue, connection.loop
                    )
                try:
                    # One expression, so that no local variable, and so no traceback, holds the head.
                    response = await connection.request(target.encode(request), request.method)
                except BaseException:
                    connection.abort()
                    raise
                if connection.usable:
                    connection.last_used = now
                    pool.idle.append(connection)
                    if self._idle_timer is None:
                        self._idle_timer = connection.loop.call_later(
                            IDLE_TIMEOUT, self._close_stale, connection.loop
                        )
                else:
                    connection.abort()
            finally:
                limit.release()
            return response
        except ChatError as error:
            failure = error.with_traceback(None)
        except RuntimeError:
            if asyncio.get_running_loop() is self._loop:
                raise
            failure = wrong_loop_error()
        # Raised here, so that its traceback has no frame below, which may hold the headers.
        raise failure

    def _change_loop(self) -> None:
        """Start over on the running loop. Raises ConfigurationError if the earlier loop is not closed."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:  # on another thread
            self._thread = get_ident()
            return
        check_loop_closed(self._loop)
        self._loop, self._thread = loop, get_ident()
        for idle in self._idle.values():
            idle.clear()
        self._open = set()
        self._limit = ConnectionLimit(self._limit.size)
        self._idle_timer = self._timeout_timer = None

    def _resolve(self, request: Request) -> "_Target":
        """Where *request* goes, now cached. Raises ConfigurationError for an unsafe URL."""
        method, url = request.method, request.url
        slash = url.find("/", 8)
        prefix, target = (url, "/") if slash < 0 else (url[:slash], url[slash:])
        line = f"{method} {target} HTTP/1.1\r\n"
        if not (line.isascii() and line[:-2].isprintable()):
            raise _bad_head()
        pool = self._pools.get(prefix) or self._add_pool(prefix)
        end = b"\r\n" if method in _BODILESS else b"Content-Length: 0\r\n\r\n"
        resolved = _Target(pool, line.encode(), end)
        return put_bounded(self._targets, (method, url), resolved, MAX_TARGETS)

    def _add_pool(self, prefix: str) -> "_OriginPool":
        origin, host = _parse_origin(prefix)
        pool = _OriginPool(host, self._idle.setdefault(origin, []), origin)
        return put_bounded(self._pools, prefix, pool, MAX_POOLS)

    def _end_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        """End requests past their deadline. One timer for all: one each would cost more than the parser."""
        now = monotonic()
        busy = False
        for connection in list(self._open):
            if connection.busy:
                busy = True
                if connection.deadline <= now:
                    connection.expire(connection.timeout)
        self._timeout_timer = (
            loop.call_later(TIMEOUT_RESOLUTION, self._end_overdue, loop) if busy else None
        )

    # -- connections ----------------------------------------------------------------------------

    def _take_idle(self, pool: "_OriginPool", now: float) -> HttpConnection | None:
        idle = pool.idle
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.last_used < IDLE_TIMEOUT:
                return connection
            connection.abort()
        return None

    async def _connect(self, pool: "_OriginPool", deadline: float) -> HttpConnection:
        loop = asyncio.get_running_loop()
        scheme, host, port = pool.origin
        timeout = min(deadline - monotonic(), self._connect_timeout)
        connection = HttpConnection(self._open, loop)
        failure: ChatError
        try:
            async with asyncio.timeout(timeout):
                await loop.create_connection(
                    lambda: connection,
                    host,
                    port,
                    ssl=self._ssl_context() if scheme == "https" else None,
                )
            return connection
        except TimeoutError:
            failure = timed_out(timeout)
        except OSError as error:
            failure = connect_error(error)
        except BaseException:
            connection.abort()
            raise
        connection.abort()  # uvloop may still open it
        raise failure

    def _close_stale(self, loop: asyncio.AbstractEventLoop) -> None:
        stale = monotonic() - IDLE_TIMEOUT
        for idle in self._idle.values():
            for each in idle:
                if not each.usable or each.last_used <= stale:
                    each.abort()
            idle[:] = [each for each in idle if each.usable]
        busy = any(self._idle.values())
        self._idle_timer = loop.call_later(1.0, self._close_stale, loop) if busy else None

    def _ssl_context(self) -> ssl.SSLContext:
        if self._verify is None:
            self._verify = ssl.create_default_context()
        return self._verify

    async def aclose(self) -> None:
        """Close all connections."""
        if self._loop is not None and self._loop.is_closed():
            self._change_loop()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._timeout_timer is not None:
            self._timeout_timer.cancel()
            self._timeout_timer = None
        self._limit.refuse_waiting()
        for idle in self._idle.values():
            idle.clear()
        closing = [each.closed for each in self._open]
        for each in list(self._open):
            each.abort()
        if closing:
            await asyncio.wait(closing, timeout=1.0)


class _OriginPool:
    """One origin: its idle connections, and its encoded shared headers."""

    __slots__ = ("_heads", "_host", "idle", "origin")

    def __init__(self, host: str, idle: list[HttpConnection], origin: Origin) -> None:
        self._host = host
        self.idle = idle
        self.origin = origin
        self._heads: dict[int, tuple[tuple[Header, ...], bytes]] = {}

    def head(self, shared: tuple[Header, ...]) -> bytes:
        """The lines of Host and *shared*. Raises ConfigurationError for an unsafe header."""
        cached = self._heads.get(id(shared))
        if cached is not None and cached[0] is shared:
            return cached[1]
        # The entry holds the headers themselves, so that no other object gets their id.
        head = _encode_headers((("Host", self._host), *shared))
        put_bounded(self._heads, id(shared), (shared, head), MAX_HEADS)
        return head


class _Target:
    """A method and a URL: the pool of its origin, and the encoded head of the message that was sent there last."""

    __slots__ = ("_end", "_head", "_line", "_shared", "pool")

    def __init__(self, pool: _OriginPool, line: bytes, end: bytes) -> None:
        """*line* is the request line; *end* ends the head of a message without a body."""
        self.pool = pool
        self._line = line
        self._end = end
        self._shared: tuple[Header, ...] | None = None
        self._head = b""

    def encode(self, request: Request) -> bytes:
        """The whole message. Raises ConfigurationError for an unsafe header."""
        if request.shared is not self._shared:
            self._head = self._line + self.pool.head(request.shared)
            self._shared = request.shared
        head = self._head
        if request.own:
            head += _encode_headers(request.own)
        body = request.body
        if body is None:
            return head + self._end
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def _encode_headers(headers: tuple[Header, ...]) -> bytes:
    """*headers* in HTTP/1.1 syntax. Raises ConfigurationError if one contains a line break or NUL."""
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


def _parse_origin(prefix: str) -> tuple[Origin, str]:
    """The origin and Host header of a URL without its path, as `_urls` builds it."""
    scheme, _, authority = prefix.partition("://")
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    number = int(port) if port else 443 if scheme == "https" else 80
    return (scheme, host, number), authority
