"""Walking a list by page numbers, so that nothing is skipped while rows come and go. Pure.

When rows that were walked past are deleted, those behind move up, and the next page begins too late. So each page is
asked for in a size that makes it begin with something seen already: what follows it in the same answer is what
follows it in the list. If it begins with a stranger, the walk steps back until it does not.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from ._models import Page

T = TypeVar("T")

LEAST = 20
"""Sizes up to this one suffice to make pages overlap anywhere in a list of two hundred million."""


class PageWalk(Generic[T]):
    """Which page to ask for next, and what of it is new. *key* names a row for good.

    The list's order may be any, as long as rows do not change places in it.
    """

    def __init__(self, limit: int, key: Callable[[T], str]) -> None:
        self.number = 1
        self.size = self._largest = max(limit, LEAST)
        self.done = False
        self._key = key
        self._seen: set[str] = set()
        self._overlaps = False
        self._back = 1
        self._fixed = False  # the server gives pages of its own size, whatever it is asked for

    def fresh(self, page: Page[T]) -> list[T]:
        """What of the page asked for is new; then `number` and `size` are the next one's, or `done` is set."""
        size = self._real_size(page)
        start = (self.number - 1) * size
        keys = [self._key(item) for item in page.items]
        if self._overlaps and not self._fixed and not (keys and keys[0] in self._seen):
            self._step_back(start)
            return []
        new: list[T] = []
        for key, item in zip(keys, page.items, strict=True):
            if key not in self._seen:
                self._seen.add(key)
                new.append(item)
        self._back = 1
        self.done = not keys or len(keys) < size or self._is_last(page)
        self._aim(start + len(keys))
        return new

    def _real_size(self, page: Page[T]) -> int:
        """How many rows the server puts into a page: it may allow fewer than were asked for."""
        size, got = page.limit, len(page.items)
        if size is None and (got > self.size or (not self._seen and page.total_pages != 1)):
            size = got  # it does not say: the first page shows it
        if size is None or size < 1 or size == self.size:
            return self.size
        self._fixed = self._fixed or self.number > 1 or size > self.size
        self._largest = size
        return size

    def _is_last(self, page: Page[T]) -> bool:
        if page.has_more is not None:
            return not page.has_more
        return page.total_pages is not None and self.number >= page.total_pages

    def _aim(self, reached: int) -> None:
        """At the page that holds the last of *reached* rows, and the most of those behind it."""
        self.number, self.size, gain = reached // self._largest + 1, self._largest, 0
        if reached and not self._fixed:
            for size in range(self._largest, self._largest // 2, -1):
                number = (reached - 1) // size + 1
                if number * size - reached > gain:
                    self.number, self.size, gain = number, size, number * size - reached
        self._overlaps = gain > 0 and self.number > 1

    def _step_back(self, start: int) -> None:
        """Rows before *start* have gone: look that much further ahead in the list, and further each time."""
        self._aim(max(start - self._back * self._largest, 0))
        self._back *= 2
