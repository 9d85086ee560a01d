"""How many calls may be under way at once, and which of those that wait is the next."""

import asyncio
from collections import OrderedDict

from .base import connections_in_use


class Turns:
    """At most *most* calls at once; first come, first served. For asyncio only.

    `taken` is the number of calls under way. A call adds itself with `take` or `wait` (or, where each microsecond counts,
    as `take` does it), and ends with `give_back` in a `finally`. How a call's waiting ended is decided once, by the first to set the result of its future: True, the turn
    is its own; False, its time is up. A second decision beside it, such as `asyncio.timeout` around the future, could
    end a call that has been given a turn, and the turn would be lost.
    """

    # asyncio.Semaphore would do, but costs several times as much where nobody waits, which is nearly always.

    __slots__ = ("_waiting", "most", "taken")

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._waiting: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many calls wait for a turn."""
        return len(self._waiting)

    def take(self) -> bool:
        """Take a turn now; False if all are taken. None is free while a call waits, so that none is overtaken."""
        if self.taken >= self.most:
            return False
        self.taken += 1
        return True

    async def wait(self, seconds: float) -> None:
        """Take a turn as soon as one is free. Raises NetworkError if none was for half of the call's *seconds*.

        The other half is left, since a server that is given less than a fair time would be blamed for being slow.
        """
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting[waiter] = None
        timer = loop.call_later(seconds / 2, _decide, waiter, False)
        try:
            mine = await waiter
        except (
            BaseException
        ):  # cancelled, perhaps in the very moment in which it was given the turn
            if not waiter.cancelled() and waiter.done() and waiter.result():
                self.give_back()
            raise
        finally:
            timer.cancel()
            self._waiting.pop(waiter, None)
        if not mine:
            raise connections_in_use(seconds / 2)

    def give_back(self) -> None:
        """End a turn: it goes to the call that has waited longest, or is free."""
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if _decide(waiter, True):
                return
        self.taken -= 1

    def send_away(self) -> None:
        """End the waiting of all calls, without a turn."""
        for waiter in self._waiting:
            _decide(waiter, False)


def _decide(waiter: "asyncio.Future[bool]", mine: bool) -> bool:
    """Say whether the turn is the waiter's; False if that is decided already, or its call was cancelled."""
    if waiter.done():
        return False
    waiter.set_result(mine)
    return True
