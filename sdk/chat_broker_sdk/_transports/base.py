"""The transport interface: a Request in, a Response out. The code above it knows no HTTP library."""

import importlib.util
import zlib
from contextlib import suppress
from typing import Protocol, runtime_checkable

from chat_broker_sdk import _errors
from chat_broker_sdk._errors import ConfigurationError, NetworkError, ServerError, bad_response

LARGEST_BODY = 16 * 1024 * 1024
"""Bytes. More than the contract's largest response: a page by number of 200 messages of maximum length."""
LARGEST_HEAD = 64 * 1024
"""Bytes of a response besides its body: all heads, including interim ones, chunk extensions and trailers."""
CHUNK_FRAMING = 16
"""Bytes around a chunk that do not count against LARGEST_HEAD: its size, perhaps with leading zeros, and line ends."""

Header = tuple[str, str]


def require_library(name: str, user: str) -> None:
    """Raise ConfigurationError (`NAME_missing`) unless the optional library *name* is installed."""
    if importlib.util.find_spec(name) is None:
        raise ConfigurationError(f"{user} needs {name}: pip install {name}", code=f"{name}_missing")


class Request:
    """One HTTP request. The repr shows no header values and no body: they hold credentials.

    *shared*: headers before the request's own. It is one tuple object for all requests of a client, so that a transport
    can cache its encoding.
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
        """The shared headers and the request's own."""
        return self.shared + self.own

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url.partition('?')[0]}>"


class Response:
    """One HTTP response, read to its end. The repr does not show the body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: list[Header] | None = None, body: bytes = b"") -> None:
        self.status = status
        self.headers = headers if headers is not None else []
        self.body = body

    def header(self, name: str) -> str | None:
        """The first header of that name, case-insensitive; None if there is none."""
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

    `send` makes exactly one attempt, follows no redirect, keeps no cookie, and ends within *timeout* seconds. It
    returns a response of any status. It raises TimeoutError at the deadline, and NetworkError without a complete
    response.
    """

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the transport knows best how to stop
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


@runtime_checkable
class SyncTransport(Protocol):
    """Carries requests for ChatClient, with the promises of Transport."""

    def send(self, request: Request, *, timeout: float) -> Response: ...

    def close(self) -> None:
        """Close all connections."""
        ...


def too_large(status: int) -> ServerError:
    """The error for a body above LARGEST_BODY, compressed or not."""
    return bad_response(f"the body is larger than {LARGEST_BODY} bytes", status=status)


class Inflater:
    """Decompresses gzip or deflate as it arrives, and checks that it is complete."""

    __slots__ = ("_decompressor", "_received", "_status")

    def __init__(self, status: int) -> None:
        self._status = status
        self._decompressor = zlib.decompressobj(wbits=47)
        self._received = 0

    def decompress(self, chunk: bytes, max_size: int) -> bytes:
        """The plain bytes of *chunk*, at most *max_size* + 1: a decompression bomb is not decompressed whole.

        Raises ServerError if the data is corrupt, continues after its end, or is too large even compressed.
        """
        self._received += len(chunk)
        if self._received > LARGEST_BODY:
            raise too_large(self._status)
        if self._decompressor.eof and chunk:
            raise bad_response("the body goes on after its compression's end", status=self._status)
        plain = None
        with suppress(zlib.error):
            plain = self._decompressor.decompress(chunk, max_size + 1)
        if plain is None:
            raise bad_response("the body's compression is broken", status=self._status)
        if self._decompressor.unused_data:
            raise bad_response("the body goes on after its compression's end", status=self._status)
        return plain

    def check_end(self) -> None:
        """Raise ServerError if the compressed data is incomplete."""
        if self._received and not self._decompressor.eof:
            raise bad_response("the body's compression ends too early", status=self._status)


def inflater(encoding: str | None, status: int) -> Inflater | None:
    """The Inflater for a Content-Encoding; None for a plain body. Raises ServerError for an unknown encoding."""
    names = [name.strip().lower() for name in (encoding or "").split(",")]
    encodings = [name for name in names if name not in {"", "identity"}]
    if not encodings:
        return None
    if encodings not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise bad_response("the body has an encoding that was not asked for", status=status)
    return Inflater(status)


class Body:
    """Collects a body as it arrives. *declared*: its Content-Length. Raises ServerError above LARGEST_BODY."""

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
        """Add a piece. Raises ServerError above LARGEST_BODY."""
        if self._inflater is not None:
            chunk = self._inflater.decompress(chunk, LARGEST_BODY - self._size)
        self._size += len(chunk)
        if self._size > LARGEST_BODY:
            raise too_large(self._status)
        # Nearly all bodies arrive in one piece, which is not copied. A bytearray also holds a million pieces of one byte.
        if not self._first:
            self._first = chunk
        elif self._more is None:
            self._more = bytearray(self._first + chunk)
        else:
            self._more += chunk

    def complete(self) -> bytes:
        """The whole body. Raises ServerError if its compressed data is incomplete."""
        if self._inflater is not None:
            self._inflater.check_end()
        return self._first if self._more is None else bytes(self._more)


def not_http() -> ServerError:
    """The error for a response that is not valid HTTP."""
    return bad_response("it is no HTTP", status=None)


def overhead_too_large() -> ServerError:
    """The error for heads, interim responses, chunk extensions or trailers above LARGEST_HEAD."""
    return bad_response(
        f"more than {LARGEST_HEAD} bytes of it are neither body nor framing", status=None
    )


def timed_out(timeout: float) -> _errors.TimeoutError:
    """The error for an attempt that took longer than *timeout* seconds."""
    return _errors.TimeoutError(
        f"The Chat API did not answer within {timeout:.3g} s", code="timeout"
    )


def network_error(how: str) -> NetworkError:
    """The error for an attempt without a response. *how* is the SDK's own text: a library's may hold the URL."""
    return NetworkError(f"The Chat API could not be reached: {how}", code="network_error")


CONNECTIONS_IN_USE = "connections_in_use"
"""The code of a failure that is not the server's: the request has not left this process."""


def connections_in_use(seconds: float) -> NetworkError:
    """The error for an attempt that got no connection within *seconds*."""
    return NetworkError(
        f"All connections to the Chat API were in use for {seconds:.3g} s; nothing was sent",
        code=CONNECTIONS_IN_USE,
    )
