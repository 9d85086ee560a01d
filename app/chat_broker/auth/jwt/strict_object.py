"""One JSON object out of a token or a provider's answer, without the liberties `json` takes.

Unlike a request body, such an object may hold large integers and any text in claims nobody reads.
"""

import json
from typing import Any, NoReturn

MAX_DEPTH = 32


class BadJson(ValueError):  # noqa: N818 - named for what happened
    """Not one JSON object in UTF-8 that every reader would understand alike."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The object in *body*.

    Raises BadJson for duplicate keys, NaN and Infinity, lone surrogates, invalid UTF-8, a byte order
    mark, more than 32 levels, trailing text, or anything but an object.
    """
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse
        )
        if b"\\ud" in body or b"\\uD" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # fails on a lone surrogate
    except (ValueError, RecursionError):  # also integers of thousands of digits
        raise BadJson("not well-formed JSON") from None
    if not isinstance(value, dict):
        raise BadJson("not a JSON object")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BadJson("nested too deeply")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadJson("a key is repeated")
    return result


def _refuse(name: str) -> NoReturn:
    raise BadJson(f"{name} is not JSON")


def _depth(value: object) -> int:
    deepest, left = 0, [(value, 1)]
    while left:
        part, depth = left.pop()
        if isinstance(part, dict | list):
            deepest = max(deepest, depth)
            inner = part.values() if isinstance(part, dict) else part
            left.extend((child, depth + 1) for child in inner)
    return deepest
