"""The default transport: httpx's connection pool, without httpx's client."""

import ssl
import time
from typing import TYPE_CHECKING, Any

from chat_broker_sdk._errors import ChatError
from chat_broker_sdk._log import limit_to_warnings
from chat_broker_sdk._transports.base import (
    Body,
    Request,
    Response,
    connections_in_use,
    network_error,
    not_http,
    timed_out,
)
from chat_broker_sdk._transports.connect_errors import connect_error
from chat_broker_sdk._waiting import AsyncHomeLoop, async_time_limit

from .stream import BOUNDED_STREAM, bound

if TYPE_CHECKING:
    import httpx  # optional, and long to load

_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2")  # HTTP/2 only with an *inner* of your own


class HttpxTransport:
    """Carries requests over httpx.

    It does not use httpx.AsyncClient: so there are no redirects, no proxies or netrc from the environment, no cookies
    and no log lines with URLs. Certificates are checked. *inner*: another httpx.AsyncBaseTransport, such as
    httpx.MockTransport or one with your own limits or proxy. *connect_timeout* is in seconds.
    """

    def __init__(
        self,
        inner: "httpx.AsyncBaseTransport | None" = None,
        *,
        connect_timeout: float = 1.0,
        max_connections: int = 100,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        import httpx  # a program with another transport need not load it

        limit_to_warnings("httpx", "httpcore")
        self._inner = inner
        self._connect_timeout = connect_timeout
        # uvicorn and Node close idle connections after 5 s: none that is about to be closed is reused.
        self._limits = httpx.Limits(
            max_connections=max_connections, max_keepalive_connections=20, keepalive_expiry=4.0
        )
        self._verify = verify
        self._pools: dict[bool, httpx.AsyncBaseTransport] = {}
        self._home = AsyncHomeLoop()

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt, as Transport promises."""
        import httpx  # as in __init__

        if self._home.loop_changed():
            self._pools.clear()
        deadline = time.monotonic() + timeout
        failure: ChatError
        try:
            with async_time_limit(timeout):
                return await self._send(request, timeout, deadline)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            failure = timed_out(timeout)
        except httpx.ConnectTimeout:
            failure = timed_out(min(timeout, self._connect_timeout))
        except httpx.PoolTimeout:
            failure = connections_in_use(timeout / 2)
        except httpx.ConnectError as error:
            failure = connect_error(error)
        except httpx.RemoteProtocolError as error:
            failure = network_error("the answer was cut off") if _cut_off(error) else not_http()
        except (httpx.HTTPError, OSError):
            failure = network_error("the connection broke")
        except ChatError as error:
            failure = error.with_traceback(None)
        except BaseException as interruption:  # noqa: BLE001 - a cancellation, raised again
            raise interruption.with_traceback(None)  # noqa: B904 - its frames hold the headers
        # Raised outside of the except clauses: httpx's exception, whose frames hold the headers, is not its context.
        raise failure

    async def _send(self, request: Request, seconds: float, deadline: float) -> Response:
        import httpx

        connect = min(seconds, self._connect_timeout)
        reply = await self._pool(request.url).handle_async_request(
            httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.body,
                extensions={
                    "timeout": {
                        "connect": connect,
                        "read": seconds,
                        "write": seconds,
                        # The server gets at least the other half.
                        "pool": seconds / 2,
                    }
                },
            )
        )
        try:
            headers = reply.headers
            if reply.is_stream_consumed:  # httpx.MockTransport's: complete and decompressed
                return Response(reply.status_code, headers.multi_items(), reply.content)
            body = Body(
                reply.status_code, headers.get("content-encoding"), headers.get("content-length")
            )
            if reply.extensions.get("http_version", b"HTTP/1.1") not in _VERSIONS:
                raise not_http()
            network = reply.extensions.get("network_stream")
            stream = None if network is None else network.get_extra_info(BOUNDED_STREAM)
            async for chunk in reply.aiter_raw():
                body.add(chunk)
                if stream is not None:
                    stream.body_received(len(chunk))
                if time.monotonic() > deadline:
                    raise timed_out(seconds)
            return Response(reply.status_code, headers.multi_items(), body.complete())
        finally:
            await reply.aclose()

    def _pool(self, url: str) -> "httpx.AsyncBaseTransport":
        if self._inner is not None:
            return self._inner
        import httpx

        encrypted = url.startswith("https:")
        if encrypted not in self._pools:
            # Reading the certificate store takes 20 ms, which a client of a plain-http server need not wait for.
            verify: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if encrypted:
                verify = self._verify or httpx.create_ssl_context(trust_env=False)
            self._pools[encrypted] = bound(
                httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=self._limits)
            )
        return self._pools[encrypted]

    async def aclose(self) -> None:
        """Close all connections."""
        if self._home.loop_changed():
            self._pools.clear()
        pools = [self._inner] if self._inner is not None else list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.aclose()


def _cut_off(error: Exception) -> bool:
    """Whether the server closed the connection, rather than send something that is not HTTP. httpx has one error for both."""
    return str(error).startswith(
        ("Server disconnected", "peer closed connection", "peer unexpectedly closed")
    )
