"""The handlers of a live connection, and the queue of events that wait for them."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from chat_broker_sdk._log import log

MAX_WAITING = 1000
"""How many events may wait for slow handlers before messages are left on the server."""

Handler = Callable[..., Any]
Runner = Callable[[Handler, tuple[Any, ...]], Awaitable[None]]


async def run_here(handler: Handler, args: tuple[Any, ...]) -> None:
    """Call *handler* on the running loop, and await its result if it is awaitable."""
    result = handler(*args)
    if inspect.isawaitable(result):
        await result


class Handlers:
    """Calls handlers for events in order, one at a time. An exception of a handler is logged; the others still run.

    *run* calls a handler: on the event loop, or on another thread for synchronous code.
    """

    def __init__(self, run: Runner = run_here) -> None:
        self._run = run
        self._by_event: dict[str, list[Handler]] = {}
        self._queue: asyncio.Queue[tuple[str, tuple[Any, ...]] | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_room = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many events wait for their handlers."""
        return 0 if self._queue is None else self._queue.qsize()

    @property
    def full(self) -> bool:
        """Whether messages must be left on the server."""
        return self.waiting >= MAX_WAITING

    async def wait_for_room(self) -> None:
        """Return when at most half of MAX_WAITING events wait."""
        while self.waiting > MAX_WAITING // 2:
            self._has_room.clear()
            await self._has_room.wait()

    def has(self, event: str) -> bool:
        """Whether the event has a handler."""
        return bool(self._by_event.get(event))

    def add(self, event: str, handler: Handler) -> None:
        self._by_event.setdefault(event, []).append(handler)

    def remove(self, handler: Handler) -> None:
        for handlers in self._by_event.values():
            while handler in handlers:
                handlers.remove(handler)

    def dispatch(self, event: str, *args: Any) -> None:
        """Queue an event for its handlers, if it has any."""
        if self._queue is not None and self.has(event):
            self._queue.put_nowait((event, args))

    def start(self) -> None:
        if self._task is None or self._task.done():
            self._queue, self._has_room = asyncio.Queue(), asyncio.Event()
            self._task = asyncio.create_task(
                self._run_all(self._queue), name="chat_broker_sdk handlers"
            )

    async def stop(self) -> None:
        """Return when the queued events are handled. Called by a handler, it returns at once."""
        if self._queue is not None:
            self._queue.put_nowait(None)
            self._queue = None
        task = self._task
        if task is not None and not task.done() and task is not asyncio.current_task():
            await asyncio.wait([task])

    async def _run_all(self, queue: asyncio.Queue[tuple[str, tuple[Any, ...]] | None]) -> None:
        while (queued := await queue.get()) is not None:
            event, args = queued
            if queue.qsize() <= MAX_WAITING // 2:
                self._has_room.set()
            for handler in tuple(self._by_event.get(event, ())):
                try:
                    await self._run(handler, args)
                except Exception:  # noqa: BLE001 - the application's function; logged
                    log.exception("chat_broker_sdk: a handler of %s failed", event)
