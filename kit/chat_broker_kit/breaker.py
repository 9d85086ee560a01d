"""Stops asking a peer that does not answer, so that nobody waits for it in vain."""

from collections.abc import Callable
from time import monotonic

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 10.0


class Breaker:
    """Closed until *failures* in a row; then open for *seconds*; then half-open: one caller probes.

    What the probe meets decides for all. Whoever is let through says how it ended, with `answered`,
    `failed` or `undecided`; a probe that never does costs the others *seconds* more.

    A failure is *no answer*: refused, timed out, cut off, or a gateway's 502, 503, 504. An answer
    that is merely wrong is not one, or one visitor with an odd cookie could lock everybody out.
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES_TO_OPEN,
        seconds: float = OPEN_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._shut_until = 0.0
        self._probing = False

    def wait(self) -> float:
        """Seconds until asking makes sense; 0 lets this caller through."""
        if self._failures < self._limit:
            return 0.0
        now = self._clock()
        if now < self._shut_until:
            return self._shut_until - now
        self._probing = True  # this caller; the others wait for what it meets
        self._shut_until = now + self._seconds
        return 0.0

    def answered(self) -> None:
        """The peer answered, whatever it said."""
        self._failures = 0
        self._probing = False

    def failed(self) -> None:
        """The peer did not answer."""
        self._failures += 1
        self._probing = False
        self._shut_until = self._clock() + self._seconds

    def undecided(self) -> None:
        """Nothing was learnt: it was never sent, or given up. The next caller may probe at once."""
        if self._probing:
            self._probing = False
            self._shut_until = self._clock()
