"""A transport without network or web server: the Chat API is a function in this process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from chat_broker_sdk._errors import ChatError
from chat_broker_sdk._log import log

from .base import LARGEST_BODY, Header, Request, Response, timed_out, too_large
from .loops import check_loop_closed

TIMEOUT_RESOLUTION = 0.02
"""Seconds after its deadline within which a call is ended."""

ServerResponse = tuple[int, list[Header], bytes]
ServerFunction = Callable[[str, str, Iterable[Header], bytes | None], Awaitable[ServerResponse]]


class DirectTransport:
    """Calls *serve*(method, path and query, headers, body), which returns (status, headers, body).

    Costs less than AsgiTransport. An exception of *serve* is a 500. *serve* is cancelled at the deadline, and runs in
    the calling task and context. For asyncio only.
    """

    def __init__(self, serve: ServerFunction) -> None:
        self._serve = serve
        # Calls under way, with their deadline and task. The timer removes those it cancels.
        self._calls: dict[Awaitable[ServerResponse], tuple[float, asyncio.Task[Any]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt, as Transport promises."""
        url = request.url
        target = url[url.index("/", url.index("://") + 3) :]
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if loop is not self._loop:
            check_loop_closed(self._loop)
            self._loop, self._timer, self._calls = loop, None, {}
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        cancelled_before = task.cancelling()
        call = self._serve(request.method, target, request.headers, request.body)
        self._calls[call] = loop.time() + timeout, task
        # One timer for all calls: one each would cost more than a read.
        if self._timer is None:
            self._timer = loop.call_later(TIMEOUT_RESOLUTION, self._tick, loop)
        failure: ChatError
        timed_out_here = cancelled_too = False
        try:
            try:
                status, headers, body = await call
            finally:
                timed_out_here = self._calls.pop(call, None) is None
                cancelled_too = timed_out_here and task.uncancel() > cancelled_before
        except asyncio.CancelledError:
            if not timed_out_here or cancelled_too:
                raise
            failure = timed_out(timeout)
        except TimeoutError:
            failure = timed_out(timeout)
        except Exception:  # noqa: BLE001 - a server's exception is a 500
            log.exception("chat_broker_sdk: the server behind DirectTransport failed")
            return Response(500)
        else:
            if len(body) <= LARGEST_BODY:
                return Response(status, headers, body)
            failure = too_large(status)
        raise failure

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for call, (deadline, task) in list(self._calls.items()):
            if deadline <= now:
                del self._calls[call]
                task.cancel()
        self._timer = loop.call_later(TIMEOUT_RESOLUTION, self._tick, loop) if self._calls else None

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""
