"""The fast transport: aiohttp's client, which spends a fraction of httpx's time on a call."""

import asyncio
import importlib.util
import ssl
import time
from typing import TYPE_CHECKING

from ._errors import ChatError, ConfigurationError
from ._transport import Body, Request, Response, not_reached, timed_out
from ._turns import Turns

if TYPE_CHECKING:
    import aiohttp
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
        self._addresses: dict[str, URL] = {}

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; see Transport."""
        import aiohttp

        failure: ChatError
        ends = time.monotonic() + timeout
        try:
            if not self._turns.take():
                await self._turns.wait(timeout)
            # One turn is this call's from here to the `finally`, whatever happens.
            try:
                return await self._send(request, ends - time.monotonic())
            finally:
                self._turns.give_back()
        except TimeoutError:
            failure = timed_out(timeout)
        except aiohttp.ClientConnectorError:
            failure = not_reached("no connection")
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError):
            failure = not_reached("the answer was cut off")
        except aiohttp.ClientResponseError:
            failure = not_reached("the answer is no HTTP")
        except (aiohttp.ClientError, OSError):
            failure = not_reached("the connection broke")
        except ChatError as error:
            failure = error.with_traceback(None)
        except asyncio.CancelledError as error:
            raise error.with_traceback(None)  # noqa: B904 - aiohttp's frames hold the headers
        raise failure

    async def _send(self, request: Request, seconds: float) -> Response:
        import aiohttp
        from multidict import CIMultiDict
        from yarl import URL

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
            body = Body(
                reply.status, headers.get("Content-Encoding"), headers.get("Content-Length")
            )
            async for chunk in reply.content.iter_any():
                body.add(chunk)
            return Response(reply.status, list(headers.items()), body.whole())

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # `_turns` is the limit: aiohttp's own loses a wake-up if who is woken has just been cancelled.
                limit=0,
                # Below the 5 s after which uvicorn and Node hang up.
                keepalive_timeout=4.0,
                ssl=self._verify or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        return self._session

    async def aclose(self) -> None:
        """Close all connections."""
        self._turns.send_away()
        session, self._session = self._session, None
        if session is not None:
            await session.close()
