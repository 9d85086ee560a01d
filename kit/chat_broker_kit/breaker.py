"""A circuit breaker: stops requests to a peer that does not answer."""

from collections.abc import Callable
from time import monotonic

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 10.0


class Breaker:
    """Closed until *failures* in a row, then open for *seconds*, then half-open: one request probes the peer.

    After each request that `wait` lets through, call `answered`, `failed` or `undecided`. A probe without that call
    keeps the breaker open for *seconds* more.

    A failure is the lack of an answer: refused, timed out, cut off, or a gateway's 502, 503, 504. An error response is
    not a failure: else one client with a bad cookie could open the breaker for all.
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
        self._open_until = 0.0
        self._probing = False

    def wait(self) -> float:
        """Seconds until the next request may be sent; 0: send it now."""
        if self._failures < self._limit:
            return 0.0
        now = self._clock()
        if now < self._open_until:
            return self._open_until - now
        self._probing = True  # this request; the others wait for its outcome
        self._open_until = now + self._seconds
        return 0.0

    def answered(self) -> None:
        """The peer answered, with whatever status."""
        self._failures = 0
        self._probing = False

    def failed(self) -> None:
        """The peer did not answer."""
        self._failures += 1
        self._probing = False
        self._open_until = self._clock() + self._seconds

    def undecided(self) -> None:
        """The request was not sent, or was cancelled. The next one may probe at once."""
        if self._probing:
            self._probing = False
            self._open_until = self._clock()
