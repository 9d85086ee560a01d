"""A cache with a maximum size and a lifetime."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """At most *size* entries, each for *seconds* (None: no limit). The least recently used entry is dropped first.

    A full cache drops one entry for each new one, never all, so that not all keys are looked up again at once. Uses
    are tracked only from half of *size* on, so that a read of a smaller cache costs hardly more than a dict's.
    *clock* returns seconds.
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
        self._entries: OrderedDict[K, tuple[V, float | None]] = OrderedDict()
        self._tracks_use = False

    def get(self, key: K) -> V | None:
        """The value of *key*; None if there is none, or it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires_at = entry
        if expires_at is not None and self._clock() >= expires_at:
            del self._entries[key]
            return None
        if self._tracks_use:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V, *, until: float | None = None) -> None:
        """Store *value* until the clock shows *until* (None: for the cache's *seconds*)."""
        if until is None and self._seconds is not None:
            until = self._clock() + self._seconds
        self._entries[key] = value, until
        self._entries.move_to_end(key)
        self._tracks_use = len(self._entries) * 2 > self._size
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def forget(self, key: K) -> None:
        """Remove *key*, if it is there."""
        self._entries.pop(key, None)

    def forget_all(self) -> None:
        """Remove all entries."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
