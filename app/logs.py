"""Logs: one line an event, JSON or for people, without secrets."""

import asyncio
import logging
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import structlog

from app.settings import Settings

WRITTEN_WITHIN = 0.02
"""Seconds that a line of the access log may wait for others."""

# Names that log URLs, headers or statements when asked to be chatty.
_QUIET = (
    "alembic",
    "asyncio",
    "httpcore",
    "httpx",
    "aiohttp",
    "sqlalchemy",
    "engineio",
    "socketio",
    "uvicorn.access",
)
# What certainly is a credential, wherever it turns up: keys of the Chat API and ours, JWTs, sessions.
_CREDENTIAL = re.compile(
    r"\b[ac]k_[A-Za-z0-9_-]{12,}|\bdev_[A-Za-z0-9_-]+\.[0-9]+\.[A-Za-z0-9_-]+|\beyJ[A-Za-z0-9_-]{6,}[A-Za-z0-9_.-]*"
    r"|(?i:bearer|basic)\s+[A-Za-z0-9+/=_.~-]{8,}|://[^/\s:@]*:[^/\s@]+@"
)


# Nothing here that JSON would escape, and nothing of what a credential has but for `eyJ`: no underscore, no colon.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/.~-]*")


def redact(text: str) -> str:
    """*text* without what looks like a credential."""
    return _CREDENTIAL.sub("[hidden]", text)


@dataclass
class _Access:
    """How the access log is written: by hand once `configure` has chosen JSON, or through structlog."""

    write: Callable[[str], object] | None = None
    wanted: bool = True


_access = _Access()
_access_log = structlog.get_logger("app.access")


def log_request(
    method: str, path: str, route: str, status: int, ms: float, request_id: str, address: str
) -> None:
    """One line of the access log. The one event that every request writes, so it takes no detour."""
    if not _access.wanted:
        return
    if _access.write is not None and _is_plain(path):
        # By hand: everything else here is a number, or a word of ours.
        _access.write(
            f'{{"method":"{method}","path":"{path}","route":"{route}","status":{status},"ms":{ms}'
            f',"request_id":"{request_id}","address":"{address}","event":"request","level":"info"'
            f',"timestamp":"{_clock.text(time.time())}"}}\n'
        )
        return
    event = {
        "method": method,
        "path": redact(path),
        "route": route,
        "status": status,
        "ms": ms,
        "request_id": request_id,
        "address": address,
    }
    if _access.write is None:
        _access_log.info("request", **event)
        return
    line = {**event, "event": "request", "level": "info", "timestamp": _clock.text(time.time())}
    _access.write(_json(line) + "\n")


@lru_cache(maxsize=4096)
def _is_plain(path: str) -> bool:
    """Is there nothing in *path* to escape, or to hide? Clients ask for the same few again and again."""
    return _PLAIN_PATH.fullmatch(path) is not None and "eyJ" not in path


class _Clock:
    """RFC 3339 in UTC with microseconds; the part before the dot is worked out once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now: float) -> str:
        """The instant *now* of `time.time`."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._text}{int((now - second) * 1e6):06d}Z"


_clock = _Clock()


def _redacted(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > 11:
            event[key] = redact(value)
    return event


def configure(settings: Settings) -> None:
    """Set up logging of this process, of our own and of the libraries'."""
    level = getattr(logging, settings.log_level)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redacted,
    ]
    renderer: Any
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer(serializer=_json)
    else:
        # Already formatted above, so that a traceback goes through the redaction too.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=_plain
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    _access.wanted = level <= logging.INFO
    _access.write = _write_line if settings.log_format == "json" else None
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
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
    logging.getLogger("uvicorn.error").addFilter(_names_no_query)


def _names_no_query(record: logging.LogRecord) -> bool:
    """uvicorn writes the whole address of each websocket; a client may have put a token into its query."""
    return not str(record.msg).startswith('%s - "WebSocket')


@dataclass
class _Flushing:
    """Lines of the access log leave together: a system call each would be a tenth of a request.

    Any other line, and the end of the process, takes along what is waiting.
    """

    due_in: asyncio.AbstractEventLoop | None = None

    def now(self) -> None:
        """Write out what there is."""
        self.due_in = None
        sys.stdout.flush()

    def soon(self) -> None:
        """Write out within `WRITTEN_WITHIN`; at once where there is no loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.now()
            return
        self.due_in = loop
        loop.call_later(WRITTEN_WITHIN, self.now)


_flushing = _Flushing()


def _write_line(line: str) -> None:
    sys.stdout.write(line)
    if _flushing.due_in is None or _flushing.due_in.is_closed():
        _flushing.soon()


def _json(event: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def _plain(stream: Any, exception: Any) -> None:
    stream.write(str(exception))
