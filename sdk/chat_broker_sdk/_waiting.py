"""Sleeping, locks and deadlines for both clients. `_sync` uses the names without `async_` and `Async`."""

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from weakref import WeakKeyDictionary

import anyio

from ._transports.loops import Loop, check_loop_closed, running_loop

sleep = time.sleep
Lock = threading.Lock


def time_limit(seconds: float) -> AbstractContextManager[object]:
    """No limit: a thread cannot be interrupted, so each blocking operation has its own timeout."""
    return nullcontext(seconds)


def async_time_limit(seconds: float) -> AbstractContextManager[object]:
    """Cancels the block after *seconds* and raises the built-in TimeoutError."""
    return anyio.fail_after(seconds)


async def async_sleep(seconds: float) -> None:
    await anyio.sleep(seconds)


class HomeLoop:
    """The counterpart of AsyncHomeLoop for synchronous code, whose connections belong to no event loop."""

    def loop_changed(self) -> bool:
        return False


class AsyncHomeLoop:
    """The event loop that a transport's connections belong to: that of the first call, and once it is closed the next."""

    def __init__(self) -> None:
        self._loop: Loop | None = None

    def loop_changed(self) -> bool:
        """Whether the running loop is another one than before: connections of the old loop are then useless.

        Raises ConfigurationError if the old loop is not closed.
        """
        loop = running_loop()
        if loop is self._loop:
            return False
        check_loop_closed(self._loop)
        self._loop = loop
        return True


class AsyncLock:
    """A lock with a separate state for each event loop."""

    def __init__(self) -> None:
        self._locks: WeakKeyDictionary[object, anyio.Lock] = WeakKeyDictionary()

    @property
    def _lock(self) -> "anyio.Lock":  # in quotes: read, it would load what only a call needs
        return self._locks.setdefault(running_loop() or AsyncLock, anyio.Lock())

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
