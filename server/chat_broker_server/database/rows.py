"""Values to columns and back: metadata as JSON text, changed columns, folded texts for searches."""

from typing import Any

import msgspec
import structlog
from msgspec import UNSET

from chat_broker_kit.text.folding import fold

log = structlog.get_logger("chat_broker_server.database.rows")

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def metadata_of(text: Any) -> dict[str, Any]:
    """The metadata in a column. A column that is no JSON object is logged and read as {}, so that one row cannot break a list."""
    if text == "{}":
        return {}
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError, TypeError, RecursionError):
        log.warning("database.damaged_metadata")
        return {}


def metadata_text(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode() if value else "{}"


def folded(text: str | None) -> str | None:
    """The value of a `…_folded` column: `fold(text)`, or None if that equals *text* or *text* is None."""
    result = None if text is None else fold(text)
    return None if result == text else result


def changed_columns(changes: msgspec.Struct, searched: tuple[str, ...]) -> dict[str, Any]:
    """The columns that *changes* sets, with their values. Columns in *searched* get their `…_folded` column, too.

    Only these are updated: writing the others would undo changes of concurrent requests.
    """
    columns = {name: getattr(changes, name) for name in changes.__struct_fields__}
    columns = {name: value for name, value in columns.items() if value is not UNSET}
    if "metadata" in columns:
        columns["metadata"] = metadata_text(columns["metadata"])
    return columns | {
        f"{name}_folded": folded(columns[name]) for name in searched if name in columns
    }


def assignments(columns: dict[str, Any], first: int) -> str:
    """`name = $n, …` for an UPDATE whose parameters from *first* on are the values of *columns*."""
    return ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, first))


# A transaction that took its time earlier but commits later must not set the time back.
SET_UPDATED_AT = "updated_at = CASE WHEN updated_at > $3 THEN updated_at ELSE $3 END"


def contains(columns: tuple[str, ...], n: int) -> str:
    """The SQL condition that one of *columns*, folded, matches parameter *n*, a pattern of `like`."""
    conditions = (f"coalesce({column}_folded, {column}) LIKE ${n} ESCAPE '!'" for column in columns)
    return f"({' OR '.join(conditions)})"


def like(text: str) -> str:
    """The LIKE pattern (ESCAPE '!') of folded texts that contain *text*. `%` and `_` match literally."""
    escaped = fold(text).replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%"
