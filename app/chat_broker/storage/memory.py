"""What a single process uses in place of Redis."""

from chat_broker.chat.ports import Listener

MARKS = 16_384


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
