"""The default transport: httpx's connection pool, without the client around it."""

import ssl
import time
from typing import TYPE_CHECKING, Any

from chat_broker_sdk._errors import ChatError
from chat_broker_sdk._quiet import quiet
from chat_broker_sdk._transports.base import (
    Body,
    Request,
    Response,
    connections_in_use,
    no_http,
    not_reached,
    timed_out,
)
from chat_broker_sdk._transports.unreachable import no_connection
from chat_broker_sdk._waiting import AsyncHomeLoop, async_deadline

from .stream import MYSELF, bound

if TYPE_CHECKING:
    import httpx  # optional, and long to load

_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2")  # the last: of a transport of your own


class HttpxTransport:
    """Carries requests over httpx.

    Below httpx.AsyncClient on purpose: no redirects, no proxies or netrc from the environment, no cookies
    and no log line with the URL can happen there. Certificates are checked. *inner* is any
    httpx.AsyncBaseTransport, such as httpx.MockTransport or one made with your own limits or proxy.
    """

    def __init__(
        self,
        inner: "httpx.AsyncBaseTransport | None" = None,
        *,
        connect_timeout: float = 1.0,
        max_connections: int = 100,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        # In the functions that use it: a program with another transport starts without it.
        import httpx  # as above

        quiet("httpx", "httpcore")
        self._inner = inner
        self._connect_timeout = connect_timeout
        # Below the 5 s after which uvicorn and Node hang up: a connection about to die is not reused.
        self._limits = httpx.Limits(
            max_connections=max_connections, max_keepalive_connections=20, keepalive_expiry=4.0
        )
        self._verify = verify
        self._pools: dict[bool, httpx.AsyncBaseTransport] = {}
        self._home = AsyncHomeLoop()

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; see Transport."""
        import httpx  # as above

        if self._home.moved():
            self._pools.clear()
        ends = time.monotonic() + timeout
        failure: ChatError
        try:
            with async_deadline(timeout):
                return await self._send(request, timeout, ends)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            failure = timed_out(timeout)
        except httpx.ConnectTimeout:
            failure = timed_out(min(timeout, self._connect_timeout))
        except httpx.PoolTimeout:
            failure = connections_in_use(timeout / 2)
        except httpx.ConnectError as error:
            failure = no_connection(error)
        except httpx.RemoteProtocolError as error:
            failure = not_reached("the answer was cut off") if _cut_off(error) else no_http()
        except (httpx.HTTPError, OSError):
            failure = not_reached("the connection broke")
        except ChatError as error:
            failure = error.with_traceback(None)
        except BaseException as interruption:  # noqa: BLE001 - a cancellation, passed on
            raise interruption.with_traceback(None)  # noqa: B904 - its frames know the headers
        # Raised out here, so that the library's exception, whose frames know the headers, is not its context.
        raise failure

    async def _send(self, request: Request, seconds: float, ends: float) -> Response:
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
                        # The other half is a fair time for the server.
                        "pool": seconds / 2,
                    }
                },
            )
        )
        try:
            headers = reply.headers
            if (
                reply.is_stream_consumed
            ):  # httpx.MockTransport's: there from the start, and unpacked
                return Response(reply.status_code, headers.multi_items(), reply.content)
            body = Body(
                reply.status_code, headers.get("content-encoding"), headers.get("content-length")
            )
            if reply.extensions.get("http_version", b"HTTP/1.1") not in _VERSIONS:
                raise no_http()
            network = reply.extensions.get("network_stream")
            stream = None if network is None else network.get_extra_info(MYSELF)
            async for chunk in reply.aiter_raw():
                body.add(chunk)
                if stream is not None:
                    stream.body_received(len(chunk))
                if time.monotonic() > ends:
                    raise timed_out(seconds)
            return Response(reply.status_code, headers.multi_items(), body.whole())
        finally:
            await reply.aclose()

    def _pool(self, url: str) -> "httpx.AsyncBaseTransport":
        if self._inner is not None:
            return self._inner
        import httpx

        encrypted = url.startswith("https:")
        if encrypted not in self._pools:
            # Reading the certificate store takes 20 ms; a client of a plain-http neighbour need not.
            verify: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if encrypted:
                verify = self._verify or httpx.create_ssl_context(trust_env=False)
            self._pools[encrypted] = bound(
                httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=self._limits)
            )
        return self._pools[encrypted]

    async def aclose(self) -> None:
        """Close all connections."""
        if self._home.moved():
            self._pools.clear()
        pools = [self._inner] if self._inner is not None else list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.aclose()


def _cut_off(error: Exception) -> bool:
    """Did the server hang up, rather than answer something that is no HTTP? httpx has one error for both."""
    return str(error).startswith(
        ("Server disconnected", "peer closed connection", "peer unexpectedly closed")
    )
