"""The fast transport: aiohttp's client, which spends a fraction of httpx's time on a call."""

import asyncio
import importlib.util
import ssl
import time
from typing import TYPE_CHECKING

from chat_broker_sdk._errors import ChatError, ConfigurationError

from .base import LARGEST_HEAD, Body, Request, Response, no_http, not_reached, timed_out
from .loops import check_move
from .turns import Turns
from .unreachable import no_connection

if TYPE_CHECKING:
    import aiohttp  # optional, and long to load
    from yarl import URL


class AiohttpTransport:
    """Carries requests over aiohttp (`pip install aiohttp`). For asyncio only.

    No redirects, no proxies or netrc from the environment, no cookies; certificates are checked.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 1.0,
        max_connections: int = 100,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        if importlib.util.find_spec("aiohttp") is None:
            raise ConfigurationError(
                "AiohttpTransport needs aiohttp: pip install aiohttp",
                code="aiohttp_missing",
            )
        self._connect_timeout = connect_timeout
        self._turns = Turns(max_connections)
        self._verify = verify
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._addresses: dict[str, URL] = {}

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; see Transport."""
        import aiohttp  # as above, with what comes with it

        if asyncio.get_running_loop() is not self._loop:
            await self._move()
        failure: ChatError
        ends = time.monotonic() + timeout
        turns = self._turns
        try:
            if not turns.take():
                await turns.wait(timeout)
            # One turn is this call's from here to the `finally`, whatever happens.
            try:
                return await self._send(request, ends - time.monotonic())
            finally:
                turns.give_back()
        except TimeoutError:
            failure = timed_out(timeout)
        except aiohttp.ClientConnectorError as error:
            failure = no_connection(error)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError):
            failure = not_reached("the answer was cut off")
        except (aiohttp.ClientResponseError, aiohttp.http.HttpProcessingError):
            failure = no_http()
        except (aiohttp.ClientError, OSError):
            failure = not_reached("the connection broke")
        except ChatError as error:
            failure = error.with_traceback(None)
        except asyncio.CancelledError as error:
            raise error.with_traceback(None)  # noqa: B904 - aiohttp's frames hold the headers
        raise failure

    async def _move(self) -> None:
        """Begin on the loop that runs now. What an earlier one, which is closed, has left is of no use."""
        check_move(self._loop)
        # Before anything is waited for: calls that begin meanwhile are on this loop.
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(self._turns.most)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(self, request: Request, seconds: float) -> Response:
        import aiohttp  # as above, with what comes with it
        from multidict import CIMultiDict
        from yarl import URL

        from .aiohttp_handler import BoundedHandler

        session = self._session or self._open()
        address = self._addresses.get(request.url)
        if address is None:
            if len(self._addresses) > 1000:
                self._addresses.clear()
            address = self._addresses[request.url] = URL(request.url, encoded=True)
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
                raise no_http()
            encoding = ", ".join(headers.getall("Content-Encoding", ()))
            body = Body(reply.status, encoding, headers.get("Content-Length"))
            # Not iter_chunks, which never ends where there is no body.
            while not reply.content.at_eof():
                data, end_of_chunk = await reply.content.readchunk()
                body.add(data)
                # None once all has come: then there is nothing to count any more.
                if reply.connection is not None and isinstance(
                    handler := reply.connection.protocol, BoundedHandler
                ):
                    handler.body_received(len(data), chunk=end_of_chunk)
            return Response(reply.status, list(headers.items()), body.whole())

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp

        from .aiohttp_handler import bound

        connector = aiohttp.TCPConnector(
            # `_turns` is the limit: aiohttp's own loses a wake-up if who is woken has just been cancelled.
            limit=0,
            # Below the 5 s after which uvicorn and Node hang up.
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
            self._turns.send_away()
        session, self._session = self._session, None
        if session is not None:
            await session.close()
