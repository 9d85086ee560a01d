"""Reads the `Content-Type` of a request body."""

import re
from functools import lru_cache

_JSON = re.compile(r"\s*application/json\s*(;.*)?", re.IGNORECASE | re.ASCII | re.DOTALL)
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s\";]*)\"?", re.IGNORECASE | re.ASCII)
_UTF_8 = frozenset({"utf-8", "utf8"})


def is_json(content_type: str) -> bool:
    """Whether it is JSON in UTF-8. Parameters other than charset have no meaning (RFC 8259, 11) and are ignored."""
    return content_type == "application/json" or _is_json(content_type[:256])


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    match = _JSON.fullmatch(content_type)
    if match is None:
        return False
    charsets = [_CHARSET.fullmatch(part.strip()) for part in (match[1] or "").split(";")]
    return all(charset is None or charset[1].lower() in _UTF_8 for charset in charsets)
