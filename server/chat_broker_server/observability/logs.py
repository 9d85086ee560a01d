"""Log configuration: one line per event, as JSON or as text. Both escape control characters."""

import logging
import sys
import traceback
from typing import Any

import structlog

from chat_broker_kit.logs.sampling import quieten_uvicorn
from chat_broker_server.settings import Settings


def configure(settings: Settings, *, level: str | None = None) -> None:
    """Send all logs, also those of libraries, to standard error in one format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = structlog.processors.JSONRenderer()
    if settings.log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level or settings.log_level)
    # They log query parameters, and requests that the access log has already.
    for name in ("asyncio", "websockets", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    quieten_uvicorn()


def bug(log: Any, event: str, **fields: Any) -> None:
    """Log the current exception as text. Renderers that show local variables would show secrets."""
    log.error(event, traceback=traceback.format_exc(), **fields)
