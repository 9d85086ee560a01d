"""Who is typing where: begun by a socket, ended by it, by its end, or by time."""

import asyncio
from collections.abc import Callable

from chat_broker_server.chat.models import RoomUser
from chat_broker_server.realtime.connections import Connection, RoomKey

_Key = tuple[RoomKey, str]


class TypingStates:
    """The typing users of this node's sockets; a user typing on two sockets is typing once."""

    def __init__(self, seconds: float, ended: Callable[[RoomKey, RoomUser], None]) -> None:
        """*ended* is called when a state ends by itself."""
        self._seconds = seconds
        self._ended = ended
        self._states: dict[_Key, dict[Connection, asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def begin(self, connection: Connection, room: RoomKey, person: RoomUser) -> bool:
        """Typing goes on for another while; True if it was not known before."""
        sockets = self._states.setdefault((room, person.user_id), {})
        new = not sockets
        if (timer := sockets.get(connection)) is not None:
            timer.cancel()
        sockets[connection] = asyncio.get_running_loop().call_later(
            self._seconds, self._time_is_up, connection, room, person
        )
        return new

    def stop(self, connection: Connection, room: RoomKey, user_id: str) -> bool:
        """This socket does not type any more; True if the user has stopped by that."""
        sockets = self._states.get((room, user_id))
        if sockets is None or (timer := sockets.pop(connection, None)) is None:
            return False
        timer.cancel()
        if sockets:
            return False
        del self._states[room, user_id]
        return True

    def _time_is_up(self, connection: Connection, room: RoomKey, person: RoomUser) -> None:
        if self.stop(connection, room, person.user_id):
            self._ended(room, person)
