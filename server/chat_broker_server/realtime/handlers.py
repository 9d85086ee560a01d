"""What each call of a client does, and its acknowledgement: the contract's table, row by row."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from chat_broker_server.chat import sizes, validation
from chat_broker_server.chat.models import Message, Room
from chat_broker_server.chat.service import Chat
from chat_broker_server.credentials.tokens import Claims
from chat_broker_server.errors import ChatError, NotFound
from chat_broker_server.realtime import requests
from chat_broker_server.realtime.connections import Connection, RoomKey
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.subscriptions import Seats

_encode = msgspec.json.Encoder().encode
_OK: Final = _encode({"ok": True})
_READS: Final = 3  # of a room, until what was read and what was heard fit together

Refresh = Callable[[Connection, Claims, str], Awaitable[Claims]]


class Joined(msgspec.Struct, frozen=True):
    """The acknowledgement of joinRoom; `has_more` when `missed` is not all: the rest is had over REST,
    or by joining again after the last of them."""

    ok: bool
    room: Room
    members_online: int
    last_seq: int
    missed: list[Message]
    has_more: bool


class Answer(msgspec.Struct, frozen=True):
    """The JSON of an acknowledgement, and what is to be done once it has been sent."""

    payload: bytes = _OK
    then: Callable[[], None] | None = None


class Answers:
    """Answers calls, as the user whose token the socket has shown and as nobody else."""

    def __init__(self, chat: Chat, seats: Seats, limits: Limits, refresh: Refresh) -> None:
        """*refresh* puts another token in the place of a socket's own, or raises ChatError."""
        self._chat = chat
        self._seats = seats
        self._limits = limits
        self._refresh = refresh

    async def answer(self, connection: Connection, claims: Claims, call: requests.Call) -> Answer:
        """Do what *call* asks. Raises ChatError."""
        match call:
            case requests.Post():
                return await self._post(claims, call)
            case requests.Join():
                return await self._join(connection, claims, call)
            case requests.Leave():
                self._seats.leave(connection, (claims.pid, call.room_id))
                return Answer()
            case requests.Typing():
                return await self._type(connection, claims, call)
            case requests.MarkRead():
                mark = await self._chat.mark_read(
                    claims.pid, call.room_id, claims.sub, call.seq, hide_private=True
                )
                body = {"ok": True, "last_read_seq": mark.last_read_seq, "unread": mark.unread}
                return Answer(_encode(body))
            case requests.Refresh():
                fresh = await self._refresh(connection, claims, call.token)
                return Answer(
                    _encode({"ok": True, "expires_at": whole_second_timestamp(fresh.exp)})
                )

    async def _post(self, claims: Claims, call: requests.Post) -> Answer:
        validation.message(call.content, call.client_msg_id, call.metadata)
        message = await self._chat.post(
            claims.pid,
            call.room_id,
            claims.sub,
            call.content,
            client_msg_id=call.client_msg_id,
            metadata=call.metadata,
            hide_private=True,
        )
        self._seats.rooms.flush()  # the room hears of it before the caller does
        return Answer(b'{"ok":true,"message":%b}' % _encode(message))

    async def _join(self, connection: Connection, claims: Claims, call: requests.Join) -> Answer:
        key = (claims.pid, call.room_id)
        rooms, most = self._seats.rooms, self._limits.rooms_per_socket
        if key not in connection.rooms and len(connection.rooms) >= most:
            raise ChatError("too_many_rooms", f"A socket may join {most} rooms.")
        # From here on what the room is told is collected, so that nothing falls between reading and listening.
        if not rooms.begin(key, connection):
            raise ChatError("busy", "This socket is joining or leaving this room right now.")
        connection.joining = key
        try:
            member = await self._chat.member(*key, claims.sub)
            if member is None:
                member = await self._chat.join(*key, claims.sub, may_enter_private=False)
            connection.display_name = member.display_name
            for _ in range(_READS):
                room, missed, more = await self._read(key, call.since_seq)
                if rooms.covered(key, connection, room.last_seq):
                    break
            removed = rooms.doubtful(key, connection) and (
                await self._chat.member(*key, claims.sub) is None
            )
            # The room, or the connection, may have ended meanwhile.
            if removed or not rooms.waits(key, connection):
                raise NotFound.room()  # noqa: TRY301  # the cleaning up is below
        except BaseException:
            self._seats.leave(connection, key)
            raise
        finally:
            connection.joining = None
        online = self._seats.take(connection, claims, key)
        payload = self._joined(connection, Joined(True, room, online, room.last_seq, missed, more))
        return Answer(payload, lambda: rooms.settle(key, connection, room.last_seq))

    def _joined(self, connection: Connection, joined: Joined) -> bytes:
        """*joined* as JSON, with as much of `missed` as an answer, and the queue of this connection, may hold.

        Whoever joins many rooms at once, or reads slowly, is not cut off for what they have asked for: half of what the
        queue has left stays free for events.
        """
        payload = _encode(joined)
        left = self._limits.send_queue_bytes - connection.outbox.waiting
        most = min(sizes.LARGEST_RESPONSE, left // 2)
        if len(payload) <= most:
            return payload
        around = len(payload) - len(_encode(joined.missed))
        missed = sizes.fitting(joined.missed, most - around)
        more = joined.has_more or len(missed) < len(joined.missed)
        return _encode(msgspec.structs.replace(joined, missed=missed, has_more=more))

    async def _read(self, key: RoomKey, since: int | None) -> tuple[Room, list[Message], bool]:
        room = await self._chat.get_room(*key)
        if since is None or since >= room.last_seq:
            return room, [], False
        missed = await self._chat.missed(*key, since, self._limits.missed_messages)
        told = [message for message in missed if message.seq <= room.last_seq]
        return room, told, bool(told) and told[-1].seq < room.last_seq

    async def _type(self, connection: Connection, claims: Claims, call: requests.Typing) -> Answer:
        key = (claims.pid, call.room_id)
        if key not in connection.rooms:
            # As over REST: what is not the caller's business does not exist.
            if await self._chat.member(*key, claims.sub) is None:
                raise NotFound.room()
            raise ChatError("not_joined", "Join the room on this socket first.")
        if call.begins:
            self._seats.begin_typing(connection, claims, key)
        else:
            self._seats.stop_typing(connection, claims, key)
        return Answer()


def whole_second_timestamp(seconds: int) -> str:
    """RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
