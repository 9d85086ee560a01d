"""A socket's seat in a room: what is taken with it, and what is given back when it ends."""

from collections.abc import Callable

import msgspec

from chat_broker_server.chat.events import Event
from chat_broker_server.chat.models import RoomUser
from chat_broker_server.chat.service import Chat
from chat_broker_server.credentials.tokens import Claims
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import Connection, RoomKey
from chat_broker_server.realtime.fanout import LiveRooms
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.presence import Presence
from chat_broker_server.realtime.typing import TypingStates

TYPING = frozenset({"userTyping", "userStoppedTyping"})


class Seats:
    """Who sits where on this node: listening, being online there, typing."""

    def __init__(
        self,
        chat: Chat,
        rooms: LiveRooms,
        presence: Presence,
        limits: Limits,
        publish: Callable[[Event], None],
    ) -> None:
        self.rooms = rooms
        self._chat = chat
        self._presence = presence
        self._typing = TypingStates(limits.typing_seconds, self._stopped_typing)
        self._publish = publish

    @property
    def typing(self) -> int:
        """How many users type now."""
        return len(self._typing)

    def take(self, connection: Connection, claims: Claims, key: RoomKey) -> int:
        """*connection* sits in the room from now on; answers how many users do."""
        if key not in connection.rooms:
            connection.rooms.add(key)
            self._presence.came(key, claims.sub)
        return self._presence.online(key)

    def leave(self, connection: Connection, key: RoomKey) -> None:
        """This socket listens to the room no more; whatever it was doing there ends."""
        self.rooms.leave(key, connection)
        claims = connection.claims
        if claims is None:
            return
        self.stop_typing(connection, claims, key)
        if key in connection.rooms:
            connection.rooms.discard(key)
            self._presence.went(key, claims.sub)

    def leave_all(self, connection: Connection) -> None:
        """It is nobody's any more, or gone."""
        for key in list(connection.rooms):
            self.leave(connection, key)
        if connection.joining is not None:
            self.rooms.leave(connection.joining, connection)

    def moved(self, connection: Connection) -> None:
        """*connection* has another outbox now."""
        for key in connection.rooms:
            self.rooms.moved(key, connection)

    def begin_typing(self, connection: Connection, claims: Claims, key: RoomKey) -> None:
        """Others hear of it, if it is news."""
        person = _person(connection, claims, key)
        if self._typing.begin(connection, key, person):
            self._say("userTyping", key, person)

    def stop_typing(self, connection: Connection, claims: Claims, key: RoomKey) -> None:
        """Others hear of it, if it is news."""
        if self._typing.stop(connection, key, claims.sub):
            self._stopped_typing(key, _person(connection, claims, key))

    def _stopped_typing(self, key: RoomKey, person: RoomUser) -> None:
        self._say("userStoppedTyping", key, person)

    def _say(self, name: str, key: RoomKey, person: RoomUser) -> None:
        self._publish(Event(name, *key, msgspec.json.encode(person), user_id=person.user_id))

    def tell(self, event: Event) -> list[Connection]:
        """Pass *event* on to those who sit here. Answers whom to call `recheck` for: they are told nothing more."""
        key = (event.project_id, event.room_id)
        if event.name in TYPING:
            ready = packets.event(event.name, event.payload)
            self.rooms.whisper(key, ready, about=event.user_id or "")
            return []
        self.rooms.tell(event)
        if event.name == "roomDeleted":
            for connection in self.rooms.members(key):
                self.leave(connection, key)
        elif event.name == "userLeft" and event.user_id is not None:
            # That was the last they heard, unless they are a member again by now: hints of several nodes
            # take different ways, so only the database knows.
            return self.rooms.pause(key, event.user_id)
        return []

    async def recheck(self, key: RoomKey, user_id: str, stopped: list[Connection]) -> None:
        """Let those go on who are members, and end the seats of the others; of all, if that cannot be known."""
        try:
            member = await self._chat.member(*key, user_id) is not None
        except ChatError:
            member = False
        for connection in stopped:
            if member:
                self.rooms.settle(key, connection)
            else:
                self.leave(connection, key)


def _person(connection: Connection, claims: Claims, key: RoomKey) -> RoomUser:
    return RoomUser(key[1], claims.sub, claims.name, connection.display_name)
