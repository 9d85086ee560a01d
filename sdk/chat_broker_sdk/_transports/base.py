"""The seam: method, URL, headers, body in; status, headers, body out. Everything above it knows no HTTP library."""

import zlib
from contextlib import suppress
from typing import Protocol, runtime_checkable

from chat_broker_sdk import _errors
from chat_broker_sdk._errors import NetworkError, ServerError, bad_response

LARGEST_BODY = 8 * 1024 * 1024
"""Above the largest answer that the contract allows: a page by number of 200 messages, each as long as it may be."""
LARGEST_HEAD = 64 * 1024
"""Bytes of an answer that are not its body: all heads, interim ones too, chunk extensions and trailers together."""
CHUNK_FRAMING = 16
"""Bytes around a chunk that count as framing: its size, with leading zeros as some servers write it, and line ends."""

Header = tuple[str, str]


class Request:
    """One HTTP request. Header values and body stay out of the repr: they hold credentials.

    *shared*: headers that come before the request's own, one and the same tuple for all requests of a client, so that a
    transport may work them out once.
    """

    __slots__ = ("body", "method", "own", "shared", "url")

    def __init__(
        self,
        method: str,
        url: str,
        headers: tuple[Header, ...] = (),
        body: bytes | None = None,
        *,
        shared: tuple[Header, ...] = (),
    ) -> None:
        self.method = method
        self.url = url
        self.own = headers
        self.body = body
        self.shared = shared

    @property
    def headers(self) -> tuple[Header, ...]:
        """All of them."""
        return self.shared + self.own

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url.partition('?')[0]}>"


class Response:
    """One HTTP answer, read to its end. Header names in any case; the body stays out of the repr."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: list[Header] | None = None, body: bytes = b"") -> None:
        self.status = status
        self.headers = headers if headers is not None else []
        self.body = body

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        name = name.lower()
        for key, value in self.headers:
            if key == name or key.lower() == name:
                return value
        return None

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


@runtime_checkable
class Transport(Protocol):
    """Carries requests for AsyncChatClient.

    `send` makes exactly one attempt, follows no redirect, keeps no cookie, and is done or has raised
    within *timeout* seconds: TimeoutError when time ran out, NetworkError when no complete answer came.
    An answer of any status is returned, not raised.
    """

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - who sends knows best how to stop
        """One request, one answer."""
        ...

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...


@runtime_checkable
class SyncTransport(Protocol):
    """The same for ChatClient."""

    def send(self, request: Request, *, timeout: float) -> Response:
        """One request, one answer."""
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...


def too_large(status: int) -> ServerError:
    """The error for a body over the limit, compressed or not."""
    return bad_response(f"the body is larger than {LARGEST_BODY} bytes", status=status)


class Inflater:
    """Unpacks gzip or deflate as it arrives, and knows whether it has come to its end."""

    __slots__ = ("_packed", "_status", "_unpack")

    def __init__(self, status: int) -> None:
        self._status = status
        self._unpack = zlib.decompressobj(wbits=47)
        self._packed = 0

    def unpack(self, chunk: bytes, room: int) -> bytes:
        """Plain bytes, never more than *room* + 1 of them: a bomb is not unpacked first and measured afterwards.

        Raises ServerError for what is broken, goes on after its end, or is too large even while it is packed.
        """
        self._packed += len(chunk)
        if self._packed > LARGEST_BODY:
            raise too_large(self._status)
        if self._unpack.eof and chunk:
            raise bad_response("the body goes on after its compression's end", status=self._status)
        plain = None
        with suppress(zlib.error):
            plain = self._unpack.decompress(chunk, room + 1)
        if plain is None:
            raise bad_response("the body's compression is broken", status=self._status)
        if self._unpack.unused_data:
            raise bad_response("the body goes on after its compression's end", status=self._status)
        return plain

    def check_end(self) -> None:
        """Raises ServerError if something came, and not all of it."""
        if self._packed and not self._unpack.eof:
            raise bad_response("the body's compression ends too early", status=self._status)


def inflater(encoding: str | None, status: int) -> Inflater | None:
    """What unpacks a body of that Content-Encoding; None if nothing is to be done."""
    names = [name.strip().lower() for name in (encoding or "").split(",")]
    packed = [name for name in names if name not in {"", "identity"}]
    if not packed:
        return None
    if packed not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise bad_response("the body has an encoding that was not asked for", status=status)
    return Inflater(status)


class Body:
    """Collects a body as it arrives and stops at the limit."""

    __slots__ = ("_first", "_inflater", "_more", "_size", "_status")

    def __init__(self, status: int, encoding: str | None, declared: str | None) -> None:
        self._status = status
        self._inflater = None if encoding is None else inflater(encoding, status)
        self._first = b""
        self._more: bytearray | None = None
        self._size = 0
        if declared is not None and declared.isdigit() and int(declared[:20]) > LARGEST_BODY:
            raise too_large(status)

    def add(self, chunk: bytes) -> None:
        """One more piece; ServerError once it is too much."""
        if self._inflater is not None:
            chunk = self._inflater.unpack(chunk, LARGEST_BODY - self._size)
        self._size += len(chunk)
        if self._size > LARGEST_BODY:
            raise too_large(self._status)
        # Nearly every body comes in one piece, which need not be copied. A million pieces of one byte take no more room.
        if not self._first:
            self._first = chunk
        elif self._more is None:
            self._more = bytearray(self._first + chunk)
        else:
            self._more += chunk

    def whole(self) -> bytes:
        """Everything that came. Raises ServerError if its compression says that this is not all."""
        if self._inflater is not None:
            self._inflater.check_end()
        return self._first if self._more is None else bytes(self._more)


def no_http() -> ServerError:
    """The error for an answer that is no HTTP, or none that makes sense."""
    return bad_response("it is no HTTP", status=None)


def too_much_beside_the_body() -> ServerError:
    """The error for a head, interim responses, chunk extensions or trailers over the limit."""
    return bad_response(
        f"more than {LARGEST_HEAD} bytes of it are neither body nor framing", status=None
    )


def timed_out(timeout: float) -> _errors.TimeoutError:
    """The error for an attempt that took longer than it was given."""
    return _errors.TimeoutError(
        f"The Chat API did not answer within {timeout:.3g} s", code="timeout"
    )


def not_reached(how: str) -> NetworkError:
    """The error for an attempt that got no answer. *how* is ours, never the library's text: that may hold the URL."""
    return NetworkError(f"The Chat API could not be reached: {how}", code="network_error")


CONNECTIONS_IN_USE = "connections_in_use"
"""The code of a failure that says nothing of the server: the request has not left this process."""


def connections_in_use(seconds: float) -> NetworkError:
    """The error for an attempt that found no free connection for *seconds*."""
    return NetworkError(
        f"All connections to the Chat API were in use for {seconds:.3g} s; nothing was sent",
        code=CONNECTIONS_IN_USE,
    )
