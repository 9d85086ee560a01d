"""Stops asking a provider that does not answer, so that nobody waits for it in vain."""

from collections.abc import Callable
from time import monotonic

THRESHOLD = 5
OPEN_SECONDS = 10.0


class Breaker:
    """Opens after five failures in a row; after ten seconds lets one caller through to try.

    A failure is *no answer*: refused, timed out, cut off, or a gateway's 502, 503, 504. An answer
    that is merely wrong is not one, or one visitor with an odd cookie could lock everybody out.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._closed_again_at = 0.0

    def wait(self) -> float:
        """Seconds until asking makes sense; 0 lets this caller through."""
        if self._failures < THRESHOLD:
            return 0.0
        left = self._closed_again_at - self._clock()
        if left > 0:
            return left
        self._closed_again_at = self._clock() + OPEN_SECONDS  # the others keep waiting meanwhile
        return 0.0

    def answered(self) -> None:
        """The provider answered, whatever it said."""
        self._failures = 0

    def failed(self) -> None:
        """The provider did not answer."""
        self._failures += 1
        self._closed_again_at = self._clock() + OPEN_SECONDS
