"""Stores in memory: for tests, and for a single process."""

from collections.abc import Mapping
from dataclasses import replace

from chat_broker.chat.ports import Link, Listener

MARKS = 16_384


class MemoryLinks:
    """Links in a dictionary, for tests."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, str, str], Link] = {}

    async def find(self, project_id: str, issuer: str, subject: str) -> Link | None:
        return self._links.get((project_id, issuer, subject))

    async def add(self, link: Link) -> Link | None:
        """Keep *link* unless the principal has one; None if the chat user is another principal's."""
        key = (link.project_id, link.issuer, link.subject)
        if key in self._links:
            return self._links[key]
        taken = {(other.project_id, other.user_id) for other in self._links.values()}
        if (link.project_id, link.user_id) in taken:
            return None
        self._links[key] = link
        return link

    async def note(self, link: Link, changes: Mapping[str, str]) -> None:
        key = (link.project_id, link.issuer, link.subject)
        if (present := self._links.get(key)) is not None and present.user_id == link.user_id:
            self._links[key] = replace(present, **changes)

    async def move(self, link: Link, *, to: Link) -> Link | None:
        key = (link.project_id, link.issuer, link.subject)
        present = self._links.get(key)
        if present is None or present.user_id != link.user_id:
            return present
        others = [other for place, other in self._links.items() if place != key]
        if any(
            (other.project_id, other.user_id) == (to.project_id, to.user_id) for other in others
        ):
            return None
        self._links[key] = to
        return to


class LocalRoomChanges:
    """Marks of rooms that this process changes. Correct only for a single process.

    A room's hash selects one of `MARKS` marks, so memory is bounded. A change of one room makes others with the same
    mark look changed, which costs each of them one lookup.
    """

    def __init__(self) -> None:
        self._changes = 0
        self._marks = ["0"] * MARKS

    async def mark(self, room_id: str) -> str | None:
        return self._marks[hash(room_id) % MARKS]

    async def changed(self, room_id: str) -> None:
        self._changes += 1
        self._marks[hash(room_id) % MARKS] = str(self._changes)


class NoHints:
    """Hints for a single process: sends none and receives none."""

    live = False

    def on(self, topic: str, listener: Listener) -> None:
        """Does nothing: no hint will arrive."""

    async def tell(self, topic: str, key: str | None) -> None:
        """Does nothing: there is no other process."""
