"""The few things that wait, once for each twin. `_sync` uses the same names without `async_` and `Async`."""

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

import anyio

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


class AsyncLock:
    """A lock that belongs to whichever loop waits for it."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
