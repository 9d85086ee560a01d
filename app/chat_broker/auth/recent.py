"""A bounded memory of what was found out a moment ago."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Found = TypeVar("Found")


class Recent(Generic[Found]):
    """Remembers up to *size* values, each until an instant of its own; the least used goes first."""

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[Found, float]] = OrderedDict()

    def get(self, key: bytes) -> Found | None:
        """What is remembered under *key*, if its time has not come."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        if self._clock() >= entry[1]:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, value: Found, *, until: float) -> None:
        """Remember *value* until the clock shows *until*."""
        self._kept[key] = (value, until)
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)

    def forget(self, key: bytes) -> None:
        """Remember nothing under *key*."""
        self._kept.pop(key, None)

    def __len__(self) -> int:
        return len(self._kept)
