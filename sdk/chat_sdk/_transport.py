"""The seam: method, URL, headers, body in; status, headers, body out. Everything above it knows no HTTP library."""

import zlib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from . import _errors
from ._errors import NetworkError, ServerError, bad_response

LARGEST_BODY = 8 * 1024 * 1024
"""Above the largest answer that the contract allows: a page by number of 200 messages, each as long as it may be."""

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


def inflater(encoding: str | None, status: int) -> Callable[[bytes, int], bytes] | None:
    """A function (chunk, room) → plain bytes, never more than *room* + 1 of them; None if nothing is to be done.

    The limit is inside the decompressor: a bomb is not unpacked first and measured afterwards.
    """
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return None
    if name not in {"gzip", "x-gzip", "deflate"}:
        raise bad_response("the body has an encoding that was not asked for", status=status)
    unpack = zlib.decompressobj(wbits=47)

    def inflate(chunk: bytes, room: int) -> bytes:
        broken = False
        plain = b""
        try:
            plain = unpack.decompress(chunk, room + 1)
        except zlib.error:
            broken = True
        if broken:
            raise bad_response("the body's compression is broken", status=status)
        return plain

    return inflate


class Body:
    """Collects a body as it arrives and stops at the limit."""

    __slots__ = ("_inflate", "_parts", "_size", "_status")

    def __init__(self, status: int, encoding: str | None, declared: str | None) -> None:
        self._status = status
        self._inflate = None if encoding is None else inflater(encoding, status)
        self._parts: list[bytes] = []
        self._size = 0
        if declared is not None and declared.isdigit() and int(declared[:20]) > LARGEST_BODY:
            raise too_large(status)

    def add(self, chunk: bytes) -> None:
        """One more piece; ServerError once it is too much."""
        if self._inflate is not None:
            chunk = self._inflate(chunk, LARGEST_BODY - self._size)
        self._size += len(chunk)
        if self._size > LARGEST_BODY:
            raise too_large(self._status)
        self._parts.append(chunk)

    def whole(self) -> bytes:
        """Everything that came."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


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
