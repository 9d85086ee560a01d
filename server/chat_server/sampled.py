"""Log lines that a stranger can cause, so many a minute and no more."""

import logging
import time
from collections.abc import Callable


class Sampled:
    """Logs at most *burst* lines of each kind a minute, and says how many it kept back."""

    def __init__(
        self, log: logging.Logger, *, burst: int = 5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._burst = burst
        self._clock = clock
        self._minute = 0
        self._written: dict[str, int] = {}

    def _may(self, kind: str) -> bool:
        minute = int(self._clock() // 60)
        if minute != self._minute:
            kept = {k: n - self._burst for k, n in self._written.items() if n > self._burst}
            self._minute, self._written = minute, {}
            for name, number in kept.items():
                self._log.warning("%s: %d more lines were kept back", name, number)
        count = self._written[kind] = self._written.get(kind, 0) + 1
        return count <= self._burst

    def warning(self, kind: str, detail: str = "") -> None:
        """One line about *kind*."""
        if self._may(kind):
            self._log.warning("%s %s", kind, detail)

    def exception(self, kind: str) -> None:
        """The exception being handled, with its traceback."""
        if self._may(kind):
            self._log.exception("%s", kind)


class SampledFilter(logging.Filter):
    """Lets *burst* records a minute through; for loggers of libraries."""

    def __init__(self, burst: int = 5) -> None:
        super().__init__()
        self._burst = burst
        self._minute = 0
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Answer whether *record* may be written."""
        minute = int(record.created // 60)
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        return self._count <= self._burst
