"""A thread with an event loop, which runs asynchronous code for synchronous code."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError as FutureCancelled
from typing import Any, TypeVar

from chat_broker_sdk._errors import ConfigurationError
from chat_broker_sdk._tasks import cancel_and_wait

from .base import Request, Response, Transport

T = TypeVar("T")


class BackgroundLoop:
    """An event loop on a daemon thread. The first `run` starts it; `close` ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* on the loop, and return its result. An interrupt cancels it.

        Raises ConfigurationError (`would_deadlock`) on the loop's own thread.
        """
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="chat_broker_sdk", daemon=True
                )
                self._thread.start()
            loop = self._loop
        if threading.current_thread() is self._thread:
            work.close()
            raise ConfigurationError(
                "A handler waited for its own thread; use an async handler, or a thread of your own",
                code="would_deadlock",
            )
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except FutureCancelled:
            raise
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel all tasks, and end the loop and its thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_finish(loop), loop).result(timeout=5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        loop.close()


async def _finish(loop: asyncio.AbstractEventLoop) -> None:
    this_task = asyncio.current_task()
    await cancel_and_wait(*(task for task in asyncio.all_tasks(loop) if task is not this_task))
    await loop.shutdown_asyncgens()


class BackgroundTransport:
    """An asynchronous transport for synchronous code: all its calls run on one background loop."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._background = BackgroundLoop()

    @property
    def open_wire(self) -> Any:
        """The transport's own WireFactory; None if it has none."""
        return getattr(self._transport, "open_wire", None)

    def send(self, request: Request, *, timeout: float) -> Response:
        """One attempt, as SyncTransport promises."""
        return self._background.run(self._transport.send(request, timeout=timeout))

    def close(self) -> None:
        """Close all connections, and end the thread."""
        self._background.run(self._transport.aclose())
        self._background.close()
