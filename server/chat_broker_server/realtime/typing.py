"""Who is typing in which room. A state ends by the socket, at its disconnect, or after some seconds."""

import asyncio
from collections.abc import Callable

from chat_broker_server.chat.models import RoomUser
from chat_broker_server.realtime.connections import Connection, RoomKey

_Key = tuple[RoomKey, str]


class TypingStates:
    """The typing users of this node's sockets. A user who types on two sockets counts once."""

    def __init__(self, seconds: float, ended: Callable[[RoomKey, RoomUser], None]) -> None:
        """*ended* is called when a state times out."""
        self._seconds = seconds
        self._ended = ended
        self._states: dict[_Key, dict[Connection, asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def start(self, connection: Connection, room: RoomKey, user: RoomUser) -> bool:
        """Start or prolong the state. True if the user was not typing before."""
        sockets = self._states.setdefault((room, user.user_id), {})
        new = not sockets
        if (timer := sockets.get(connection)) is not None:
            timer.cancel()
        sockets[connection] = asyncio.get_running_loop().call_later(
            self._seconds, self._time_out, connection, room, user
        )
        return new

    def stop(self, connection: Connection, room: RoomKey, user_id: str) -> bool:
        """End the state of this socket. True if the user types on no other socket."""
        sockets = self._states.get((room, user_id))
        if sockets is None or (timer := sockets.pop(connection, None)) is None:
            return False
        timer.cancel()
        if sockets:
            return False
        del self._states[room, user_id]
        return True

    def _time_out(self, connection: Connection, room: RoomKey, user: RoomUser) -> None:
        if self.stop(connection, room, user.user_id):
            self._ended(room, user)
