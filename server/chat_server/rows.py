"""From rows to values: metadata is stored as JSON text, and one damaged row spoils no list."""

from typing import Any

import msgspec
import structlog

log = structlog.get_logger("chat_server.rows")

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def metadata_of(text: Any) -> dict[str, Any]:
    """The object that was stored; {} where somebody else wrote nonsense into the table."""
    if text == "{}":
        return {}
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError, TypeError, RecursionError):
        log.warning("database.damaged_metadata")
        return {}


def metadata_text(value: dict[str, Any]) -> str:
    """How it is stored."""
    return msgspec.json.encode(value).decode() if value else "{}"


def like(text: str) -> str:
    """A LIKE pattern (ESCAPE '!') for whatever contains *text*, letters of either case."""
    escaped = text.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%"
