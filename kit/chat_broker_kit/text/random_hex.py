"""Random texts, made many at a time to save system calls."""

import os

_ready: list[str] = []  # pop() is atomic, so no two threads get the same
os.register_at_fork(after_in_child=_ready.clear)


def random_hex() -> str:
    """128 random bits as 32 hex digits."""
    try:
        return _ready.pop()
    except IndexError:
        digits = os.urandom(16 * 256).hex()
        first, *more = [digits[at : at + 32] for at in range(0, len(digits), 32)]
        _ready.extend(more)
        return first
