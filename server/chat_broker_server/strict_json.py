"""JSON that means one thing only: what every parser, database and client agrees on.

`loads` refuses what others would guess about: duplicate keys, NaN and Infinity, lone surrogates,
NUL and other control characters (tab, line feed and carriage return may stand in text), more than
32 levels, integers beyond ±2^53, invalid UTF-8 and anything after the value.
"""

import math
import re
from typing import Any

import msgspec

MAX_DEPTH = 32
MAX_INTEGER = 2**53

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_decode = msgspec.json.Decoder().decode


class NotStrictJSON(ValueError):  # noqa: N818 – says what the bytes are
    """The bytes are not JSON that we accept; the text says why, for the sender to read."""


def loads(raw: bytes) -> Any:
    """Parse *raw*, or raise NotStrictJSON with a message for whoever sent it."""
    try:
        value = _decode(raw)
    except UnicodeDecodeError:
        raise NotStrictJSON("The JSON is not valid UTF-8.") from None
    except RecursionError:
        raise NotStrictJSON(f"The JSON is nested more than {MAX_DEPTH} levels deep.") from None
    except msgspec.MsgspecError as error:
        raise NotStrictJSON(f"This is not valid JSON: {_reason(error)}.") from None
    except ValueError:
        raise NotStrictJSON("The JSON contains a number out of range.") from None
    # A control character without an escape is no JSON, half a surrogate pair without one no UTF-8.
    keys = _walk(value, MAX_DEPTH, b"\\" in raw)
    # Every key is followed by one colon. Colons inside strings only matter if the numbers differ.
    if raw.count(b":") != keys and _STRING.sub(b"", raw).count(b":") != keys:
        raise NotStrictJSON("The JSON has an object with the same key twice.")
    return value


def check(value: Any) -> int:
    """Judge a value that is parsed already; answer how many object keys it has in all.

    Raises NotStrictJSON for everything but duplicate keys, which a parsed value no longer shows.
    """
    return _walk(value, MAX_DEPTH, True)


def _walk(value: Any, levels: int, doubtful: bool) -> int:
    """*doubtful*: its texts must be looked at, too."""
    kind = type(value)
    if kind is str:
        if doubtful:
            check_text(value)
    elif kind is dict or kind is list:
        if not levels:
            raise NotStrictJSON(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
        if kind is list:
            return sum([_walk(item, levels - 1, doubtful) for item in value])
        keys = len(value)
        for key, item in value.items():
            if doubtful:
                check_text(key)
            if doubtful or type(item) is not str:
                keys += _walk(item, levels - 1, doubtful)
        return keys
    elif kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise NotStrictJSON("The JSON contains an integer beyond ±2^53.")
    elif kind is float:
        if not math.isfinite(value):
            raise NotStrictJSON("The JSON contains a number that is not finite.")
    elif value is not None and kind is not bool:
        raise NotStrictJSON("This is not a JSON value.")
    return 0


def check_text(text: str) -> None:
    """Refuse text that holds control characters or lone surrogates."""
    if _UNSAFE.search(text):
        raise NotStrictJSON("The JSON contains a control character or half a surrogate pair.")


def _reason(error: msgspec.MsgspecError) -> str:
    text = str(error).removeprefix("JSON is malformed: ")
    return (
        "it ends too early" if text == "Input data was truncated" else text[:1].lower() + text[1:]
    )
