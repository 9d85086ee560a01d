"""Who wants to hear of what on a live connection, and telling them one after the other."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from chat_broker_sdk._log import log

MOST_WAITING = 1000
"""So many events may wait for slow handlers before messages are left with the server."""

Handler = Callable[..., Any]
Runner = Callable[[Handler, tuple[Any, ...]], Awaitable[None]]


async def run_here(handler: Handler, args: tuple[Any, ...]) -> None:
    """Call *handler* on this loop and wait for it if it is asynchronous."""
    result = handler(*args)
    if inspect.isawaitable(result):
        await result


class Handlers:
    """Tells handlers of events in order, one at a time; a failing one is logged and the rest are told.

    *run* says where a handler runs: on the loop, or on a thread of its own for synchronous code.
    """

    def __init__(self, run: Runner = run_here) -> None:
        self._run = run
        self._wanted: dict[str, list[Handler]] = {}
        self._queue: asyncio.Queue[tuple[str, tuple[Any, ...]] | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_room = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many events are not told yet."""
        return 0 if self._queue is None else self._queue.qsize()

    @property
    def full(self) -> bool:
        """Whether too many events wait already."""
        return self.waiting >= MOST_WAITING

    async def room(self) -> None:
        """Return when half of the events that may wait do so, or fewer."""
        while self.waiting > MOST_WAITING // 2:
            self._has_room.clear()
            await self._has_room.wait()

    def add(self, event: str, handler: Handler) -> None:
        """*handler* hears of *event* from now on."""
        self._wanted.setdefault(event, []).append(handler)

    def remove(self, handler: Handler) -> None:
        """*handler* hears of nothing any more."""
        for handlers in self._wanted.values():
            while handler in handlers:
                handlers.remove(handler)

    def tell(self, event: str, *args: Any) -> None:
        """Queue one event; returns at once."""
        if self._queue is not None and self._wanted.get(event):
            self._queue.put_nowait((event, args))

    def start(self) -> None:
        """Begin telling."""
        if self._task is None or self._task.done():
            self._queue, self._has_room = asyncio.Queue(), asyncio.Event()
            self._task = asyncio.create_task(
                self._tell_all(self._queue), name="chat_broker_sdk handlers"
            )

    async def stop(self) -> None:
        """Tell what is queued, then end. Called by a handler, it returns before that."""
        if self._queue is not None:
            self._queue.put_nowait(None)
            self._queue = None
        task = self._task
        if task is not None and not task.done() and task is not asyncio.current_task():
            await asyncio.wait([task])

    async def _tell_all(self, queue: asyncio.Queue[tuple[str, tuple[Any, ...]] | None]) -> None:
        while (queued := await queue.get()) is not None:
            event, args = queued
            if queue.qsize() <= MOST_WAITING // 2:
                self._has_room.set()
            for handler in tuple(self._wanted.get(event, ())):
                try:
                    await self._run(handler, args)
                except Exception:  # noqa: BLE001 - the caller's function; logged
                    log.exception("chat_broker_sdk: a handler of %s failed", event)
