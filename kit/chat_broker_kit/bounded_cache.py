"""Caches with a maximum size, without and with a lifetime of their entries."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """At most *size* entries. The least recently used entry is dropped first.

    A full cache drops one entry for each new one, never all, so that not all keys are looked up again at once. Uses
    are tracked only from half of *size* on, so that a read of a smaller cache costs what a dict's does.
    """

    get: Callable[[K], V | None]
    """The value of a key; None if there is none."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._tracks_use = False
        # An attribute, so that no function of ours runs for a read as long as uses are not tracked.
        self.get = self._entries.get

    def _get_tracked(self, key: K) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Store *value*, which is not None."""
        entries = self._entries
        entries[key] = value
        entries.move_to_end(key)
        if (tracks_use := len(entries) * 2 > self._size) is not self._tracks_use:
            self._tracks_use = tracks_use
            self.get = self._get_tracked if tracks_use else entries.get
        if len(entries) > self._size:
            entries.popitem(last=False)

    def forget(self, key: K) -> None:
        """Remove *key*, if it is there."""
        self._entries.pop(key, None)

    def forget_all(self) -> None:
        """Remove all entries."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


class ExpiringCache(Generic[K, V]):
    """A BoundedCache whose entries last for *seconds* (None: as long as each `put` says).

    *clock* returns seconds.
    """

    def __init__(
        self,
        size: int,
        *,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries = BoundedCache[K, tuple[V, float | None]](size)

    def get(self, key: K) -> V | None:
        """The value of *key*; None if there is none, or it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires_at = entry
        if expires_at is not None and self._clock() >= expires_at:
            self._entries.forget(key)
            return None
        return value

    def put(self, key: K, value: V, *, until: float | None = None) -> None:
        """Store *value* until the clock shows *until* (None: for the cache's *seconds*)."""
        if until is None and self._seconds is not None:
            until = self._clock() + self._seconds
        self._entries.put(key, (value, until))

    def forget(self, key: K) -> None:
        """Remove *key*, if it is there."""
        self._entries.forget(key)

    def forget_all(self) -> None:
        """Remove all entries."""
        self._entries.forget_all()

    def __len__(self) -> int:
        return len(self._entries)
