"""The few things that wait, once for each twin. `_sync` uses the same names without `async_` and `Async`."""

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from weakref import WeakKeyDictionary

import anyio

from ._transports.loops import Loop, check_move, running_loop

sleep = time.sleep
Lock = threading.Lock


def deadline(seconds: float) -> AbstractContextManager[object]:
    """Nothing: a thread cannot be interrupted, so every single wait has its own limit instead."""
    return nullcontext(seconds)


def async_deadline(seconds: float) -> AbstractContextManager[object]:
    """Cancel what runs inside after *seconds*, and raise the built-in TimeoutError."""
    return anyio.fail_after(seconds)


async def async_sleep(seconds: float) -> None:
    """Wait without holding up the loop."""
    await anyio.sleep(seconds)


class HomeLoop:
    """Nothing: what synchronous code opens belongs to no event loop."""

    def moved(self) -> bool:
        """Never."""
        return False


class AsyncHomeLoop:
    """The event loop that a transport's connections belong to: the first that used it, and after its end the next."""

    def __init__(self) -> None:
        self._loop: Loop | None = None

    def moved(self) -> bool:
        """Whether this is another loop than before, so that what is open is of no use.

        Raises ConfigurationError while the other one is not closed.
        """
        loop = running_loop()
        if loop is self._loop:
            return False
        check_move(self._loop)
        self._loop = loop
        return True


class AsyncLock:
    """A lock for each event loop: two loops do not keep each other waiting."""

    def __init__(self) -> None:
        self._locks: WeakKeyDictionary[object, anyio.Lock] = WeakKeyDictionary()

    @property
    def _lock(self) -> anyio.Lock:
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
