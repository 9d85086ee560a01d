"""A transport without a network or a web server: the Chat API is a function in this process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any

from ._errors import ChatError
from ._transport import LARGEST_BODY, Header, Request, Response, timed_out, too_large

_log = logging.getLogger("chat_sdk")

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
        self._waiting: set[_Waiting] = set()
        self._clock: asyncio.TimerHandle | None = None

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        """One attempt; see Transport."""
        url = request.url
        target = url[url.index("/", url.index("://") + 3) :]
        steps = self._serve(request.method, target, request.headers, request.body).__await__()
        failure: ChatError
        try:
            try:
                # Most calls never wait, and what does not wait cannot be ended: no deadline is set up for it.
                waits_for = next(steps)
            except StopIteration as end:
                status, headers, body = end.value
            else:
                status, headers, body = await self._rest(_Waiting(steps, waits_for), timeout)
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

    async def _rest(self, waiting: "_Waiting", timeout: float) -> Answer:  # noqa: ASYNC109 - passed on
        """What is left of a call, within *timeout*; one timer serves all: each its own would cost more than a read."""
        loop = asyncio.get_running_loop()
        waiting.ends = loop.time() + timeout
        self._waiting.add(waiting)
        if self._clock is None:
            self._clock = loop.call_later(TICK, self._tick, loop)
        try:
            answer = await waiting
        except asyncio.CancelledError:
            if waiting.is_over and waiting.task.uncancel() <= waiting.cancelled_before:
                raise TimeoutError from None
            raise
        finally:
            self._waiting.discard(waiting)
        if waiting.is_over:
            waiting.task.uncancel()  # too late: the answer is there
        return answer

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for waiting in self._waiting:
            if waiting.ends <= now and not waiting.is_over:
                waiting.is_over = True
                waiting.task.cancel()
        self._clock = loop.call_later(TICK, self._tick, loop) if self._waiting else None

    async def aclose(self) -> None:
        """Nothing is open."""


class _Waiting:
    """A call that has begun, and now waits for something."""

    __slots__ = ("_steps", "_waits_for", "cancelled_before", "ends", "is_over", "task")

    def __init__(self, steps: Generator[Any, Any, Answer], waits_for: Any) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that waits runs in a task
        self._steps = steps
        self._waits_for = waits_for
        self.task = task
        self.cancelled_before = task.cancelling()
        self.ends = 0.0
        self.is_over = False

    def __await__(self) -> Generator[Any, Any, Answer]:
        steps, waits_for = self._steps, self._waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - cancellation belongs to the server first
                    waits_for = steps.throw(error)
                else:
                    waits_for = steps.send(value)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
