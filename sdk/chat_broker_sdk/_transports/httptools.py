"""The fastest transport: HTTP/1.1 by hand over asyncio, with the parser that uvicorn uses."""

import asyncio
import importlib.util
import ssl
from threading import get_ident
from time import monotonic

from chat_broker_sdk._errors import ChatError, ConfigurationError

from .base import Header, Request, Response, timed_out
from .httptools_connection import Connection
from .loops import check_move, wrong_loop
from .turns import Turns
from .unreachable import no_connection

KEPT_IDLE = 4.0
"""Seconds since the last call began; below the 5 s after which uvicorn and Node hang up: a connection about to die is not
reused."""

TICK = 0.02
"""Seconds within which a request whose time is up is ended."""
MOST_PLACES = 64
MOST_HEADS = 64
MOST_LINES = 4096

Origin = tuple[str, str, int]

_BODILESS = frozenset({"GET", "HEAD", "DELETE"})


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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._turns = Turns(max_connections)
        self._sweep: asyncio.TimerHandle | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._places: dict[str, _Place] = {}
        self._lines: dict[tuple[str, str], tuple[_Place, bytes]] = {}

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; see Transport."""
        # To ask for the running loop takes a system call. Another one is on another thread, or comes after this one;
        # only two that take turns on one thread are found by what asyncio says to that.
        if get_ident() != self._thread or self._loop is None or self._loop.is_closed():
            self._move()
        now = monotonic()
        ends = now + timeout
        known = self._lines.get((request.method, request.url))
        place, line = self._begun(request) if known is None else known
        failure: ChatError
        turns = self._turns
        try:
            if turns.taken < turns.most:
                turns.taken += 1
            else:
                await turns.wait(timeout)
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
                    connection.last_used = now
                    place.idle.append(connection)
                    if self._sweep is None:
                        self._sweep = connection.loop.call_later(
                            KEPT_IDLE, self._close_stale, connection.loop
                        )
                else:
                    connection.abort()
            finally:
                turns.give_back()
            return response
        except ChatError as error:
            failure = error.with_traceback(None)
        except RuntimeError:
            if asyncio.get_running_loop() is self._loop:
                raise
            failure = wrong_loop()
        # Raised out here, so that no frame below, which may know the headers, is part of it.
        raise failure

    def _move(self) -> None:
        """Begin on the loop that runs now. What an earlier one, which is closed, has left is of no use."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:  # on another thread
            self._thread = get_ident()
            return
        check_move(self._loop)
        self._loop, self._thread = loop, get_ident()
        for idle in self._idle.values():
            idle.clear()
        self._open = set()
        self._turns = Turns(self._turns.most)
        self._sweep = self._clock = None

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

    def _from_idle(self, place: "_Place", now: float) -> Connection | None:
        idle = place.idle
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.last_used < KEPT_IDLE:
                return connection
            connection.abort()
        return None

    async def _connected(self, place: "_Place", deadline: float) -> Connection:
        """A new connection to *place*."""
        loop = asyncio.get_running_loop()
        scheme, host, port = place.origin
        patience = min(deadline - monotonic(), self._connect_timeout)
        connection = Connection(self._open, loop)
        failure: ChatError
        try:
            async with asyncio.timeout(patience):
                await loop.create_connection(
                    lambda: connection,
                    host,
                    port,
                    ssl=self._context() if scheme == "https" else None,
                )
            return connection
        except TimeoutError:
            failure = timed_out(patience)
        except OSError as error:
            failure = no_connection(error)
        except BaseException:
            connection.abort()
            raise
        connection.abort()  # uvloop may open it all the same
        raise failure

    def _close_stale(self, loop: asyncio.AbstractEventLoop) -> None:
        stale = monotonic() - KEPT_IDLE
        for idle in self._idle.values():
            for one in idle:
                if not one.usable or one.last_used <= stale:
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
        if self._loop is not None and self._loop.is_closed():
            self._move()
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

    def __init__(self, host: str, idle: list[Connection], origin: Origin) -> None:
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
