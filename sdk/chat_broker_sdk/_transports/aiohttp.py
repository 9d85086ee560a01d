"""A transport over aiohttp's client, which is several times faster than httpx."""

import asyncio
import ssl
import time
from typing import TYPE_CHECKING

from chat_broker_sdk._cache import put_bounded
from chat_broker_sdk._errors import ChatError

from .base import (
    LARGEST_HEAD,
    Body,
    Request,
    Response,
    network_error,
    not_http,
    require_library,
    timed_out,
)
from .connect_errors import connect_error
from .connection_limit import ConnectionLimit
from .loops import check_loop_closed

if TYPE_CHECKING:
    import aiohttp  # optional, and long to load
    from yarl import URL

MAX_CACHED_URLS = 1024


class AiohttpTransport:
    """Carries requests over aiohttp (`pip install aiohttp`). For asyncio only.

    No redirects, no proxies or netrc from the environment, no cookies. Certificates are checked. *connect_timeout* is in
    seconds.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 1.0,
        max_connections: int = 100,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        require_library("aiohttp", "AiohttpTransport")
        self._connect_timeout = connect_timeout
        self._limit = ConnectionLimit(max_connections)
        self._verify = verify
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._addresses: dict[str, URL] = {}

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt, as Transport promises."""
        import aiohttp  # as for the types above

        if asyncio.get_running_loop() is not self._loop:
            await self._change_loop()
        failure: ChatError
        deadline = time.monotonic() + timeout
        limit = self._limit
        try:
            if not limit.try_acquire():
                await limit.acquire(timeout)
            # This call holds a slot from here to the `finally`.
            try:
                return await self._send(request, deadline - time.monotonic())
            finally:
                limit.release()
        except TimeoutError:
            failure = timed_out(timeout)
        except aiohttp.ClientConnectorError as error:
            failure = connect_error(error)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError):
            failure = network_error("the answer was cut off")
        except (aiohttp.ClientResponseError, aiohttp.http.HttpProcessingError):
            failure = not_http()
        except (aiohttp.ClientError, OSError):
            failure = network_error("the connection broke")
        except ChatError as error:
            failure = error.with_traceback(None)
        except asyncio.CancelledError as error:
            raise error.with_traceback(None)  # noqa: B904 - aiohttp's frames hold the headers
        raise failure

    async def _change_loop(self) -> None:
        """Start over on the running loop. Raises ConfigurationError if the earlier loop is not closed."""
        check_loop_closed(self._loop)
        # Set before the first await: calls that begin meanwhile are on this loop.
        self._loop = asyncio.get_running_loop()
        self._limit = ConnectionLimit(self._limit.size)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(self, request: Request, seconds: float) -> Response:
        import aiohttp  # as for the types above
        from multidict import CIMultiDict
        from yarl import URL

        from .aiohttp_handler import BoundedHandler

        session = self._session or self._open()
        address = self._addresses.get(request.url)
        if address is None:
            parsed = URL(request.url, encoded=True)
            address = put_bounded(self._addresses, request.url, parsed, MAX_CACHED_URLS)
        async with session.request(
            request.method,
            address,
            headers=CIMultiDict(request.headers),
            data=request.body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=seconds, sock_connect=min(seconds, self._connect_timeout)
            ),
        ) as reply:
            headers = reply.headers
            transfer = ", ".join(headers.getall("Transfer-Encoding", ()))
            if reply.status == 101 or transfer.strip().lower() not in {"", "chunked"}:
                raise not_http()
            encoding = ", ".join(headers.getall("Content-Encoding", ()))
            body = Body(reply.status, encoding, headers.get("Content-Length"))
            # Not iter_chunks, which never ends for a response without body.
            while not reply.content.at_eof():
                data, end_of_chunk = await reply.content.readchunk()
                body.add(data)
                # None after the last byte.
                if reply.connection is not None and isinstance(
                    handler := reply.connection.protocol, BoundedHandler
                ):
                    handler.body_received(len(data), chunk=end_of_chunk)
            return Response(reply.status, list(headers.items()), body.complete())

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp

        from .aiohttp_handler import bound

        connector = aiohttp.TCPConnector(
            # `_limit` limits instead: aiohttp's own limit loses a wake-up when the woken call has just been cancelled.
            limit=0,
            # uvicorn and Node close idle connections after 5 s.
            keepalive_timeout=4.0,
            ssl=self._verify or True,
        )
        bound(connector)
        self._session = aiohttp.ClientSession(
            connector=connector,
            max_line_size=LARGEST_HEAD,
            max_field_size=LARGEST_HEAD,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        return self._session

    async def aclose(self) -> None:
        """Close all connections."""
        if self._loop is not None and not self._loop.is_closed():
            self._limit.refuse_waiting()
        session, self._session = self._session, None
        if session is not None:
            await session.close()
