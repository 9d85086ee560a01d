"""Delivers the newest state of something, at most once in some seconds."""

from collections.abc import Callable
from typing import Generic, TypeVar

from chat_broker_server.realtime.clock import Clock

K = TypeVar("K")
V = TypeVar("V")


class Throttle(Generic[K, V]):
    """The first state of a key is delivered at once. Those of the next seconds are merged, and delivered at their end."""

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        deliver: Callable[[K, V], None],
        merge: Callable[[V, V], V | None],
    ) -> None:
        """*merge* makes one state of the last one (delivered or waiting) and a new one; None if the new one tells nothing."""
        self._clock = clock
        self._seconds = seconds
        self._deliver = deliver
        self._merge = merge
        self._delivered: dict[K, V] = {}
        self._waiting: dict[K, V] = {}

    def put(self, key: K, state: V) -> None:
        """Deliver *state* now, or with those that wait."""
        last = self._waiting.get(key, self._delivered.get(key))
        if last is None:
            self._send(key, state)
            return
        merged = self._merge(last, state)
        if merged is not None:
            self._waiting[key] = merged

    def _send(self, key: K, state: V) -> None:
        self._delivered[key] = state
        self._clock.call_later(self._seconds, self._end_pause, key)
        self._deliver(key, state)

    def _end_pause(self, key: K) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            del self._delivered[key]
        else:
            self._send(key, waiting)
