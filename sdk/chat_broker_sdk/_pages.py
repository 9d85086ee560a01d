"""Walks a list by page numbers without skipping rows that are added or deleted meanwhile. Pure.

When rows before the current page are deleted, later rows move up, and the next page would begin too late. So each
request chooses a page size that makes the next page begin with a row already seen: the rows after it in the response
are the rows after it in the list. If the page begins with an unseen row, the walk steps back.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from ._models import Page

T = TypeVar("T")

MIN_SIZE = 20
"""From this size on, a smaller page size that makes pages overlap exists anywhere in a list of 200 million rows."""


class PageWalk(Generic[T]):
    """Which page to request next, and which of its rows are new.

    *key* returns a row's permanent id. The list may have any order in which rows do not change places.
    """

    def __init__(self, limit: int, key: Callable[[T], str]) -> None:
        self.number = 1
        self.size = self._largest = max(limit, MIN_SIZE)
        self.done = False
        self._key = key
        self._seen: set[str] = set()
        self._overlaps = False
        self._back = 1
        self._fixed = False  # the server ignores the requested size

    def fresh(self, page: Page[T]) -> list[T]:
        """The unseen rows of *page*. Afterwards `number` and `size` are the next page's, or `done` is set."""
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
        """The server's page size, which may be smaller than the requested one."""
        size, count = page.limit, len(page.items)
        if size is None and (count > self.size or (not self._seen and page.total_pages != 1)):
            size = count  # the server does not say; a full first page shows it
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
        """Choose the page that holds row number *reached* and as many rows after it as possible."""
        self.number, self.size, gain = reached // self._largest + 1, self._largest, 0
        if reached and not self._fixed:
            for size in range(self._largest, self._largest // 2, -1):
                number = (reached - 1) // size + 1
                if number * size - reached > gain:
                    self.number, self.size, gain = number, size, number * size - reached
        self._overlaps = gain > 0 and self.number > 1

    def _step_back(self, start: int) -> None:
        """Rows before *start* were deleted: go back one page, and twice as far each time."""
        self._aim(max(start - self._back * self._largest, 0))
        self._back *= 2
