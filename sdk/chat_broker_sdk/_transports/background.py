"""One thread with an event loop, for what exists only asynchronously and is wanted in synchronous code."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError as FutureCancelled
from typing import Any, TypeVar

from chat_broker_sdk._ending import end
from chat_broker_sdk._errors import ConfigurationError

from .base import Request, Response, Transport

T = TypeVar("T")


class BackgroundLoop:
    """An event loop on a daemon thread, begun by the first call and ended by `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* there and wait for it; interrupted, it is cancelled. Never from the loop's own thread."""
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
        """Stop the loop and its thread."""
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
    mine = asyncio.current_task()
    await end(*(task for task in asyncio.all_tasks(loop) if task is not mine))
    await loop.shutdown_asyncgens()


class BackgroundTransport:
    """An asynchronous transport for synchronous code: its calls run on a background loop, one loop for all."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._background = BackgroundLoop()

    @property
    def open_wire(self) -> Any:
        """How the transport opens live connections, where it has a way of its own; None where not."""
        return getattr(self._transport, "open_wire", None)

    def send(self, request: Request, *, timeout: float) -> Response:
        """One attempt; see Transport."""
        return self._background.run(self._transport.send(request, timeout=timeout))

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._background.run(self._transport.aclose())
        self._background.close()
