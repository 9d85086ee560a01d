"""Text that is safe in a single line of output."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_one_line(text: str) -> bool:
    """Whether *text* has no control character, line end or lone surrogate."""
    return _CONTROL.search(text) is None
