"""JSON from strangers, read so that no two readers could disagree about it."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

MAX_DEPTH = 32
MAX_INTEGER = 2**53

# C0 controls but tab, line feed and carriage return; surrogates (in decoded text always unpaired).
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_scan: Callable[[bytes], Any] = msgspec.json.Decoder().decode


class BadJson(ValueError):  # noqa: N818 - says what the bytes are
    """Not JSON that everybody would read alike. The text is for the sender and repeats nothing of theirs."""


def parse(body: bytes) -> Any:
    """The value in *body*.

    Raises BadJson for invalid UTF-8, trailing text, duplicate keys, NaN and Infinity, lone surrogates,
    control characters other than tab and line ends, over 32 levels, and integers beyond ±2^53.
    """
    opened = body.count(b"{") + body.count(b"[")
    if opened > MAX_DEPTH and _deepest(body) > MAX_DEPTH:
        raise BadJson(f"is nested deeper than {MAX_DEPTH} levels")
    try:
        value = _scan(body)
    except UnicodeDecodeError:
        raise BadJson("is not valid UTF-8") from None
    except (ValueError, RecursionError):
        raise BadJson("is not valid JSON") from None
    keys = _check(value, escapes=b"\\" in body)
    # msgspec keeps the last of two equal keys; counting colons outside of strings finds that out cheaply.
    if body.count(b":") != keys and _has_duplicates(body):
        raise BadJson("has the same key twice in one object")
    return value


def parse_object(body: bytes) -> dict[str, Any]:
    """The object in *body*; raises BadJson for everything else."""
    value = parse(body)
    if not isinstance(value, dict):
        raise BadJson("is not a JSON object")
    return value


def is_one_line(text: str) -> bool:
    """Has *text* no control character, line end or lone surrogate?"""
    return _CONTROL.search(text) is None


def _check(value: Any, *, escapes: bool) -> int:
    """Refuse what must not come in; answers the number of object keys. Depth is bounded already.

    *escapes*: is there a backslash? Without one no text can hold what must not come in as it is, says RFC 8259.
    """
    keys = 0
    waiting = [value]
    for one in waiting:  # which grows meanwhile
        if isinstance(one, str):
            if escapes and _UNSTORABLE.search(one):
                raise BadJson("has a control character or half a surrogate pair in a text")
        elif isinstance(one, dict):
            keys += len(one)
            waiting += one.values()
            if escapes:
                waiting += one
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, float):
            if not math.isfinite(one):
                raise BadJson("has a number that is not finite")
        elif isinstance(one, int) and not -MAX_INTEGER <= one <= MAX_INTEGER:
            raise BadJson("has an integer beyond 2^53")
    return keys


def _deepest(body: bytes) -> int:
    """Levels of nesting, without recursion; brackets in strings do not count."""
    depth = deepest = 0
    inside = escaped = False
    for byte in body:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest


def _has_duplicates(body: bytes) -> bool:
    found: list[bool] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        found.append(len({key for key, _ in pairs}) != len(pairs))

    json.loads(body, object_pairs_hook=look)
    return any(found)
