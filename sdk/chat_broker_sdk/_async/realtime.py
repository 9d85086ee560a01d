"""client.socket: live events over Socket.IO."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from chat_broker_sdk._dialect import Events
from chat_broker_sdk._errors import WebSocketError, bad_response, unsupported
from chat_broker_sdk._fields import without_none
from chat_broker_sdk._models import (
    DeliveredMark,
    Delta,
    JoinedRoom,
    Member,
    MemberEvent,
    Message,
    MineEvent,
    Model,
    Presence,
    PresenceChanges,
    PublicUser,
    ReadMark,
    ReceiptEvent,
    Room,
    RoomActivity,
    RoomDeleted,
    RoomOnline,
    RoomRemoved,
    Signal,
    SocketErrorEvent,
    SyncResult,
    TokenExpiring,
    build,
)
from chat_broker_sdk._realtime.connection import (
    LiveConnection,
    TokenSource,
    random_pause,
    token_function_of,
)
from chat_broker_sdk._realtime.delivery_marks import DeliveryMarks
from chat_broker_sdk._realtime.events import EventMethods
from chat_broker_sdk._realtime.handlers import MAX_WAITING, Handlers, Runner, run_here
from chat_broker_sdk._realtime.room_feed import RoomChange, RoomFeed, may_join_again, missed_change
from chat_broker_sdk._realtime.room_watch import Have, RoomWatch, Told
from chat_broker_sdk._realtime.wire import ConnectOptions
from chat_broker_sdk._urls import checked_id, checked_room

T = TypeVar("T")

MAX_CONCURRENT_JOINS = 4
NEW_EVENTS = ("member_updated", "user_updated", "mine", "receipt", "room_online", "signal")
"""What a server tells only clients that have shown that they know of changes."""


class AsyncChatSocket(EventMethods):
    """One user's live connection. It reconnects automatically, joins its rooms again, and misses no message.

    Handlers run one event at a time, in order. Their exceptions are logged. A slow handler delays the next event, not
    the connection. While 1,000 events wait, further messages are left on the server, and fetched by `seq` once half of
    the events are handled. Other events are dropped while 2,000 wait, which `on_error` reports (`events_dropped`).
    """

    def __init__(self, options: Callable[[], ConnectOptions], *, run: Runner = run_here) -> None:
        self._options = options
        self._handlers = Handlers(run)
        self._feeds: dict[str, RoomFeed] = {}
        self._joining: set[str] = set()
        self._watched_users: list[str] = []
        # Rooms that were joined by the app's own id of them, and events that came while a room's own id was not known.
        self._ids_by_name: dict[str, str] = {}
        self._joins_by_name = 0
        self._early: list[tuple[str, Any]] = []
        self._join_limit = asyncio.Semaphore(MAX_CONCURRENT_JOINS)
        self._watch: RoomWatch | None = None
        self._delivered = DeliveryMarks(self._send_delivered)
        self._dropping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection = LiveConnection(
            options,
            on_event=self._on_event,
            on_error=self._dispatch_error,
            on_connect=self._on_connect,
            on_disconnect=self._on_disconnect,
        )

    # -- connection -----------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the connection is open at this moment."""
        return self._connection.connected

    async def connect(self, token: TokenSource | None = None, *, within: float = 10.0) -> None:
        """Return when connected. From then on the socket reconnects automatically.

        *token*: a chat JWT, or a function (also a coroutine function) that returns one, as a string or as the Token of
        `users.generate_token`. The function is called at each connect, and before its token expires. Without *token*,
        the client's jwt_token is used. Raises WebSocketError: `jwt_required`; the server's code if it refuses for good;
        `connect_failed` if there is no connection *within* so many seconds.
        """
        token_function = token_function_of(token)
        del token
        if self._connection.loop_changed():
            self._join_limit = asyncio.Semaphore(MAX_CONCURRENT_JOINS)
        self._handlers.start()
        try:
            await self._connection.start(token_function, within)
        except BaseException as error:
            if not isinstance(error, WebSocketError) or error.code != "already_connected":
                await self._handlers.stop()
            raise

    async def disconnect(self) -> None:
        """Close the connection. Returns when the handlers of earlier events have run."""
        await self._connection.stop()
        for task in tuple(self._tasks):
            task.cancel()
        self._feeds.clear()
        self._ids_by_name.clear()
        self._watch = None
        self._delivered = DeliveryMarks(self._send_delivered)
        self._watched_users = []
        await self._handlers.stop()

    async def wait(self) -> None:
        """Return after `disconnect`. Raises WebSocketError when the connection has ended and will not reconnect."""
        await self._connection.wait()

    async def refresh_token(self, token: str | None = None) -> None:
        """Send a new token over the open connection: *token*, or that of the token function. Raises WebSocketError."""
        await self._connection.refresh(self._events.refresh_token, token)

    @property
    def _events(self) -> Events:
        return self._options().dialect.events

    # -- calls ----------------------------------------------------------------------------------

    async def join_room(
        self,
        room_id: str,
        *,
        since_seq: int | None = None,
        since_rev: int | None = None,
        from_seq: int | None = None,
        epoch: str | None = None,
        peek: bool = False,
    ) -> JoinedRoom:
        """Receive the room's events. With *since_seq*, first receive each message after that `seq`.

        With *since_rev* and *epoch* of an earlier result, also what changed since then: edits, deletions, fields of the
        room, members. *from_seq* is the oldest message that the client has: nothing is told of changes of older ones.
        They need a server with the feature `changes`, as *peek* does: listen to a room that is not private without
        becoming a member of it.

        Makes the user a member of a room that is not private; `rooms.leave` undoes that, `leave_room` does not. If the
        missed messages take several responses, this returns after the first, and the rest is fetched meanwhile. After a
        reconnect the room is joined again automatically, from the last message and change on. Raises WebSocketError
        with the server's code.
        """
        name = checked_room(room_id)
        feed = RoomFeed(since_seq, since_rev=since_rev, max_held=MAX_WAITING)
        feed.epoch, feed.from_seq, feed.peek = epoch, from_seq, peek
        if ":" in name:
            room_id, joined = await self._join_by_name(name, feed)
        else:
            self._feeds[room_id] = feed
            try:
                joined = await self._join(room_id, feed)
            except BaseException:
                if self._feeds.get(room_id) is feed:
                    del self._feeds[room_id]
                raise
        if feed.rev is not None and since_rev is None and any(map(self._handlers.has, NEW_EVENTS)):
            # A server sends no new event to a client that has not shown that it knows of changes: join with the rev.
            feed.disconnected()
        if feed.is_behind:
            self._rejoin_soon(room_id)
        return joined

    async def leave_room(self, room_id: str) -> None:
        """Stop receiving the room's events. The user stays a member."""
        room_id = self._ids_by_name.pop(checked_room(room_id), room_id)
        self._feeds.pop(room_id, None)
        await self._connection.call(self._events.leave_room, room_id)

    async def send_message(
        self,
        room_id: str,
        content: str,
        *,
        client_msg_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Message:
        """Post *content* in the room, and return the stored message. Posted once, also if the connection breaks meanwhile."""
        draft = without_none(
            roomId=checked_room(room_id),
            content=content,
            clientMsgId=client_msg_id or uuid.uuid4().hex,
            metadata=metadata,
        )
        acknowledgement = await self._connection.call(self._events.send_message, draft)
        return _parsed(acknowledgement.get("message"), Message)

    async def start_typing(self, room_id: str) -> None:
        """Show the other members that this user is typing, for 6 s."""
        checked_room(room_id)
        await self._connection.call(self._events.start_typing, room_id, repeatable=False)

    async def stop_typing(self, room_id: str) -> None:
        """Show the other members that this user has stopped typing."""
        checked_room(room_id)
        await self._connection.call(self._events.stop_typing, room_id, repeatable=False)

    async def mark_read(self, room_id: str, *, seq: int) -> ReadMark:
        """Move this user's read mark up to *seq*. It never moves back."""
        mark = {"roomId": checked_room(room_id), "seq": seq}
        acknowledgement = await self._connection.call(self._events.mark_read, mark)
        del acknowledgement["ok"]
        return _parsed(acknowledgement, ReadMark)

    async def mark_delivered(self, room_id: str, *, seq: int) -> DeliveredMark:
        """Say that messages up to *seq* have reached this device. The socket does so by itself in joined small rooms,
        and in small rooms that are watched, at most once a second a room.
        """
        return await self._mark_delivered(checked_room(room_id), seq, repeatable=True)

    async def _send_delivered(self, room_id: str, seq: int) -> None:
        await self._mark_delivered(room_id, seq, repeatable=False)

    async def _mark_delivered(self, room_id: str, seq: int, *, repeatable: bool) -> DeliveredMark:
        acknowledgement = await self._connection.call(
            self._events.mark_delivered, {"roomId": room_id, "seq": seq}, repeatable=repeatable
        )
        del acknowledgement["ok"]
        return _parsed(acknowledgement, DeliveredMark)

    # -- all rooms of the user ------------------------------------------------------------------

    async def watch_rooms(
        self,
        *,
        have: Have | None = None,
        have_version: int | None = None,
        epoch: str | None = None,
        messages: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        token: str | None = None,
        deliver: str | None = None,
    ) -> SyncResult:
        """Hear of all rooms of the user: which come and go, and where something is said. Needs the feature `sync`.

        The arguments and the result are those of `client.sync`: what the client knows, and a page of rooms that differ.
        Each of these is also told through `on_room_added` and `on_room_removed`, before any later event, so handlers
        alone make a list of rooms that is never stale. While `has_more`, call again with *cursor* alone for the next
        page. After a reconnect the socket watches again by itself, and tells what has changed meanwhile.

        *deliver* `all`: every event of every room, as if it was joined; for users in at most 1,000 rooms. Raises
        WebSocketError with the server's code, UnsupportedOperationError if the server does not offer it.
        """
        watch = self._watch
        if watch is None or cursor is None:
            options = without_none(messages=messages, limit=limit, deliver=deliver)
            watch = self._watch = RoomWatch(options)
            watch.begin(have or {}, epoch=epoch, token=token, have_version=have_version)
        try:
            return await self._ask_for_rooms(watch, cursor)
        except WebSocketError as error:
            if cursor is None and self._watch is watch:
                self._watch = None
            if error.code in {"unknown_event", "unsupported"}:
                raise unsupported("sync") from None
            raise

    async def unwatch_rooms(self) -> None:
        """Hear only of the rooms that this socket has joined."""
        self._watch = None
        await self._connection.call(self._events.unwatch_rooms)

    async def _ask_for_rooms(self, watch: RoomWatch, cursor: str | None) -> SyncResult:
        """One page, told through the handlers."""
        request, answer = watch.request(cursor), None
        try:
            acknowledgement = await self._connection.call(self._events.watch_rooms, request)
            del acknowledgement["ok"]
            answer = _parsed(acknowledgement, SyncResult)
            return answer
        finally:
            told = watch.answered(answer)
            for each in told if self._watch is watch else ():
                self._tell_watched(each)

    async def _watch_again(self, watch: RoomWatch) -> None:
        """After a reconnect: all pages of what has changed meanwhile."""
        cursor, refusals = None, 0
        while self._watch is watch:
            try:
                answer = await self._ask_for_rooms(watch, cursor)
            except WebSocketError as error:
                if error.code in {"not_connected", "connection_lost"}:
                    return  # the next connection watches again
                self._report_error(error)
                if not may_join_again(error.code, error.retry_after):
                    self._watch = None
                    return
                refusals += 1
                await asyncio.sleep(random_pause(refusals, error.retry_after))
                continue
            cursor = answer.cursor
            if not answer.has_more or cursor is None:
                return

    def _tell_watched(self, told: Told) -> None:
        value = told.value
        if isinstance(value, Delta) and value.room.small and value.mine is not None:
            self._delivered.known(value.room.id, value.mine.delivered_seq)
            self._note_delivered(value.room.id, value.last_seq)
        elif isinstance(value, RoomActivity) and value.unread is not None:
            self._note_delivered(value.room_id, value.last_seq)
        elif isinstance(value, RoomRemoved):
            self._feeds.pop(value.room_id, None)
            self._delivered.forget(value.room_id)
        self._dispatch(told.event, value)

    def _note_delivered(self, room_id: str, seq: int) -> None:
        if self._delivered.note(room_id, seq):
            self._spawn(self._delivered.run())

    async def send_signal(self, room_id: str, name: str, data: Any = None) -> None:
        """Tell the room's other sockets something that is stored nowhere, at most once. The room must have been joined.

        *name*: 1 to 32 of `a-z0-9._-`; *data*: any JSON of at most 1 KiB. In a large room only its owner and moderators may.
        """
        signal = without_none(roomId=checked_room(room_id), name=name, data=data)
        await self._connection.call(self._events.send_signal, signal, repeatable=False)

    async def watch_presence(self, user_ids: Sequence[str]) -> tuple[Presence, ...]:
        """Be told by `on_presence` of these users, at most 200, and no others. Returns whether they are online now.

        Users who are in no room with this one are left out. An empty list ends it. After a reconnect the users are watched
        again, and `on_presence` is called with all of them.
        """
        self._watched_users = [checked_id(each, "user_ids") for each in user_ids]
        return await self._watch_presence()

    async def _watch_presence(self) -> tuple[Presence, ...]:
        watched = {"userIds": self._watched_users}
        acknowledgement = await self._connection.call(self._events.watch_presence, watched)
        return _parsed({"changes": acknowledgement.get("presence")}, PresenceChanges).changes

    async def _watch_presence_again(self) -> None:
        try:
            found = await self._watch_presence()
        except WebSocketError as error:
            self._report_error(error)
            return
        self._dispatch("presence", PresenceChanges(changes=found))

    # -- rooms over reconnects ------------------------------------------------------------------

    def _on_connect(self) -> None:
        self._handlers.dispatch("connect")
        if self._watch is not None and self._watch.has_begun:
            self._spawn(self._watch_again(self._watch))
        if self._watched_users:
            self._spawn(self._watch_presence_again())
        for room_id in self._feeds:
            self._rejoin_soon(room_id)

    def _on_disconnect(self, code: str) -> None:
        for feed in self._feeds.values():
            feed.disconnected()
        self._handlers.dispatch("disconnect", code)

    async def _join(self, room_id: str, feed: RoomFeed) -> JoinedRoom:
        """Join from the last message and change on. Deliver what was missed unless too many events wait."""
        since = feed.last
        joined = await self._call_join(room_id, feed)
        if self._feeds.get(room_id) is not feed:
            return joined  # the room was left or joined anew meanwhile: that join tells what is missing
        if since is None or not self._handlers.full:
            self._catch_up_with(room_id, feed, joined)
        return joined

    async def _call_join(self, name: str, feed: RoomFeed) -> JoinedRoom:
        known = without_none(
            roomId=name,
            sinceSeq=feed.last,
            sinceRev=feed.rev,
            fromSeq=feed.from_seq,
            epoch=feed.epoch,
            peek=feed.peek or None,
        )
        request = name if len(known) == 1 else known
        return _parsed(await self._connection.call(self._events.join_room, request), JoinedRoom)

    async def _join_by_name(self, name: str, feed: RoomFeed) -> tuple[str, JoinedRoom]:
        """Join a room that is named by the app's own id. Returns the room's id, which its events have.

        The first events may be read before this knows the answer: they wait for it.
        """
        self._joins_by_name += 1
        try:
            joined = await self._call_join(name, feed)
            if joined.room is None:
                raise WebSocketError(
                    "The server does not say which room it is", code="bad_response"
                )
            room_id = self._ids_by_name[name] = joined.room.id
            self._feeds[room_id] = feed
            self._catch_up_with(room_id, feed, joined)
            return room_id, joined
        finally:
            self._joins_by_name -= 1
            early, self._early = self._early, []
            for event, payload in early:
                self._on_event(event, payload)

    def _catch_up_with(self, room_id: str, feed: RoomFeed, joined: JoinedRoom) -> None:
        """Deliver what the server has answered to a join."""
        feed.epoch = joined.epoch or feed.epoch
        if joined.mine is not None:
            feed.hidden_below(joined.mine.from_seq)
        feed.marks_delivery = joined.mine is not None and bool(joined.room and joined.room.small)
        if joined.mine is not None and feed.marks_delivery:
            self._delivered.known(room_id, joined.mine.delivered_seq)
            self._note_delivered(room_id, joined.last_seq or 0)
        if joined.reset and joined.room is not None:
            self._handlers.dispatch("reset", joined.room, joined.missed)
            messages, changes = feed.reset(joined.last_seq, joined.rev)
        else:
            messages = feed.joined(joined.last_seq, joined.missed)
            missed = [missed_change(change, room_id) for change in joined.changed]
            changes = feed.joined_changes(
                joined.rev,
                [change for change in missed if change is not None],
                complete=not joined.has_more,
            )
        self._deliver(messages)
        for change in changes:
            self._handlers.dispatch(change.event, change.value)

    def _rejoin_soon(self, room_id: str) -> None:
        if room_id not in self._joining:
            self._joining.add(room_id)
            self._spawn(self._rejoin(room_id))

    async def _rejoin(self, room_id: str) -> None:
        try:
            async with self._join_limit:
                await self._catch_up(room_id)
        except WebSocketError as error:
            # After a lost connection the next one joins again.
            if error.code not in {"not_connected", "connection_lost"}:
                self._feeds.pop(room_id, None)
            self._report_error(error)
        finally:
            self._joining.discard(room_id)

    async def _catch_up(self, room_id: str) -> None:
        """Join again until no message and no change is missing."""
        refusals = joins_without_progress = 0
        while (feed := self._feeds.get(room_id)) is not None and feed.is_behind:
            await self._handlers.wait_for_room()
            since = feed.last, feed.rev
            try:
                await self._join(room_id, feed)
            except WebSocketError as error:
                if not may_join_again(error.code, error.retry_after):
                    raise
                if error.code == "timeout":
                    self._report_error(error)
                refusals += 1
                await asyncio.sleep(random_pause(refusals, error.retry_after))
                continue
            refusals = 0
            if self._feeds.get(room_id) is not feed:
                joins_without_progress = 0
                continue
            stuck = (feed.last, feed.rev) == since and feed.is_behind
            joins_without_progress = joins_without_progress + 1 if stuck else 0
            if joins_without_progress > 1:  # the server does not have the missing messages
                self._deliver(feed.give_up_gap())

    def _deliver(self, messages: list[Message]) -> None:
        for message in messages:
            self._handlers.dispatch("message", message)

    # -- what the server sends -------------------------------------------------------------------

    def _on_event(self, event: str, payload: Any) -> None:
        model = _models_by_event(self._events).get(event)
        if model is None:
            return  # a newer server's event
        name, kind = model
        try:
            value = build(payload, kind)
        except ValueError:
            self._report_error(
                WebSocketError(
                    f"{name} came in a shape the contract does not know", code="bad_response"
                )
            )
            return
        if self._must_wait(_room_id_of(value)):
            self._early.append((event, payload))
            return
        if isinstance(value, Message) and name == "message":
            self._on_message(value)
            return
        if isinstance(value, Delta | RoomRemoved | RoomActivity | MineEvent):
            told = Told(name, value)
            for each in [told] if self._watch is None else self._watch.event(told):
                self._tell_watched(each)
            return
        if isinstance(value, RoomDeleted):
            self._feeds.pop(value.room_id, None)
        elif isinstance(value, TokenExpiring):
            self._spawn(self._refresh())
        if isinstance(value, Message | Room | Member | MemberEvent):
            self._on_change(name, value)
            return
        self._dispatch(name, value)

    def _must_wait(self, room_id: str | None) -> bool:
        """Whether an event may be of a room that is being joined by the app's own id."""
        if not self._joins_by_name or room_id is None or room_id in self._feeds:
            return False
        return len(self._early) < MAX_WAITING

    def _on_change(self, name: str, value: Message | Room | Member | MemberEvent) -> None:
        room_id = _room_id_of(value) or ""
        feed = self._feeds.get(room_id)
        if feed is not None and isinstance(value, Room):
            feed.marks_delivery = feed.marks_delivery and value.small is not False
        if feed is None or feed.rev is None or value.rev is None:
            self._dispatch(name, value)
            return
        full = self._handlers.full
        for change in feed.change(RoomChange(value.rev, name, value), defer=full):
            self._handlers.dispatch(change.event, change.value)
        if feed.has_gap or (full and feed.is_behind):
            self._rejoin_soon(room_id)

    def _on_message(self, message: Message) -> None:
        room_id = message.room_id or ""
        feed = self._feeds.get(room_id)
        if feed is None or message.seq is None:
            self._dispatch("message", message)
            return
        full = self._handlers.full
        if feed.marks_delivery:
            self._note_delivered(room_id, message.seq)
        self._deliver(feed.live(message, defer=full))
        if feed.has_gap or (full and feed.is_behind):
            self._rejoin_soon(room_id)

    def _dispatch(self, name: str, value: Model) -> None:
        """Queue an event that the server does not repeat; drop it if far too many wait."""
        if self._handlers.waiting < 2 * MAX_WAITING:
            self._dropping = False
            self._handlers.dispatch(name, value)
        elif not self._dropping:
            self._dropping = True
            self._report_error(
                WebSocketError(
                    "Handlers are too slow: events other than messages were dropped",
                    code="events_dropped",
                )
            )

    async def _refresh(self) -> None:
        try:
            await self.refresh_token()
        except WebSocketError as error:
            self._report_error(error)

    def _dispatch_error(self, error: SocketErrorEvent) -> None:
        self._handlers.dispatch("error", error)

    def _report_error(self, error: WebSocketError) -> None:
        self._dispatch_error(
            SocketErrorEvent(
                code=error.code or "error", message=error.message, retry_after=error.retry_after
            )
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _models_by_event(events: Events) -> dict[str, tuple[str, type[Model]]]:
    return {
        events.message: ("message", Message),
        events.message_updated: ("message_updated", Message),
        events.message_deleted: ("message_deleted", Message),
        events.user_joined: ("user_joined", MemberEvent),
        events.user_left: ("user_left", MemberEvent),
        events.member_updated: ("member_updated", Member),
        events.user_updated: ("user_updated", PublicUser),
        events.user_typing: ("user_typing", MemberEvent),
        events.user_stopped_typing: ("user_stopped_typing", MemberEvent),
        events.room_updated: ("room_updated", Room),
        events.room_deleted: ("room_deleted", RoomDeleted),
        events.room_added: ("room_added", Delta),
        events.room_removed: ("room_removed", RoomRemoved),
        events.room_activity: ("room_activity", RoomActivity),
        events.mine: ("mine", MineEvent),
        events.receipt: ("receipt", ReceiptEvent),
        events.presence: ("presence", PresenceChanges),
        events.room_online: ("room_online", RoomOnline),
        events.signal: ("signal", Signal),
        events.token_expiring: ("token_expiring", TokenExpiring),
    }


def _room_id_of(value: Model) -> str | None:
    """The room that an event is about."""
    if isinstance(value, Room):
        return value.id
    if isinstance(value, Message | Member | MemberEvent | RoomDeleted):
        return value.room_id
    return None


def _parsed(value: object, kind: type[T]) -> T:
    try:
        return build(value, kind)
    except ValueError:
        pass
    raise WebSocketError(
        bad_response("an acknowledgement has another shape", status=None).message,
        code="bad_response",
    )
