"""Who is typing in which room. A state ends by the socket, at its disconnect, or after some seconds."""

import asyncio
from collections.abc import Callable
from typing import Final

from chat_broker_server.chat.models import RoomUser
from chat_broker_server.realtime.connections import Connection, RoomKey

_Key = tuple[RoomKey, str]
_TOLD_AGAIN: Final = 1 / 3
"""After this part of a state's time it is told again, so that clients who end it themselves hear that it goes on."""


class TypingStates:
    """The typing users of this node's sockets. A user who types on two sockets counts once."""

    def __init__(self, seconds: float, ended: Callable[[RoomKey, RoomUser], None]) -> None:
        """*ended* is called when a state times out."""
        self._seconds = seconds
        self._ended = ended
        self._states: dict[_Key, dict[Connection, asyncio.TimerHandle]] = {}
        self._told_at: dict[_Key, float] = {}

    def __len__(self) -> int:
        return len(self._states)

    def start(self, connection: Connection, room: RoomKey, user: RoomUser) -> bool:
        """Start or prolong the state. True if it is to be told."""
        key, loop = (room, user.user_id), asyncio.get_running_loop()
        sockets = self._states.setdefault(key, {})
        told_again_at = self._told_at.get(key, float("-inf")) + self._seconds * _TOLD_AGAIN
        is_told = not sockets or loop.time() >= told_again_at
        if is_told:
            self._told_at[key] = loop.time()
        if (timer := sockets.get(connection)) is not None:
            timer.cancel()
        sockets[connection] = loop.call_later(self._seconds, self._time_out, connection, room, user)
        return is_told

    def stop(self, connection: Connection, room: RoomKey, user_id: str) -> bool:
        """End the state of this socket. True if the user types on no other socket."""
        sockets = self._states.get((room, user_id))
        if sockets is None or (timer := sockets.pop(connection, None)) is None:
            return False
        timer.cancel()
        if sockets:
            return False
        del self._states[room, user_id]
        del self._told_at[room, user_id]
        return True

    def _time_out(self, connection: Connection, room: RoomKey, user: RoomUser) -> None:
        if self.stop(connection, room, user.user_id):
            self._ended(room, user)
