"""The subscriptions of this node's connections to rooms, with presence and typing."""

from collections.abc import Callable

import msgspec

from chat_broker_server.chat.events import SIGNAL, TYPING, Event, user_stopped_typing, user_typing
from chat_broker_server.chat.models import RoomUser
from chat_broker_server.chat.service import Chat
from chat_broker_server.credentials.tokens import Claims
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import packets
from chat_broker_server.realtime.connections import Connection, RoomKey
from chat_broker_server.realtime.fanout import Fanout
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.presence import Presence
from chat_broker_server.realtime.typing import TypingStates


class Subscriptions:
    def __init__(
        self,
        chat: Chat,
        rooms: Fanout,
        presence: Presence,
        limits: Limits,
        publish: Callable[[Event], None],
    ) -> None:
        self.fanout = rooms
        self._chat = chat
        self._presence = presence
        self._typing_seconds = limits.typing_seconds
        self._typing = TypingStates(limits.typing_seconds, self._publish_stopped)
        self._publish = publish

    @property
    def typing(self) -> int:
        """How many users are typing."""
        return len(self._typing)

    def subscribe(
        self, connection: Connection, claims: Claims, key: RoomKey, *, peeks: bool = False
    ) -> int:
        """Note the subscription and return how many users are online in the room. `Fanout.subscribe` follows.

        Who *peeks* or hides is not counted.
        """
        if peeks:
            connection.peeked_rooms.add(key)
        elif key not in connection.rooms or key in connection.peeked_rooms:
            connection.peeked_rooms.discard(key)
            if not connection.hidden:
                self._presence.add(key, claims.sub)
        connection.rooms.add(key)
        return self._presence.online(key)

    def unsubscribe(self, connection: Connection, key: RoomKey) -> None:
        """End the subscription with its presence and typing."""
        self.fanout.unsubscribe(key, connection)
        claims = connection.claims
        if claims is None:
            return
        self.stop_typing(connection, claims, key)
        peeked = key in connection.peeked_rooms
        connection.peeked_rooms.discard(key)
        if key in connection.rooms:
            connection.rooms.discard(key)
            if not peeked and not connection.hidden:
                self._presence.remove(key, claims.sub)

    def hide(self, connection: Connection, *, hidden: bool) -> None:
        """Count the connection's user in its rooms, or no more. Called when the user has set whether they are seen."""
        was_hidden, connection.hidden = bool(connection.hidden), hidden
        if connection.claims is None or was_hidden == hidden:
            return
        count = self._presence.remove if hidden else self._presence.add
        for key in connection.rooms - connection.peeked_rooms:
            count(key, connection.claims.sub)

    def end_peeking(self, key: RoomKey) -> None:
        """Called for a room that is private or deleted: only members may listen."""
        for connection in self.fanout.members(key):
            if key in connection.peeked_rooms:
                self.unsubscribe(connection, key)

    def unsubscribe_all(self, connection: Connection) -> None:
        """Called when the connection has signed out or ended."""
        for key in list(connection.rooms):
            self.unsubscribe(connection, key)
        if connection.joining is not None:
            self.fanout.unsubscribe(connection.joining, connection)

    def replace_send_queue(self, connection: Connection) -> None:
        """Called for a connection whose send queue was replaced."""
        for key in connection.rooms:
            self.fanout.replace_send_queue(key, connection)

    def start_typing(self, connection: Connection, claims: Claims, key: RoomKey) -> None:
        """Publish `userTyping`, in a small room, unless the user was told to be typing a moment ago."""
        user = _room_user(connection, claims, key)
        if self.fanout.is_small(key) and self._typing.start(connection, key, user):
            self._publish(user_typing(key[0], user, round(self._typing_seconds)))

    def stop_typing(self, connection: Connection, claims: Claims, key: RoomKey) -> None:
        """Publish `userStoppedTyping` if the user was typing on this socket only."""
        if self._typing.stop(connection, key, claims.sub):
            self._publish_stopped(key, _room_user(connection, claims, key))

    def _publish_stopped(self, key: RoomKey, user: RoomUser) -> None:
        self._publish(user_stopped_typing(key[0], user))

    def deliver(self, event: Event) -> list[Connection]:
        """Send *event* to the room's subscribers. Returns suspended connections, for which to call `recheck`."""
        if event.name == "message":  # most are
            self.fanout.deliver(event)
            return []
        key = (event.project_id, event.room_id)
        if event.name == SIGNAL:
            ready = packets.event(event.name, event.payload)
            self.fanout.send_to_some(
                key, ready, lambda each: each.knows_revs and each.eio_sid != event.sent_by
            )
            return []
        if event.name in TYPING:
            ready = packets.event(event.name, event.payload)
            self.fanout.send_to_others(key, ready, about=event.user_id or "")
            return []
        if event.name == "roomUpdated" and _is_private(event.payload):
            self.end_peeking(key)
        self.fanout.deliver(event)
        if event.name == "roomDeleted":
            for connection in self.fanout.members(key):
                self.unsubscribe(connection, key)
        elif event.name == "userLeft" and event.user_id is not None:
            # The user may be a member again: events of several nodes arrive in any order, so the database
            # must tell.
            return self.fanout.suspend(key, event.user_id)
        return []

    async def recheck(self, key: RoomKey, user_id: str, suspended: list[Connection]) -> None:
        """Resume the suspended connections if the user is a member; else, or if the database fails, unsubscribe them."""
        try:
            from_seq = await self._chat.from_seq(*key, user_id)
        except ChatError:
            from_seq = None
        for connection in suspended:
            if from_seq is not None:
                self.fanout.hide(key, connection, from_seq)
            if from_seq is not None or key in connection.peeked_rooms:
                self.fanout.subscribe(key, connection)
            else:
                self.unsubscribe(connection, key)


class _Private(msgspec.Struct):
    private: bool


_decode_private = msgspec.json.Decoder(_Private).decode


def _is_private(payload: bytes) -> bool:
    try:
        return _decode_private(payload).private
    except ValueError:
        return False


def _room_user(connection: Connection, claims: Claims, key: RoomKey) -> RoomUser:
    return RoomUser(key[1], claims.sub, claims.name, connection.display_name)
