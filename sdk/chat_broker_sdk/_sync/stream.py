"""httpcore's network below SyncHttpxTransport, with the bounds it lacks: it reads interim responses without end, and a thread
that waits for the rest of a head looks at no clock."""

import ssl
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from chat_broker_sdk._log import log
from chat_broker_sdk._transports.base import (
    CHUNK_FRAMING,
    LARGEST_HEAD,
    no_http,
    timed_out,
    too_much_beside_the_body,
)

if TYPE_CHECKING:
    import httpcore
    import httpx

READ_AHEAD = 64 * 1024
"""Bytes that may have come and are not counted yet as body: httpcore's one read."""
BACKEND = "_network_backend"
"""Of httpcore's pool: what opens its connections."""
_NOTHING_READ = LARGEST_HEAD + READ_AHEAD

MYSELF = "chat_broker_sdk.bounded_stream"
"""What `get_extra_info` answers with the stream itself: httpcore hands out a wrapped one."""


def bound(transport: "httpx.HTTPTransport") -> "httpx.HTTPTransport":
    """Have *transport* open bounded streams. If httpx has changed, the log says so, and only the deadline bounds what is not the body."""
    pool: Any = getattr(transport, "_pool", None)
    if hasattr(pool, BACKEND):
        setattr(pool, BACKEND, BoundedBackend(getattr(pool, BACKEND)))
    else:
        log.warning("chat_broker_sdk: this httpx is not known: interim responses are unbounded")
    return transport


class BoundedBackend:
    """Opens bounded streams."""

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
        """See httpcore.NetworkBackend."""
        return BoundedStream(
            self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    def sleep(self, seconds: float) -> None:
        """See httpcore.NetworkBackend."""
        self._inner.sleep(seconds)


class BoundedStream:
    """One connection. A request begins with `write`; from then on its answer is counted, and its time runs."""

    def __init__(self, inner: "httpcore.NetworkStream") -> None:
        self._inner = inner
        self._beside = 0
        self._seconds = self._deadline = 0.0

    def body_received(self, size: int) -> None:
        """*size* bytes of what was read were a piece of the body."""
        self._beside += size + CHUNK_FRAMING

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        """See httpcore.NetworkStream. Raises ChatError where an answer is too long or too late."""
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise timed_out(self._seconds)
        patience = remaining if timeout is None else min(timeout, remaining)
        data = self._inner.read(max_bytes, patience)
        if self._beside == _NOTHING_READ and data[:5] != b"HTTP/"[: len(data)]:
            raise no_http()  # h11 would wait for the end of a head
        self._beside -= len(data)
        if self._beside < 0:
            raise too_much_beside_the_body()
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's signature
        """See httpcore.NetworkStream. *timeout* is the whole call's."""
        self._beside = _NOTHING_READ
        self._seconds = timeout or 0.0
        self._deadline = time.monotonic() + self._seconds
        self._inner.write(buffer, timeout)

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> "BoundedStream":
        """See httpcore.NetworkStream."""
        return BoundedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def close(self) -> None:
        """See httpcore.NetworkStream."""
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        """See httpcore.NetworkStream."""
        return self if info == MYSELF else self._inner.get_extra_info(info)
