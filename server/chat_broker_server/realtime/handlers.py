"""What each client event does, and its acknowledgement: the contract's table, row by row."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from chat_broker_server.chat import signals, sizes, validation
from chat_broker_server.chat.delta import Known, Reader, first_seq_of
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.models import (
    Change,
    Delta,
    Message,
    Mine,
    OwnReactions,
    Presence,
    Receipt,
    Room,
    Signal,
)
from chat_broker_server.chat.service import Chat
from chat_broker_server.chat.sync import Had, SyncQuery
from chat_broker_server.credentials.tokens import Claims
from chat_broker_server.errors import ChatError, NotFound
from chat_broker_server.realtime import requests
from chat_broker_server.realtime.connections import Connection, RoomKey, UserKey
from chat_broker_server.realtime.fanout import Counters
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.subscriptions import Subscriptions
from chat_broker_server.realtime.watching import Watching

_encode = msgspec.json.Encoder().encode
_OK: Final = _encode({"ok": True})
_READS: Final = 3  # attempts to read a room without a gap to its backlog

WatchPresence = Callable[[Connection, UserKey, Sequence[str]], Awaitable[list[Presence]]]
RefreshToken = Callable[[Connection, Claims, str], Awaitable[Claims]]


class JoinAcknowledgement(msgspec.Struct, frozen=True):
    """The acknowledgement of joinRoom. With `has_more`, `missed` or `changed` is not complete: the client
    gets the rest over REST, or by another joinRoom with a later `sinceSeq`."""

    ok: bool
    room: Room
    mine: Mine | None
    members_online: int
    last_seq: int
    missed: list[Message]
    has_more: bool
    rev: int
    epoch: str
    reset: bool
    changed: list[Change]
    receipts: list[Receipt] | UnsetType = UNSET
    own_reactions: OwnReactions | UnsetType = UNSET


class Acknowledgement(msgspec.Struct, frozen=True):
    """The JSON of an acknowledgement, and what to call once it has been sent."""

    payload: bytes = _OK
    after_sending: Callable[[], None] | None = None


class EventHandlers:
    """Handles client events, always as the user of the socket's token."""

    def __init__(
        self,
        chat: Chat,
        subscriptions: Subscriptions,
        watching: Watching,
        limits: Limits,
        *,
        watch_presence: WatchPresence,
        refresh: RefreshToken,
    ) -> None:
        """*watch_presence* has a connection told of users. *refresh* replaces the token of one, or raises ChatError."""
        self._chat = chat
        self._watch_presence = watch_presence
        self._subscriptions = subscriptions
        self._watching = watching
        self._limits = limits
        self._refresh = refresh

    async def handle(
        self, connection: Connection, claims: Claims, event: requests.ClientEvent
    ) -> Acknowledgement:
        """Handle *event* and return its acknowledgement. Raises ChatError."""
        if ":" in getattr(event, "room_id", ""):
            event = await self._by_id(claims, event)
        match event:
            case requests.Post():
                return await self._post(claims, event)
            case requests.Join():
                return await self._join(connection, claims, event)
            case requests.Leave():
                self._subscriptions.unsubscribe(connection, (claims.pid, event.room_id))
                return Acknowledgement()
            case requests.Typing():
                return await self._type(connection, claims, event)
            case requests.MarkRead():
                mark = await self._chat.mark_read(
                    claims.pid, event.room_id, claims.sub, event.seq, hide_private=True
                )
                body = {"ok": True, "last_read_seq": mark.last_read_seq, "unread": mark.unread}
                return Acknowledgement(_encode(body))
            case requests.MarkDelivered():
                connection.knows_revs = True
                delivered_seq = await self._chat.mark_delivered(
                    claims.pid, event.room_id, claims.sub, event.seq, hide_private=True
                )
                return Acknowledgement(_encode({"ok": True, "delivered_seq": delivered_seq}))
            case requests.WatchRooms():
                return await self._watch(connection, claims, event)
            case requests.UnwatchRooms():
                connection.knows_revs = True
                self._watching.stop(connection)
                return Acknowledgement()
            case requests.Signal():
                return await self._signal(connection, claims, event)
            case requests.WatchPresence():
                connection.knows_revs = True
                found = await self._watch_presence(
                    connection, (claims.pid, claims.sub), event.user_ids
                )
                return Acknowledgement(_encode({"ok": True, "presence": found}))
            case requests.Refresh():
                fresh = await self._refresh(connection, claims, event.token)
                return Acknowledgement(
                    _encode({"ok": True, "expires_at": whole_second_timestamp(fresh.exp)})
                )

    async def _by_id(self, claims: Claims, event: requests.ClientEvent) -> requests.ClientEvent:
        """*event* with the id of the room that it names by the app's own."""
        if not isinstance(event, requests.OfRoom):
            return event
        room_id = await self._chat.room_id(claims.pid, event.room_id)
        return msgspec.structs.replace(event, room_id=room_id)

    async def _post(self, claims: Claims, event: requests.Post) -> Acknowledgement:
        validation.message(event.content, event.client_msg_id, event.metadata)
        message = await self._chat.post(
            claims.pid,
            event.room_id,
            claims.sub,
            event.content,
            client_msg_id=event.client_msg_id,
            metadata=event.metadata,
            hide_private=True,
        )
        self._subscriptions.fanout.flush()  # the room gets the event before the sender gets the acknowledgement
        return Acknowledgement(b'{"ok":true,"message":%b}' % _encode(message))

    async def _join(
        self, connection: Connection, claims: Claims, event: requests.Join
    ) -> Acknowledgement:
        key = (claims.pid, event.room_id)
        connection.knows_revs |= event.knows_revs
        if connection.hidden is None:
            settings = await self._chat.user_settings(claims.pid, claims.sub)
            self._subscriptions.hide(connection, hidden=settings.presence == "hidden")
        rooms, most = self._subscriptions.fanout, self._limits.rooms_per_socket
        joined = len(connection.rooms) - self._watching.delivered(connection)
        if key not in connection.rooms and joined >= most:
            raise ChatError("too_many_rooms", f"A socket may join {most} rooms.")
        # Collect the room's events from here on, so that none is lost between reading and subscribing.
        if not rooms.start_joining(key, connection):
            raise ChatError("busy", "This socket is joining or leaving this room right now.")
        connection.joining = key
        try:
            delta, peeks = await self._read(connection, key, claims, event)
            counters = Counters(delta.last_seq, delta.rev)
            removed = rooms.was_removed_while_joining(key, connection) and (
                not peeks and await self._chat.member(*key, claims.sub) is None
            )
            # The room or the connection may have ended meanwhile.
            if removed or not rooms.is_joining(key, connection):
                raise NotFound.room()  # noqa: TRY301  # cleaned up below
        except BaseException:
            self._subscriptions.unsubscribe(connection, key)
            raise
        finally:
            connection.joining = None
        if delta.mine is not None and delta.room.small:
            connection.sees_receipts = delta.receipts is not UNSET
        rooms.hide(key, connection, first_seq_of(delta.room, delta.mine))
        self._watching.joined(connection, key)
        rooms.note_size(key, delta.room.member_count, small=delta.room.small)
        online = self._subscriptions.subscribe(connection, claims, key, peeks=peeks)
        payload = self._joined(connection, _acknowledgement(delta, online))
        return Acknowledgement(payload, lambda: rooms.subscribe(key, connection, counters))

    async def _read(
        self, connection: Connection, key: RoomKey, claims: Claims, event: requests.Join
    ) -> tuple[Delta, bool]:
        """What the user lacks, read until the backlog follows on it without a gap, and whether they only peek.

        Who is no member becomes one, unless they peek.
        """
        known = Known(event.since_seq, event.since_rev, event.epoch, event.from_seq or 1)
        reader = Reader(claims.sub, known, self._limits.missed_messages)
        member = await self._chat.delta_of_member(*key, reader)
        peeks = member is None and bool(event.peek)
        if member is not None:
            delta, connection.display_name = member
        else:
            if peeks:
                connection.peeked_rooms.add(key)
                reader = reader._replace(user_id=None)
            else:
                joined = await self._chat.join(*key, claims.sub, may_enter_private=False)
                connection.display_name = joined.display_name
            delta = await self._chat.delta(*key, reader)
        if not peeks:
            # A socket that watches is told that the room was added before anything else of it.
            await self._watching.settled((claims.pid, claims.sub), event.room_id)
        for _ in range(_READS - 1):
            counters = Counters(delta.last_seq, delta.rev)
            if self._subscriptions.fanout.has_no_gap(key, connection, counters):
                break
            delta = await self._chat.delta(*key, reader)
        return delta, peeks

    def _joined(self, connection: Connection, joined: JoinAcknowledgement) -> bytes:
        """*joined* as JSON, with its lists cut to LARGEST_RESPONSE and to half of the free send queue.

        The other half stays free for events, so that a client that joins many rooms or reads slowly is not disconnected.
        """
        payload = _encode(joined)
        free = self._limits.send_queue_bytes - connection.send_queue.waiting
        most = min(sizes.LARGEST_RESPONSE, free // 2)
        if len(payload) <= most:
            return payload
        left = most - len(_encode(msgspec.structs.replace(joined, missed=[], changed=[])))
        missed = sizes.fitting(joined.missed, left)
        changed: list[Change] = []
        if len(missed) == len(joined.missed):
            changed = sizes.fitting(joined.changed, left - len(_encode(missed)))
        more = joined.has_more or (len(missed), len(changed)) < (
            len(joined.missed),
            len(joined.changed),
        )
        return _encode(
            msgspec.structs.replace(joined, missed=missed, changed=changed, has_more=more)
        )

    async def _watch(
        self, connection: Connection, claims: Claims, event: requests.WatchRooms
    ) -> Acknowledgement:
        connection.knows_revs = True
        fields = {
            name: value
            for name, value in msgspec.structs.asdict(event).items()
            if value is not None
        }
        have = {room_id: Had(*had) for room_id, had in fields.pop("have", {}).items()}
        deliver = fields.pop("deliver", None if event.cursor is not None else "activity")
        payload, start_telling = await self._watching.watch(
            connection, claims, SyncQuery(have, **fields), deliver
        )
        return Acknowledgement(payload, start_telling)

    async def _signal(
        self, connection: Connection, claims: Claims, event: requests.Signal
    ) -> Acknowledgement:
        connection.knows_revs = True
        checked = {"name": event.name, "data": event.data}
        validation.fields(checked, {"name": signals.name, "data": signals.data})
        key = (claims.pid, event.room_id)
        await self._require_joined(connection, claims, key)
        signal = Signal(key[1], claims.sub, claims.name, event.name, event.data, timestamp())
        await self._chat.signal(*key, signal, sent_by=connection.eio_sid)
        return Acknowledgement()

    async def _type(
        self, connection: Connection, claims: Claims, event: requests.Typing
    ) -> Acknowledgement:
        key = (claims.pid, event.room_id)
        await self._require_joined(connection, claims, key)
        if event.starts:
            if self._subscriptions.fanout.has_two_members(key) and await self._chat.is_blocked(
                *key, claims.sub
            ):
                return Acknowledgement()  # passed on to nobody
            self._subscriptions.start_typing(connection, claims, key)
        else:
            self._subscriptions.stop_typing(connection, claims, key)
        return Acknowledgement()

    async def _require_joined(self, connection: Connection, claims: Claims, key: RoomKey) -> None:
        """Raise an error unless the socket has joined the room, and not only peeks."""
        if key in connection.peeked_rooms:
            raise ChatError("not_joined", "Join the room without peek first.")
        if key not in connection.rooms:
            # As over REST: to a non-member the room does not exist.
            if await self._chat.member(*key, claims.sub) is None:
                raise NotFound.room()
            raise ChatError("not_joined", "Join the room on this socket first.")


def _acknowledgement(delta: Delta, online: int) -> JoinAcknowledgement:
    return JoinAcknowledgement(
        True,
        delta.room,
        delta.mine,
        online,
        delta.last_seq,
        delta.missed,
        delta.has_more,
        delta.rev,
        delta.epoch,
        delta.reset,
        delta.changed,
        delta.receipts,
        delta.own_reactions,
    )


def whole_second_timestamp(seconds: int) -> str:
    """RFC 3339 text in UTC, without milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
