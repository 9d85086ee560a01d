"""Whether a database accepts writes, as its last writes have shown."""

import time

import structlog

from chat_broker_kit.logs.outages import Outage

log = structlog.get_logger(__name__)

PROBE_AFTER = 5.0
RECOVERED_AFTER = 5.0


class WriteState:
    """Whether a database accepts writes. Logs the begin and the end of an outage.

    A refused write counts for RECOVERED_AFTER seconds, also if others are committed meanwhile: on a full disk a small
    write may still fit.
    """

    def __init__(self, store: str | None, where: str) -> None:
        """*store* (None: log nothing) and *where*, without credentials, describe the database in the log."""
        self._committed_at = self._refused_at = float("-inf")
        self._outage = None if store is None else Outage(log, "database", store=store, where=where)

    def record_commit(self) -> None:
        """A write was committed."""
        self._committed_at = time.monotonic()
        if self._outage and self.is_writable:
            self._outage.end()

    def record_refusal(self, reason: str) -> None:
        """A write was refused because of the database, not because of the write."""
        self._refused_at = time.monotonic()
        if self._outage is not None:
            self._outage.begin(reason=reason)

    @property
    def is_unknown(self) -> bool:
        """Whether the last write is too long ago: probe with one."""
        return time.monotonic() - max(self._committed_at, self._refused_at) >= PROBE_AFTER

    @property
    def is_writable(self) -> bool:
        """Whether the last writes were committed."""
        quiet = time.monotonic() - self._refused_at >= RECOVERED_AFTER
        return quiet and self._committed_at > self._refused_at
