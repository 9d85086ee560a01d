"""Counters of uses: sliding windows, in this process or in Redis (`chat_broker.storage.redis`)."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from math import ceil
from typing import Protocol

from chat_broker.http.rate_limit_headers import Limit, Usage

MOST_KEYS = 50_000
"""Of each window; when it is full the older half is forgotten, so a flood of keys costs no memory."""


class Counters(Protocol):
    """Counts uses. Raises OSError when it cannot."""

    async def hit(self, uses: Sequence[tuple[Limit, str]]) -> list[Usage]:
        """Count one use of each (limit, key), unless one of them is refused: then none is counted."""


def judge(limit: Limit, before: float, now_used: float, elapsed: float) -> Usage:
    """One more use, given those of the window *before* and of the present one, *elapsed* s old.

    A sliding window from two fixed ones: the older counts by the share of it that is still within
    *period* of now. Pure; the Redis script says the same in Lua.
    """
    used = before * (1 - elapsed / limit.period) + now_used if before else now_used
    left = limit.period - elapsed
    if used + 1 <= limit.amount:
        return Usage(limit, True, int(limit.amount - used - 1), ceil(left))
    room = limit.amount - 1 - now_used  # for what is left of the window before
    if before and room >= 0:
        wait = limit.period * (1 - room / before) - elapsed
    else:
        wait = left + limit.period * (1 - (limit.amount - 1) / now_used)
    return Usage(limit, False, 0, ceil(left), max(1, ceil(wait)))


class _Windows:
    """The present window of one limit, from *start* until *end*, and the uses of the one before."""

    __slots__ = ("before", "end", "now", "start")

    def __init__(self) -> None:
        self.start = self.end = 0.0
        self.now: dict[str, int] = {}
        self.before: dict[str, int] = {}

    def turn(self, now: float, period: int) -> None:
        """Have the window that *now* lies in be the present one."""
        start = now // period * period
        self.before = self.now if start == self.end else {}
        self.now = {}
        self.start, self.end = start, start + period

    def forget_half(self) -> None:
        """Of the present one, the older half: these are counts, and each that is forgotten may be spent again."""
        self.now = dict(islice(self.now.items(), len(self.now) // 2, None))


class MemoryCounters:
    """Counts in this process: microseconds, bounded, on a clock that never jumps."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, most_keys: int = MOST_KEYS
    ) -> None:
        self._clock = clock
        self._most = most_keys
        self._windows: dict[str, _Windows] = {}

    async def hit(self, uses: Sequence[tuple[Limit, str]]) -> list[Usage]:
        """Count as `Counters.hit` says. Never waits, and never raises."""
        return self.count(uses)

    def count(self, uses: Sequence[tuple[Limit, str]]) -> list[Usage]:
        """Count one use of each, unless one is refused."""
        usages: list[Usage] = []
        now, known = self._clock(), self._windows
        for limit, key in uses:
            windows = known.get(limit.name)
            if windows is None or now >= windows.end:
                windows = self._at(now, limit)
            counts = windows.now
            used = counts.get(key, 0)
            usage = judge(limit, windows.before.get(key, 0), used, now - windows.start)
            if not usage.allowed:
                return self._refused(uses, usages)
            counts[key] = used + 1
            if not used and len(counts) > self._most:
                windows.forget_half()
            usages.append(usage)
        return usages

    def _refused(self, uses: Sequence[tuple[Limit, str]], counted: list[Usage]) -> list[Usage]:
        """What *uses* meet, after those that were *counted* before the refused one are given back."""
        for (limit, key), _ in zip(uses, counted, strict=False):
            counts = self._windows[limit.name].now
            if key in counts:
                counts[key] -= 1
        return [self.look(limit, key) for limit, key in uses]

    def look(self, limit: Limit, key: str) -> Usage:
        """What one more use would meet, without counting it."""
        now = self._clock()
        windows = self._at(now, limit)
        used = windows.now.get(key, 0)
        return judge(limit, windows.before.get(key, 0), used, now - windows.start)

    def _at(self, now: float, limit: Limit) -> _Windows:
        """The windows of *limit* as they are *now*."""
        windows = self._windows.get(limit.name)
        if windows is None:
            windows = self._windows[limit.name] = _Windows()
        if now >= windows.end:
            windows.turn(now, limit.period)
        return windows
