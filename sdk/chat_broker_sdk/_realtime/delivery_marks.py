"""Tells the server which messages have reached this device: once a second a room, and some rooms a second."""

import asyncio
from collections.abc import Awaitable, Callable

from chat_broker_sdk._errors import WebSocketError

PAUSE = 1.0
"""Seconds between two marks of one room."""
_BETWEEN_ROOMS = 0.2
_NOT_OFFERED = frozenset({"unknown_event", "unsupported"})


class DeliveryMarks:
    """Sends the newest `seq` of each room with *send*. A mark that cannot be sent is left to the next message."""

    def __init__(self, send: Callable[[str, int], Awaitable[object]]) -> None:
        self._send = send
        self._due: dict[str, int] = {}
        self._marked: dict[str, int] = {}
        self._sent_at: dict[str, float] = {}
        self._is_offered = True
        self._is_running = False

    def note(self, room_id: str, seq: int) -> bool:
        """Mark *seq* soon. Whether `run` is to be started for it."""
        if not self._is_offered or seq <= self._marked.get(room_id, 0):
            return False
        self._marked[room_id] = seq
        self._due[room_id] = seq
        if self._is_running:
            return False
        self._is_running = True
        return True

    def known(self, room_id: str, seq: int) -> None:
        """The server has the mark *seq* already."""
        self._marked[room_id] = max(seq, self._marked.get(room_id, 0))

    def forget(self, room_id: str) -> None:
        """The room is not the user's any more."""
        self._marked.pop(room_id, None)
        self._sent_at.pop(room_id, None)

    async def run(self) -> None:
        """Send what is due, until nothing is."""
        clock = asyncio.get_running_loop().time
        try:
            while self._due and self._is_offered:
                room_id = min(self._due, key=lambda each: self._sent_at.get(each, 0.0))
                await asyncio.sleep(max(0.0, self._sent_at.get(room_id, 0.0) + PAUSE - clock()))
                seq = self._due[room_id]
                self._sent_at[room_id] = clock()
                try:
                    await self._send(room_id, seq)
                except WebSocketError as error:
                    self._is_offered = error.code not in _NOT_OFFERED
                if self._due[room_id] == seq:
                    del self._due[room_id]
                await asyncio.sleep(_BETWEEN_ROOMS)
        finally:
            self._due.clear()
            self._is_running = False
