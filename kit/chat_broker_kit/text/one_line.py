"""Texts that stay on the line they are printed on."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_one_line(text: str) -> bool:
    """Has *text* no control character, line end or lone surrogate?"""
    return _CONTROL.search(text) is None
