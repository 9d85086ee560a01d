"""JSON that means one thing only: what every parser, database and client agrees on."""

import math
import re
from typing import Any

import msgspec

MAX_DEPTH = 32
MAX_INTEGER = 2**53

_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"

# C0 controls but tab, line feed and carriage return; surrogates (in decoded text always unpaired).
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_decode = msgspec.json.Decoder().decode


class NotStrictJson(ValueError):  # noqa: N818 - says what the bytes are
    """Not JSON that everybody would read alike.

    The text continues a sentence ("is not valid UTF-8") for the sender, and repeats nothing of theirs.
    """


def parse(raw: bytes, *, unstored: bool = False) -> Any:
    """The value in *raw*.

    Raises NotStrictJson for invalid UTF-8, a byte order mark, trailing text, duplicate keys, NaN,
    Infinity and numbers too large to be finite, lone surrogates, more than 32 levels, control
    characters other than tab and line ends, and integers beyond ±2^53.

    *unstored* takes control characters and large integers as they are: tokens and providers' answers
    may hold them in claims that nobody reads.
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
    # A control character without an escape is no JSON, half a surrogate pair without one no UTF-8.
    refused = None if b"\\" not in raw else _SURROGATE if unstored else _UNSTORABLE
    keys = _check(value, refused, None if unstored else MAX_INTEGER)
    # msgspec keeps the last of two equal keys. Every key is followed by one colon; colons in texts
    # only matter if the numbers differ.
    colons = raw.count(b":")
    if colons != keys and colons != keys + _colons_in_texts(value, raw):
        raise NotStrictJson("has the same key twice in one object")
    return value


def parse_object(raw: bytes, *, unstored: bool = False) -> dict[str, Any]:
    """The object in *raw*, as `parse` reads it; raises NotStrictJson for every other value."""
    value = parse(raw, unstored=unstored)
    if not isinstance(value, dict):
        raise NotStrictJson("is not a JSON object")
    return value


def check(value: Any) -> None:
    """Judge a value that is parsed already.

    Raises NotStrictJson for everything that `parse` refuses but duplicate keys, which a parsed value
    no longer shows.
    """
    _check(value, _UNSTORABLE, MAX_INTEGER)


def _check(value: Any, refused: re.Pattern[str] | None, largest: int | None) -> int:
    """The number of object keys in *value*, looked at level by level.

    Texts must not match *refused* (None: none can), integers not exceed *largest* (None: all may).
    """
    keys = depth = 0
    level = [value]
    while level:
        inner: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is str:
                if refused is not None and refused.search(one):
                    raise NotStrictJson(
                        "has a control character or half a surrogate pair in a text"
                    )
            elif kind is dict:
                keys += len(one)
                if refused is None:
                    for each in one.values():
                        if type(each) is not str:
                            inner.append(each)  # noqa: PERF401 - a comprehension costs a call
                else:
                    inner += one
                    inner += one.values()
                if depth == MAX_DEPTH:
                    raise NotStrictJson(_TOO_DEEP)
            elif kind is list:
                inner += one if refused else [each for each in one if type(each) is not str]
                if depth == MAX_DEPTH:
                    raise NotStrictJson(_TOO_DEEP)
            elif kind is int:
                if largest is not None and not -largest <= one <= largest:
                    raise NotStrictJson("has an integer beyond ±2^53")
            elif kind is float:
                if not math.isfinite(one):
                    raise NotStrictJson("has a number that is not finite")
            elif one is not None and kind is not bool:
                raise NotStrictJson("has something that is not a JSON value")
        level = inner
        depth += 1
    return keys


def _colons_in_texts(value: Any, raw: bytes) -> int:
    """How many colons *raw*, which is *value*, has inside of its strings."""
    if b"\\u003" in raw:  # a colon may be spelt without one
        return raw.count(b":") - _STRING.sub(b"", raw).count(b":")
    colons = 0
    waiting = [value]
    for one in waiting:  # which grows meanwhile
        kind = type(one)
        if kind is str:
            if ":" in one:
                colons += one.count(":")
        elif kind is dict:
            waiting += one
            waiting += one.values()
        elif kind is list:
            waiting += one
    return colons


def _reason(error: msgspec.MsgspecError) -> str:
    text = str(error).removeprefix("JSON is malformed: ")
    return (
        "it ends too early" if text == "Input data was truncated" else text[:1].lower() + text[1:]
    )
