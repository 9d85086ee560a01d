"""Logs the begin and the end of each outage."""

import time

import structlog

log = structlog.get_logger("chat_broker.outages")

GOOD = frozenset({"ok", "off"})
"""The states of a dependency that works, or is not used."""


class Outages:
    """Logs changes of the state of each dependency."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def note(self, dependency: str, state: str, *, where: str) -> None:
        """Record the present *state*. *where*: the dependency's location for the log, without credentials."""
        if state not in GOOD and dependency not in self._since:
            self._since[dependency] = time.monotonic()
            log.warning("dependency.lost", dependency=dependency, where=where, reason=state)
        elif state in GOOD and (since := self._since.pop(dependency, None)) is not None:
            seconds = round(time.monotonic() - since, 1)
            log.info("dependency.back", dependency=dependency, where=where, seconds=seconds)
