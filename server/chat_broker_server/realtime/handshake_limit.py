import math
import time
from collections.abc import Callable

from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.http.address_key import address_key

MOST_ADDRESSES = 50_000


class HandshakeLimit:
    """At most *a_minute* handshakes a minute from each client address, in any burst; 0 is no limit.

    It remembers *most* addresses; the least recently used is removed first. *clock* returns seconds.
    """

    def __init__(
        self,
        a_minute: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST_ADDRESSES,
    ) -> None:
        self._a_minute = a_minute
        self._clock = clock
        self._used = BoundedCache[str, tuple[float, float]](most)
        """Per address: the handshakes that still count, and the time of that count."""

    def take(self, address: str) -> int:
        """Count one handshake. Returns 0, or the seconds to wait if it is over the limit."""
        if not self._a_minute:
            return 0
        key, now = address_key(address), self._clock()
        used, before = self._used.get(key) or (0.0, now)
        used = max(0.0, used - (now - before) * self._a_minute / 60)
        allowed = used + 1 <= self._a_minute
        self._used.put(key, (used + 1 if allowed else used, now))
        return 0 if allowed else math.ceil((used + 1 - self._a_minute) * 60 / self._a_minute)
