"""Where an outage begins and where it ends, one line each in the log."""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger("chat_broker.outages")

GOOD = frozenset({"ok", "off"})
"""What a dependency answers that is as it should be, or is not used."""


class Outages:
    """Compares how each dependency is with how it was."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def note(self, dependency: str, answer: str, *, where: str) -> None:
        """*answer* is how it is now; *where* it is, without credentials."""
        if answer not in GOOD and dependency not in self._since:
            self._since[dependency] = self._clock()
            log.warning("dependency.lost", dependency=dependency, where=where, reason=answer)
        elif answer in GOOD and (since := self._since.pop(dependency, None)) is not None:
            seconds = round(self._clock() - since, 1)
            log.info("dependency.back", dependency=dependency, where=where, seconds=seconds)
