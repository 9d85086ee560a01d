"""The network layer below SyncHttpxTransport, with two bounds that httpcore lacks: the bytes of interim responses, and the
time a thread waits for the rest of a head."""

import ssl
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from chat_broker_sdk._log import log
from chat_broker_sdk._transports.base import (
    CHUNK_FRAMING,
    LARGEST_HEAD,
    not_http,
    overhead_too_large,
    timed_out,
)

if TYPE_CHECKING:
    import httpcore
    import httpx

READ_AHEAD = 64 * 1024
"""Bytes that may have been read and not yet been counted as body: one read of httpcore's."""
BACKEND = "_network_backend"
"""The private attribute of httpcore's pool that opens connections."""
_FULL_ALLOWANCE = LARGEST_HEAD + READ_AHEAD

BOUNDED_STREAM = "chat_broker_sdk.bounded_stream"
"""The key with which `get_extra_info` returns the BoundedStream: httpcore passes a wrapped one on."""


def bound(transport: "httpx.HTTPTransport") -> "httpx.HTTPTransport":
    """Make *transport* open bounded streams. If httpx has changed, log a warning: interim responses are then unbounded."""
    pool: Any = getattr(transport, "_pool", None)
    if hasattr(pool, BACKEND):
        setattr(pool, BACKEND, BoundedBackend(getattr(pool, BACKEND)))
    else:
        log.warning("chat_broker_sdk: this httpx is not known: interim responses are unbounded")
    return transport


class BoundedBackend:
    """An httpcore.NetworkBackend that opens bounded streams. Methods without a docstring are httpcore's."""

    def __init__(self, inner: "httpcore.NetworkBackend") -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> "BoundedStream":
        return BoundedStream(
            self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class BoundedStream:
    """One connection. A `write` begins a request: its deadline, and the count of bytes that are not its response's body.

    Methods without a docstring are httpcore's.
    """

    def __init__(self, inner: "httpcore.NetworkStream") -> None:
        self._inner = inner
        self._overhead_left = 0
        self._seconds = self._deadline = 0.0

    def body_received(self, size: int) -> None:
        """Count *size* bytes that have been read as a piece of the body."""
        self._overhead_left += size + CHUNK_FRAMING

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        """At most *max_bytes* bytes. Raises ChatError for a response that is too long or too late."""
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise timed_out(self._seconds)
        limit = remaining if timeout is None else min(timeout, remaining)
        data = self._inner.read(max_bytes, limit)
        if self._overhead_left == _FULL_ALLOWANCE and data[:5] != b"HTTP/"[: len(data)]:
            raise not_http()  # h11 would wait for the end of a head
        self._overhead_left -= len(data)
        if self._overhead_left < 0:
            raise overhead_too_large()
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's signature
        """Send *buffer*. *timeout* is that of the whole attempt."""
        self._overhead_left = _FULL_ALLOWANCE
        self._seconds = timeout or 0.0
        self._deadline = time.monotonic() + self._seconds
        self._inner.write(buffer, timeout)

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> "BoundedStream":
        return BoundedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self if info == BOUNDED_STREAM else self._inner.get_extra_info(info)
