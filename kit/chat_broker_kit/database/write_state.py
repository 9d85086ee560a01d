"""Whether a database accepts writes, as its last writes have shown."""

import time

import structlog

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
        self._about = None if store is None else {"store": store, "where": where}
        self._committed_at = self._refused_at = float("-inf")
        self._lost_at: float | None = None

    def record_commit(self) -> None:
        """A write was committed."""
        self._committed_at = time.monotonic()
        if self._lost_at is not None and self.is_writable:
            seconds = round(self._committed_at - self._lost_at, 1)
            self._lost_at = None
            if self._about is not None:
                log.info("database.back", **self._about, seconds=seconds)

    def record_refusal(self, reason: str) -> None:
        """A write was refused because of the database, not because of the write."""
        self._refused_at = time.monotonic()
        if self._lost_at is None:
            self._lost_at = self._refused_at
            if self._about is not None:
                log.warning("database.lost", **self._about, reason=reason)

    @property
    def is_unknown(self) -> bool:
        """Whether the last write is too long ago: probe with one."""
        return time.monotonic() - max(self._committed_at, self._refused_at) >= PROBE_AFTER

    @property
    def is_writable(self) -> bool:
        """Whether the last writes were committed."""
        quiet = time.monotonic() - self._refused_at >= RECOVERED_AFTER
        return quiet and self._committed_at > self._refused_at
