"""Bounded caches that are plain dicts, so that a lookup costs no more than a dict's."""

from contextlib import suppress
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def put_bounded(cache: dict[K, V], key: K, value: V, max_size: int) -> V:
    """Store *value* and return it. A full *cache* loses its oldest entry."""
    if len(cache) >= max_size:
        with suppress(KeyError, RuntimeError):  # another thread has just made room
            del cache[next(iter(cache))]
    cache[key] = value
    return value
