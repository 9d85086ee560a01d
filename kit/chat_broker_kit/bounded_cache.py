"""What was found out a moment ago, for as much of it as there is room."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """At most *size* entries, each for *seconds* (None: for good); the least recently used goes first.

    A full cache forgets one entry for each that comes, never all: else everybody would be looked up
    again in the same second. Uses count from when it is half full: before, nothing is about to go, and
    a read costs hardly more than one of a dict.
    """

    def __init__(
        self,
        size: int,
        *,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[K, tuple[V, float | None]] = OrderedDict()
        self._in_order = False

    def get(self, key: K) -> V | None:
        """The value under *key*; None if there is none, or its time is over."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        value, until = entry
        if until is not None and self._clock() >= until:
            del self._kept[key]
            return None
        if self._in_order:
            self._kept.move_to_end(key)
        return value

    def put(self, key: K, value: V, *, until: float | None = None) -> None:
        """Keep *value*, for *seconds* or until the clock shows *until*."""
        if until is None and self._seconds is not None:
            until = self._clock() + self._seconds
        self._kept[key] = value, until
        self._kept.move_to_end(key)
        self._in_order = len(self._kept) * 2 > self._size
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)

    def forget(self, key: K) -> None:
        """Keep nothing under *key*."""
        self._kept.pop(key, None)

    def forget_all(self) -> None:
        """Keep nothing: all of it may be wrong."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
