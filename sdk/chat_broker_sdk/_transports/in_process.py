"""A transport without a network or a web server: the Chat API is a function in this process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from chat_broker_sdk._errors import ChatError
from chat_broker_sdk._log import log

from .base import LARGEST_BODY, Header, Request, Response, timed_out, too_large
from .loops import check_move

TICK = 0.02
"""Seconds within which a call whose time is up is ended."""

Answer = tuple[int, list[Header], bytes]
ServerFunction = Callable[[str, str, Iterable[Header], bytes | None], Awaitable[Answer]]


class DirectTransport:
    """Calls *serve*(method, path and query, headers, body), which answers (status, headers, body).

    Costs less than AsgiTransport, for a server that offers itself this way too. An exception of the
    server's is a 500; the deadline holds. *serve* runs in the caller's task and context. Needs asyncio.
    """

    def __init__(self, serve: ServerFunction) -> None:
        self._serve = serve
        # What is under way: when its time is up, and in which task it runs. Taken out once it is too late.
        self._ends: dict[Awaitable[Answer], tuple[float, asyncio.Task[Any]]] = {}
        self._clock: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; see Transport."""
        url = request.url
        target = url[url.index("/", url.index("://") + 3) :]
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if loop is not self._loop:
            check_move(self._loop)
            self._loop, self._clock, self._ends = loop, None, {}
        assert task is not None  # noqa: S101 - a coroutine that may wait runs in a task
        cancelled_before = task.cancelling()
        call = self._serve(request.method, target, request.headers, request.body)
        self._ends[call] = loop.time() + timeout, task
        # One timer serves all: each its own would cost more than a read.
        if self._clock is None:
            self._clock = loop.call_later(TICK, self._tick, loop)
        failure: ChatError
        late = others_too = False
        try:
            try:
                status, headers, body = await call
            finally:
                late = self._ends.pop(call, None) is None
                others_too = late and task.uncancel() > cancelled_before
        except asyncio.CancelledError:
            if not late or others_too:
                raise
            failure = timed_out(timeout)
        except TimeoutError:
            failure = timed_out(timeout)
        except Exception:  # noqa: BLE001 - whatever fails in a server, a client sees as its 500
            log.exception("chat_broker_sdk: the server behind DirectTransport failed")
            return Response(500)
        else:
            if len(body) <= LARGEST_BODY:
                return Response(status, headers, body)
            failure = too_large(status)
        raise failure

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for call, (ends, task) in list(self._ends.items()):
            if ends <= now:
                del self._ends[call]
                task.cancel()
        self._clock = loop.call_later(TICK, self._tick, loop) if self._ends else None

    async def aclose(self) -> None:
        """Nothing is open."""
