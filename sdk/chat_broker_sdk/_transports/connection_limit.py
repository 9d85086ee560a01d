"""Limits the calls under way at once, and queues the others."""

import asyncio
from collections import OrderedDict

from .base import connections_in_use


class ConnectionLimit:
    """At most *size* calls at once, first come, first served. For asyncio only.

    A call begins with `try_acquire` or `acquire` (or, on the fast path, adds itself to `in_use` as `try_acquire` does),
    and ends with `release` in a `finally`. The first result of a waiter's future decides: True, it has a slot; False, it
    timed out. Do not put another timeout, such as `asyncio.timeout`, around the future: it could end a call that has
    just got a slot, and that slot would be lost.
    """

    # asyncio.Semaphore costs several times as much where no call waits, which is the usual case.

    __slots__ = ("_waiting", "in_use", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.in_use = 0
        self._waiting: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many calls wait for a slot."""
        return len(self._waiting)

    def try_acquire(self) -> bool:
        """Take a slot if one is free. While a call waits, none is free: a waiting call is never overtaken."""
        if self.in_use >= self.size:
            return False
        self.in_use += 1
        return True

    async def acquire(self, seconds: float) -> None:
        """Take a slot as soon as one is free. Raises NetworkError if none is within half of the call's *seconds*.

        The other half is left for the server, which would otherwise be blamed for a timeout.
        """
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting[waiter] = None
        timer = loop.call_later(seconds / 2, _resolve, waiter, False)
        try:
            acquired = await waiter
        except BaseException:  # cancelled, perhaps just after it has got a slot
            if not waiter.cancelled() and waiter.done() and waiter.result():
                self.release()
            raise
        finally:
            timer.cancel()
            self._waiting.pop(waiter, None)
        if not acquired:
            raise connections_in_use(seconds / 2)

    def release(self) -> None:
        """Pass the slot to the call that has waited longest, or free it."""
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if _resolve(waiter, True):
                return
        self.in_use -= 1

    def refuse_waiting(self) -> None:
        """End the waiting of all calls, without a slot."""
        for waiter in self._waiting:
            _resolve(waiter, False)


def _resolve(waiter: "asyncio.Future[bool]", acquired: bool) -> bool:
    """Set the waiter's result; False if it has one, or its call was cancelled."""
    if waiter.done():
        return False
    waiter.set_result(acquired)
    return True
