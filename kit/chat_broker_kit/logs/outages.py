"""Logs the begin and the end of each outage."""

import time
from typing import Any

import structlog

log = structlog.get_logger("chat_broker.outages")

GOOD = frozenset({"ok", "off"})
"""The states of a dependency that works, or is not used."""


class Outage:
    """One thing's outage, true while it lasts. Logs `NAME.lost` with the reason, and `NAME.back` with its seconds."""

    def __init__(self, log: Any, name: str, **about: str) -> None:
        """*about*: further fields of both lines."""
        self._log = log
        self._name = name
        self._about = about
        self._since: float | None = None

    def __bool__(self) -> bool:
        return self._since is not None

    def begin(self, **why: str) -> None:
        if self._since is None:
            self._since = time.monotonic()
            self._log.warning(f"{self._name}.lost", **self._about, **why)

    def end(self) -> None:
        if self._since is not None:
            seconds = round(time.monotonic() - self._since, 1)
            self._since = None
            self._log.info(f"{self._name}.back", **self._about, seconds=seconds)


class Outages:
    """Logs changes of the state of each dependency."""

    def __init__(self) -> None:
        self._lost: dict[str, Outage] = {}

    def __bool__(self) -> bool:
        return bool(self._lost)

    def note(self, dependency: str, state: str, *, where: str) -> None:
        """Record the present *state*. *where*: the dependency's location for the log, without credentials."""
        if state not in GOOD:
            outage = Outage(log, "dependency", dependency=dependency, where=where)
            self._lost.setdefault(dependency, outage).begin(reason=state)
        elif dependency in self._lost:
            self._lost.pop(dependency).end()
