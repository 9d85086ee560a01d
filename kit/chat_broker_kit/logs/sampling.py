"""Log lines that a stranger can cause: a few a minute of each kind, and how many were left out."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

MOST_KINDS = 100
LONGEST_KIND = 60


class EventLog(Protocol):
    """A structlog logger, as far as sampling needs one."""

    def warning(self, event: str, **fields: Any) -> Any: ...


class Sampler:
    """Lets *burst* lines of each kind through a minute. *clock* answers seconds.

    Kinds are names of ours, never a caller's input. Should there be more than `MOST_KINDS`, the others count as one.
    """

    def __init__(self, burst: int = 5, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._clock = clock
        self._minute = 0
        self._seen: dict[str, int] = {}

    def take(self, kind: str) -> bool:
        """Count a line of *kind*. False if it is to be left out."""
        if kind not in self._seen and len(self._seen) >= MOST_KINDS:
            kind = "other"
        self._seen[kind] = seen = self._seen.get(kind, 0) + 1
        return seen <= self._burst

    def left_out(self) -> dict[str, int]:
        """How many lines of each kind were left out in the minute before, once after it has ended; else nothing."""
        minute = int(self._clock() // 60)
        if minute == self._minute:
            return {}
        left_out = {
            kind: seen - self._burst for kind, seen in self._seen.items() if seen > self._burst
        }
        self._minute, self._seen = minute, {}
        return left_out


class SampledEvents:
    """Writes warnings that a stranger can cause to *log*, sampled."""

    def __init__(self, log: EventLog, sampler: Sampler | None = None) -> None:
        self._log = log
        self._sampler = sampler or Sampler()

    def warning(self, event: str, **fields: Any) -> None:
        """One line about *event*, unless there were too many of it in this minute."""
        for kind, number in self._sampler.left_out().items():
            self._log.warning("log.lines_left_out", of=kind, lines=number)
        if self._sampler.take(event):
            self._log.warning(event, **fields)


class SampledLog:
    """The same for a logger of the standard library."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        burst: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._sampler = Sampler(burst, clock=clock)

    def _may(self, kind: str) -> bool:
        for name, number in self._sampler.left_out().items():
            self._log.warning("%s: %d more lines were left out", name, number)
        return self._sampler.take(kind)

    def warning(self, kind: str, detail: str = "") -> None:
        """One line about *kind*."""
        if self._may(kind):
            self._log.warning("%s %s", kind, detail)

    def exception(self, kind: str) -> None:
        """The exception being handled, with its traceback; one that was raised elsewhere is another kind."""
        if self._may(kind + _where_raised(sys.exc_info())):
            self._log.exception("%s", kind)


class SampledFilter(logging.Filter):
    """Lets *burst* warnings and errors of each kind a minute through; for loggers of libraries.

    A kind is a text, and with an exception also where that was raised: libraries have one text for all of them, and
    what a stranger can cause again and again must not keep another fault of ours out of the log.
    """

    def __init__(self, burst: int = 5) -> None:
        super().__init__()
        self._sampler = Sampler(burst)

    def filter(self, record: logging.LogRecord) -> bool:
        """Answer whether *record* may be written; the first of a minute says what the minute before left out."""
        if record.levelno < logging.WARNING:
            return True
        left_out = sum(self._sampler.left_out().values())
        if left_out:
            record.msg = f"{record.msg} ({left_out} more lines were left out in the minute before)"
        return self._sampler.take(str(record.msg)[:LONGEST_KIND] + _where_raised(record.exc_info))


def _where_raised(exc_info: "logging._SysExcInfoType | None") -> str:
    """The exception's type and the place that raised it; empty without one."""
    kind, _, trace = exc_info or (None, None, None)
    if kind is None:
        return ""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    return f" {kind.__name__} {place}"


def quieten_uvicorn() -> None:
    """Drop what uvicorn says of each websocket, and sample what else strangers make it and asyncio say.

    Its line about a websocket shows the whole address: a client may have put a token into the query.
    """
    sampled = SampledFilter()
    for name in ("uvicorn.error", "asyncio"):
        log = logging.getLogger(name)
        log.filters[:] = [sampled]
    logging.getLogger("uvicorn.error").addFilter(_is_not_of_a_websocket)


def _is_not_of_a_websocket(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_OF_WEBSOCKETS)


_OF_WEBSOCKETS = (
    '%s - "WebSocket',
    "connection ",
    "HTTP response sent ",
    # Said as an error after every refusal with a status of HTTP, which is none.
    "ASGI callable returned without completing handshake",
)
