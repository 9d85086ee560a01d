"""Strict JSON: only what all parsers, databases and clients read alike."""

import math
import re
from typing import Any

import msgspec

MAX_DEPTH = 32
MAX_INTEGER = 2**53

_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"

# C0 controls except tab, line feed and carriage return; surrogates, which are always unpaired in decoded text.
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_decode = msgspec.json.Decoder().decode


class NotStrictJson(ValueError):  # noqa: N818 - says what the bytes are
    """The input is not strict JSON.

    The text continues a sentence ("is not valid UTF-8") for the sender. It quotes nothing of the input.
    """


def parse(raw: bytes, *, unstored: bool = False) -> Any:
    """The value in *raw*.

    Raises NotStrictJson for invalid UTF-8, a byte order mark, trailing text, duplicate keys, NaN,
    Infinity and numbers too large to be finite, lone surrogates, more than 32 levels, control
    characters other than tab and line ends, and integers beyond ±2^53.

    *unstored* allows control characters and large integers: tokens and providers' responses may hold them in claims that
    are not read.
    """
    try:
        value = _decode(raw)
    except UnicodeDecodeError:
        raise NotStrictJson("is not valid UTF-8") from None
    except RecursionError:
        raise NotStrictJson(_TOO_DEEP) from None
    except msgspec.MsgspecError as error:
        raise NotStrictJson(f"is not valid JSON: {_reason(error)}") from None
    except ValueError:
        raise NotStrictJson("has a number that is out of range") from None
    # Without an escape, a control character is not valid JSON, and a lone surrogate is not valid UTF-8.
    refused = None if b"\\" not in raw else _SURROGATE if unstored else _UNSTORABLE
    keys = _check(value, refused, None if unstored else MAX_INTEGER)
    # msgspec drops all but the last of equal keys. Each key has one colon after it. Colons in strings are counted only if
    # the numbers differ.
    colons = raw.count(b":")
    if colons != keys and colons != keys + _colons_in_strings(value, raw):
        raise NotStrictJson("has the same key twice in one object")
    return value


def parse_object(raw: bytes, *, unstored: bool = False) -> dict[str, Any]:
    """The object in *raw*, as `parse` reads it. Also raises NotStrictJson for any other value."""
    value = parse(raw, unstored=unstored)
    if not isinstance(value, dict):
        raise NotStrictJson("is not a JSON object")
    return value


def check(value: Any) -> None:
    """Check a parsed value. Raises NotStrictJson as `parse` does, except for duplicate keys, which it cannot show."""
    _check(value, _UNSTORABLE, MAX_INTEGER)


def _check(value: Any, refused: re.Pattern[str] | None, largest: int | None) -> int:
    """The number of object keys in *value*.

    Raises NotStrictJson for a string that matches *refused* (None: no string is checked), and for an integer beyond
    *largest* (None: no limit).
    """
    keys = depth = 0
    level = [value]
    while level:
        inner: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                if refused is not None and refused.search(item):
                    raise NotStrictJson(
                        "has a control character or half a surrogate pair in a text"
                    )
            elif kind is dict:
                keys += len(item)
                if refused is None:
                    for each in item.values():
                        if type(each) is not str:
                            inner.append(each)  # noqa: PERF401 - a comprehension costs a call
                else:
                    inner += item
                    inner += item.values()
                if depth == MAX_DEPTH:
                    raise NotStrictJson(_TOO_DEEP)
            elif kind is list:
                inner += item if refused else [each for each in item if type(each) is not str]
                if depth == MAX_DEPTH:
                    raise NotStrictJson(_TOO_DEEP)
            elif kind is int:
                if largest is not None and not -largest <= item <= largest:
                    raise NotStrictJson("has an integer beyond ±2^53")
            elif item is not None and kind is not bool:
                _check_float(item)
        level = inner
        depth += 1
    return keys


def _check_float(value: Any) -> None:
    if type(value) is not float:
        raise NotStrictJson("has something that is not a JSON value")
    if not math.isfinite(value):
        raise NotStrictJson("has a number that is not finite")


def _colons_in_strings(value: Any, raw: bytes) -> int:
    """How many colons *raw*, whose parsed value is *value*, has inside strings."""
    if b"\\u003" in raw:  # an escaped colon
        return raw.count(b":") - _STRING.sub(b"", raw).count(b":")
    colons = 0
    queue = [value]
    for item in queue:  # grows during the loop
        kind = type(item)
        if kind is str:
            if ":" in item:
                colons += item.count(":")
        elif kind is dict:
            queue += item
            queue += item.values()
        elif kind is list:
            queue += item
    return colons


def _reason(error: msgspec.MsgspecError) -> str:
    text = str(error).removeprefix("JSON is malformed: ")
    return (
        "it ends too early" if text == "Input data was truncated" else text[:1].lower() + text[1:]
    )
