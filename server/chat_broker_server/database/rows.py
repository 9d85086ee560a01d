"""From rows to values and back: metadata is stored as JSON text, and one damaged row spoils no list."""

from typing import Any

import msgspec
import structlog
from msgspec import UNSET

from chat_broker_kit.text.folding import fold

log = structlog.get_logger("chat_broker_server.database.rows")

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


def folded(text: str | None) -> str | None:
    """What is stored beside *text* to find it by (`fold`); None if that is *text* itself, or there is none."""
    found = None if text is None else fold(text)
    return None if found == text else found


def asked_columns(changes: msgspec.Struct, searched: tuple[str, ...]) -> dict[str, Any]:
    """The columns that *changes* sets, and what they are to hold; those of *searched* with what they are found by.

    An UPDATE of others would undo what was written there since they were read.
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


# An instant that a slower writer took earlier is not put over a later one.
TOUCHED = "updated_at = CASE WHEN updated_at > $3 THEN updated_at ELSE $3 END"


def contains(columns: tuple[str, ...], n: int) -> str:
    """The condition that one of *columns*, folded, is LIKE parameter *n*: see `like`."""
    found = (f"coalesce({column}_folded, {column}) LIKE ${n} ESCAPE '!'" for column in columns)
    return f"({' OR '.join(found)})"


def like(text: str) -> str:
    """A LIKE pattern (ESCAPE '!') for what contains *text*, both folded; `%` and `_` stand for themselves."""
    escaped = fold(text).replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%"
