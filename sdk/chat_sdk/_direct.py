"""A transport without a network or a web server: the Chat API is a function in this process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from ._errors import ChatError
from ._transport import LARGEST_BODY, Header, Request, Response, timed_out, too_large

_log = logging.getLogger("chat_sdk")

ServerFunction = Callable[
    [str, str, Iterable[Header], bytes | None], Awaitable[tuple[int, list[Header], bytes]]
]


class DirectTransport:
    """Calls *serve*(method, path and query, headers, body), which answers (status, headers, body).

    Costs less than AsgiTransport, for a server that offers itself this way too. An exception of the
    server's is a 500; the deadline holds. *serve* runs in the caller's task and context. Needs asyncio.
    """

    def __init__(self, serve: ServerFunction) -> None:
        self._serve = serve

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; see Transport."""
        url = request.url
        target = url[url.index("/", url.index("://") + 3) :]
        failure: ChatError
        try:
            async with asyncio.timeout(timeout):
                status, headers, body = await self._serve(
                    request.method, target, request.headers, request.body
                )
        except TimeoutError:
            failure = timed_out(timeout)
        except Exception:  # noqa: BLE001 - whatever fails in a server, a client sees as its 500
            _log.exception("chat_sdk: the server behind DirectTransport failed")
            return Response(500)
        else:
            if len(body) <= LARGEST_BODY:
                return Response(status, headers, body)
            failure = too_large(status)
        raise failure

    async def aclose(self) -> None:
        """Nothing is open."""
