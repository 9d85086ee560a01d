"""What can be an id of the Chat API's: nothing that would be anything else in a URL."""

import re

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_id(text: str) -> bool:
    """May *text* be one segment of an upstream path?"""
    return _ID.fullmatch(text) is not None
