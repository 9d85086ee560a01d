"""Sampling of log lines that a client can cause: a few of each kind a minute, and the number of the others."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

MAX_KINDS = 100
MAX_KIND_LENGTH = 60


class EventLog(Protocol):
    """The part of a structlog logger that sampling uses."""

    def warning(self, event: str, **fields: Any) -> Any: ...


class Sampler:
    """Allows *burst* lines of each kind a minute. *clock* returns seconds.

    A kind is never a client's input. All kinds above MAX_KINDS count as one.
    """

    def __init__(self, burst: int = 5, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._clock = clock
        self._minute = 0
        self._counts: dict[str, int] = {}

    def take(self, kind: str) -> bool:
        """Count a line of *kind*. False if it must be dropped."""
        if kind not in self._counts and len(self._counts) >= MAX_KINDS:
            kind = "other"
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        return count <= self._burst

    def dropped(self) -> dict[str, int]:
        """How many lines of each kind were dropped in the last minute. Empty until a minute has ended, and after the first call."""
        minute = int(self._clock() // 60)
        if minute == self._minute:
            return {}
        dropped = {
            kind: count - self._burst for kind, count in self._counts.items() if count > self._burst
        }
        self._minute, self._counts = minute, {}
        return dropped


class SampledEvents:
    """Writes sampled warnings to *log*."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._sampler = Sampler()

    def warning(self, event: str, **fields: Any) -> None:
        """Log *event*, unless it was logged too often in this minute."""
        for kind, number in self._sampler.dropped().items():
            self._log.warning("log.lines_left_out", of=kind, lines=number)
        if self._sampler.take(event):
            self._log.warning(event, **fields)


class SampledLog:
    """Writes sampled lines to a logger of the standard library."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        burst: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._sampler = Sampler(burst, clock=clock)

    def _take(self, kind: str) -> bool:
        for name, number in self._sampler.dropped().items():
            self._log.warning("%s: %d more lines were left out", name, number)
        return self._sampler.take(kind)

    def warning(self, kind: str, detail: str = "") -> None:
        """Log *kind* and *detail*, unless *kind* was logged too often in this minute."""
        if self._take(kind):
            self._log.warning("%s %s", kind, detail)

    def exception(self, kind: str) -> None:
        """Log the exception being handled. Each place that raises one is a kind of its own."""
        if self._take(kind + _raised_at(sys.exc_info())):
            self._log.exception("%s", kind)


class SampledFilter(logging.Filter):
    """Allows *burst* warnings and errors of each kind a minute. For loggers of libraries.

    A kind is the text and the place that raised the exception, if there is one. Libraries have one text for all
    exceptions, and those that a client can cause must not hide others.
    """

    def __init__(self, burst: int = 5) -> None:
        super().__init__()
        self._sampler = Sampler(burst)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether *record* may be written. The first record of a minute gets the number of those dropped in the last one."""
        if record.levelno < logging.WARNING:
            return True
        dropped = sum(self._sampler.dropped().values())
        if dropped:
            record.msg = f"{record.msg} ({dropped} more lines were left out in the minute before)"
        return self._sampler.take(str(record.msg)[:MAX_KIND_LENGTH] + _raised_at(record.exc_info))


def _raised_at(exc_info: "logging._SysExcInfoType | None") -> str:
    """The exception's type and the place that raised it; "" without an exception."""
    kind, _, trace = exc_info or (None, None, None)
    if kind is None:
        return ""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    return f" {kind.__name__} {place}"


def quieten_uvicorn() -> None:
    """Drop uvicorn's lines about websockets, and sample the other warnings of uvicorn and asyncio.

    The lines about websockets contain the whole URL, in whose query a client may have put a token.
    """
    sampled = SampledFilter()
    for name in ("uvicorn.error", "asyncio"):
        log = logging.getLogger(name)
        log.filters[:] = [sampled]
    logging.getLogger("uvicorn.error").addFilter(_is_not_about_websockets)


def _is_not_about_websockets(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_ABOUT_WEBSOCKETS)


_ABOUT_WEBSOCKETS = (
    '%s - "WebSocket',
    "connection ",
    "HTTP response sent ",
    # Logged as an error after each refusal with an HTTP status, which is not an error.
    "ASGI callable returned without completing handshake",
)
