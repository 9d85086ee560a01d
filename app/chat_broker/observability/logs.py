"""Logs: one line for each event, as JSON or for a terminal, without secrets."""

import asyncio
import logging
import re
import sys
import time
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO, cast

import msgspec
import structlog

from chat_broker.settings import Settings
from chat_broker_kit.logs.sampling import quieten_uvicorn

WRITTEN_WITHIN = 0.02
"""Seconds that a line of the access log may wait to be written together with others."""
LONGEST_PATH = 200
"""Characters of a path that the access log shows."""

# At DEBUG and INFO these log URLs, headers or statements.
_QUIET = (
    "asyncio",
    "httpcore",
    "httpx",
    "aiohttp",
    "engineio",
    "socketio",
    "uvicorn.access",
)
# Formats that only credentials have: keys of the Chat API and of the broker, JWTs, sessions, passwords in URLs.
_CREDENTIAL = re.compile(
    r"\b[ac]k_[A-Za-z0-9_-]{12,}|\bdev_[A-Za-z0-9_-]+\.[0-9]+\.[A-Za-z0-9_-]+|\beyJ[A-Za-z0-9_-]{6,}[A-Za-z0-9_.-]*"
    r"|(?i:bearer|basic)\s+[A-Za-z0-9+/=_.~-]{8,}|://[^/\s:@]*:[^/\s@]+@"
)


def redact(text: str) -> str:
    """*text* without what looks like a credential."""
    return _CREDENTIAL.sub("[hidden]", text)


class AccessRecord(msgspec.Struct, gc=False):
    """A request that was answered. *route* is a template of ours, or `unmatched`.

    *refusal*: code, reason and user of a request that was refused (`Edge.about_refusal`).
    """

    method: str
    path: str
    route: str
    status: int
    seconds: float
    request_id: str
    address: str
    refusal: dict[str, str] | None = None


class _AccessLog:
    """Builds and writes the lines of the access log together, within `WRITTEN_WITHIN` seconds.

    Built one at a time between other work, each line costs twice as much, and a system call for each is a tenth
    of a request. Every other line of the log, and the end of the process, writes the waiting ones first.
    """

    def __init__(self) -> None:
        self.batches = False
        """`configure` has chosen JSON. Otherwise lines pass through structlog, one at a time."""
        self.enabled = True
        self.waiting: list[tuple[AccessRecord, float]] = []
        """Records, each with its time."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop that will call `flush`; None if none will."""

    def schedule(self) -> None:
        """Have `flush` called; at once outside of an event loop."""
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self.loop.call_later(WRITTEN_WITHIN, self.flush)

    def flush(self) -> None:
        self.loop = None
        self.write()
        stdout.flush()

    def write(self) -> None:
        """Write the waiting lines into the buffer of stdout."""
        if waiting := self.waiting:
            self.waiting = []
            _put("".join([_access_line(record, at) for record, at in waiting]))


_access = _AccessLog()
_access_log = structlog.get_logger("chat_broker.access")
write_access_log = _access.flush
"""Write the waiting lines of the access log. To be called before the process ends."""


def log_request(record: AccessRecord) -> None:
    """Write one line of the access log. Bypasses structlog for JSON, since every request calls it."""
    if _access.batches:
        _access.waiting.append((record, time.time()))
        if _access.loop is None or _access.loop.is_closed():
            _access.schedule()
    elif _access.enabled:
        event = {
            "method": record.method,
            "path": redact(record.path[:LONGEST_PATH]),
            "route": record.route,
            "status": record.status,
            "ms": round(record.seconds * 1000, 2),
            "request_id": record.request_id,
            "address": record.address,
        }
        _access_log.info("request", **event, **(record.refusal or {}))


def _access_line(record: AccessRecord, at: float) -> str:
    # No encoder for the end of the line: its values are numbers and words of ours, which need no escapes.
    refusal = "" if record.refusal is None else "," + redact(_json(record.refusal))[1:-1]
    return (
        f"{_request_in_json(record.method, record.path[:LONGEST_PATH], record.route, record.status)}"
        f',"ms":{record.seconds * 1000:.2f},"request_id":"{record.request_id}","address":"{record.address}"{refusal}'
        f',"event":"request","level":"info","timestamp":"{_clock.text(at)}"}}\n'
    )


@lru_cache(maxsize=4096)  # clients repeat the same few requests
def _request_in_json(method: str, path: str, route: str, status: int) -> str:
    """The beginning of a line, without its closing brace."""
    return _json({"method": method, "path": redact(path), "route": route, "status": status})[:-1]


_DIGITS = tuple(f"{number:03}" for number in range(1000))
"""Looking three digits up takes a fifth of the time of formatting them."""


class _Clock:
    """Formats instants as RFC 3339 in UTC with microseconds; formats date and time of day once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now: float) -> str:
        """*now*, in seconds as `time.time` counts them."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        millis, micros = divmod(int((now - second) * 1e6), 1000)
        return f"{self._text}{_DIGITS[millis]}{_DIGITS[micros]}Z"


_clock = _Clock()


def _redacted(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > 11:
            event[key] = redact(value)
    return event


def configure(settings: Settings) -> None:
    """Set up logging in this process, for the broker and its libraries."""
    level = getattr(logging, settings.log_level)
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redacted,
    ]
    renderer = _renderer(settings.log_format)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stdout)),
        cache_logger_on_first_use=True,
    )
    _access.enabled = level <= logging.INFO
    _access.batches = _access.enabled and settings.log_format == "json"
    _configure_libraries(level, processors, renderer)


def _renderer(log_format: str) -> Any:
    if log_format == "json":
        return structlog.processors.JSONRenderer(serializer=_json)
    # `format_exc_info` has formatted the traceback already, so that `_redacted` sees it too.
    return structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=_plain)


def _configure_libraries(level: int, processors: list[Any], renderer: Any) -> None:
    """Send what libraries log through the same processors to the same stream."""
    handler = logging.StreamHandler(cast("TextIO", stdout))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error"):
        library = logging.getLogger(name)
        library.handlers[:] = []
        library.propagate = True
    quieten_uvicorn()


class _Stdout:
    """stdout, with the waiting lines of the access log before each other line: lines keep the order of their events."""

    def write(self, text: str) -> int:
        _access.write()
        return _put(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stdout.flush()


def _put(text: str) -> int:
    """Write to stdout. A full disk or a closed pipe loses lines: the log must fail no request."""
    with suppress(OSError):
        return sys.stdout.write(text)
    return 0


stdout = _Stdout()


def _json(event: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def _plain(stream: Any, exception: Any) -> None:
    stream.write(str(exception))
