"""Whether a database takes writes, as its last ones have shown."""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

PROBED_AFTER = 5.0
STEADY_AFTER = 5.0


class WriteState:
    """Whether a database takes writes: by the last ones, and by a probe where the last was too long ago.

    One that was refused counts for some seconds, whatever is taken meanwhile: a small write may still find room. Where
    an outage begins and where it ends is in the log.
    """

    def __init__(
        self, store: str | None, where: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """*store* and *where* are for the log: what is kept, None to log nothing, and the place, without credentials."""
        self._about = None if store is None else {"store": store, "where": where}
        self._clock = clock
        self._taken_at = self._refused_at = float("-inf")
        self._lost_at: float | None = None

    def taken(self) -> None:
        """A write was committed."""
        self._taken_at = self._clock()
        if self._lost_at is not None and self.good:
            seconds = round(self._taken_at - self._lost_at, 1)
            self._lost_at = None
            if self._about is not None:
                log.info("database.back", **self._about, seconds=seconds)

    def refused(self, reason: str) -> None:
        """A write was refused for what is no fault of its own."""
        self._refused_at = self._clock()
        if self._lost_at is None:
            self._lost_at = self._refused_at
            if self._about is not None:
                log.warning("database.lost", **self._about, reason=reason)

    @property
    def unknown(self) -> bool:
        """Was the last write too long ago to tell?"""
        return self._clock() - max(self._taken_at, self._refused_at) >= PROBED_AFTER

    @property
    def good(self) -> bool:
        """Are writes taken?"""
        quiet = self._clock() - self._refused_at >= STEADY_AFTER
        return quiet and self._taken_at > self._refused_at
