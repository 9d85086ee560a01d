"""What a `Content-Type` says of a request body."""

import re
from functools import lru_cache

_JSON = re.compile(r"\s*application/json\s*(;.*)?", re.IGNORECASE | re.ASCII | re.DOTALL)
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s\";]*)\"?", re.IGNORECASE | re.ASCII)
_UTF_8 = frozenset({"utf-8", "utf8"})


def is_json(content_type: str) -> bool:
    """Is it JSON in UTF-8? Parameters that mean nothing to JSON (RFC 8259 11) are ignored, except for another charset."""
    return content_type == "application/json" or _is_json(content_type[:256])


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    found = _JSON.fullmatch(content_type)
    if found is None:
        return False
    charsets = [_CHARSET.fullmatch(part.strip()) for part in (found[1] or "").split(";")]
    return all(one is None or one[1].lower() in _UTF_8 for one in charsets)
