"""Logs: one line an event, JSON or for people, without secrets."""

import asyncio
import logging
import re
import sys
import time
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import structlog

from chat_broker.settings import Settings
from chat_broker_kit.logs.sampling import quieten_uvicorn

WRITTEN_WITHIN = 0.02
"""Seconds that a line of the access log may wait for others."""
LONGEST_PATH = 200
"""Characters of a path that the access log shows."""

# Names that log URLs, headers or statements when asked to be chatty.
_QUIET = (
    "asyncio",
    "httpcore",
    "httpx",
    "aiohttp",
    "engineio",
    "socketio",
    "uvicorn.access",
)
# What certainly is a credential, wherever it turns up: keys of the Chat API and ours, JWTs, sessions.
_CREDENTIAL = re.compile(
    r"\b[ac]k_[A-Za-z0-9_-]{12,}|\bdev_[A-Za-z0-9_-]+\.[0-9]+\.[A-Za-z0-9_-]+|\beyJ[A-Za-z0-9_-]{6,}[A-Za-z0-9_.-]*"
    r"|(?i:bearer|basic)\s+[A-Za-z0-9+/=_.~-]{8,}|://[^/\s:@]*:[^/\s@]+@"
)


def redact(text: str) -> str:
    """*text* without what looks like a credential."""
    return _CREDENTIAL.sub("[hidden]", text)


About = dict[str, str] | None


class _Access:
    """The access log. Its lines are made and written together, within `WRITTEN_WITHIN`: made one at a time between other
    things each costs twice as much, and a system call each would be a tenth of a request.

    Any other line, and the end of the process, takes along what is waiting.
    """

    def __init__(self) -> None:
        self.by_hand = False
        """Has `configure` chosen JSON? Else lines go through structlog, one at a time."""
        self.wanted = True
        self.waiting: list[tuple[str, str, str, int, float, str, str, About, float]] = []
        """What `log_request` was told, and the time."""
        self.due_in: asyncio.AbstractEventLoop | None = None
        """The loop that will write it."""

    def soon(self) -> None:
        """Have what waits written; at once where there is no loop."""
        try:
            self.due_in = asyncio.get_running_loop()
        except RuntimeError:
            self.now()
            return
        self.due_in.call_later(WRITTEN_WITHIN, self.now)

    def now(self) -> None:
        """Write what waits."""
        self.due_in = None
        self.write()
        stdout.flush()

    def write(self) -> None:
        """Have what waits in the stream's own buffer."""
        if waiting := self.waiting:
            self.waiting = []
            _put("".join([_access_line(*one) for one in waiting]))


_access = _Access()
_access_log = structlog.get_logger("chat_broker.access")
write_access_log = _access.now
"""Write what still waits to be written, before the process ends."""


def log_request(
    method: str,
    path: str,
    route: str,
    status: int,
    seconds: float,
    request_id: str,
    address: str,
    about: About = None,
) -> None:
    """One line of the access log. The one event that every request writes, so it takes no detour.

    *about*: what else there is to say of a request that was refused.
    """
    if _access.by_hand:
        _access.waiting.append(
            (method, path, route, status, seconds, request_id, address, about, time.time())
        )
        if _access.due_in is None or _access.due_in.is_closed():
            _access.soon()
    elif _access.wanted:
        event = _event(method, path, route, status, seconds, request_id, address)
        _access_log.info("request", **event, **(about or {}))


def _access_line(
    method: str,
    path: str,
    route: str,
    status: int,
    seconds: float,
    request_id: str,
    address: str,
    about: About,
    at: float,
) -> str:
    # By hand: everything but the beginning is a number, or a word of ours.
    more = "" if about is None else "," + redact(_json(about))[1:-1]
    return (
        f"{_request_in_json(method, path[:LONGEST_PATH], route, status)}"
        f',"ms":{seconds * 1000:.2f},"request_id":"{request_id}","address":"{address}"{more}'
        f',"event":"request","level":"info","timestamp":"{_clock.text(at)}"}}\n'
    )


@lru_cache(maxsize=4096)  # clients ask for the same few again and again
def _request_in_json(method: str, path: str, route: str, status: int) -> str:
    """The beginning of a line, without the brace that ends it."""
    return _json({"method": method, "path": redact(path), "route": route, "status": status})[:-1]


def _event(
    method: str, path: str, route: str, status: int, seconds: float, request_id: str, address: str
) -> dict[str, Any]:
    return {
        "method": method,
        "path": redact(path[:LONGEST_PATH]),
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 2),
        "request_id": request_id,
        "address": address,
    }


_DIGITS = tuple(f"{number:03}" for number in range(1000))
"""To look three digits up takes a fifth of what formatting them does."""


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
    out: Any = stdout
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
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _access.wanted = level <= logging.INFO
    _access.by_hand = _access.wanted and settings.log_format == "json"
    handler = logging.StreamHandler(out)
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
    quieten_uvicorn()


class _Stdout:
    """stdout, and what waits to be written there goes first: lines stand in the order in which things happened."""

    def write(self, text: str) -> int:
        """See TextIO."""
        _access.write()
        return _put(text)

    def flush(self) -> None:
        """See TextIO."""
        with suppress(OSError):
            sys.stdout.flush()


def _put(text: str) -> int:
    """Write to stdout. What its disk or reader does not take is lost: a log must fail no request."""
    with suppress(OSError):
        return sys.stdout.write(text)
    return 0


stdout = _Stdout()


def _json(event: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def _plain(stream: Any, exception: Any) -> None:
    stream.write(str(exception))
