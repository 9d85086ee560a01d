"""A clock that a test turns by hand."""

import itertools
from collections.abc import Callable
from typing import Any


class ManualTimer:
    """A call that is due at some time of the clock."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Time stands still but for `advance`, which calls what is due then, in order."""

    def __init__(self) -> None:
        self._now = 1_000_000.0
        self._due: list[tuple[float, int, ManualTimer, Callable[..., Any], tuple[Any, ...]]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self._now

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> ManualTimer:
        timer = ManualTimer()
        self._due.append((self._now + seconds, next(self._numbers), timer, call, arguments))
        return timer

    def advance(self, seconds: float) -> None:
        end = self._now + seconds
        while self._due and (first := min(self._due, key=lambda due: due[:2]))[0] <= end:
            self._due.remove(first)
            at, _, timer, call, arguments = first
            self._now = max(self._now, at)
            if not timer.cancelled:
                call(*arguments)
        self._now = end
