"""client.socket: live events over Socket.IO."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chat_broker_sdk._dialect import Events
from chat_broker_sdk._errors import WebSocketError, bad_response
from chat_broker_sdk._fields import present
from chat_broker_sdk._models import (
    JoinedRoom,
    MemberEvent,
    Message,
    Model,
    ReadMark,
    Room,
    RoomDeleted,
    SocketErrorEvent,
    TokenExpiring,
    build,
)
from chat_broker_sdk._realtime.connection import Connection, TokenSource, asking, pause_for
from chat_broker_sdk._realtime.events import Listening
from chat_broker_sdk._realtime.handlers import MOST_WAITING, Handlers, Runner, run_here
from chat_broker_sdk._realtime.live_wire import Where
from chat_broker_sdk._realtime.room_feed import RoomFeed, may_join_again
from chat_broker_sdk._urls import checked_id

T = TypeVar("T")

JOINS_AT_ONCE = 4


class AsyncChatSocket(Listening):
    """One user's live connection. It comes back by itself, with all its rooms, and without gaps.

    Handlers are told one event at a time, in order. What one raises is logged and stops nothing. A slow handler delays
    the next event, not the connection. When a thousand events wait, further messages are left with the server and
    fetched by `seq` once half of those are told; other events wait up to two thousand, and are dropped then, of which
    `on_error` is told (`events_dropped`).
    """

    def __init__(self, where: Callable[[], Where], *, run: Runner = run_here) -> None:
        self._where = where
        self._handlers = Handlers(run)
        self._feeds: dict[str, RoomFeed] = {}
        self._joining: set[str] = set()
        self._turns = asyncio.Semaphore(JOINS_AT_ONCE)
        self._dropping = False
        self._work: set[asyncio.Task[None]] = set()
        self._connection = Connection(
            where, received=self._received, reported=self._report, up=self._up, down=self._down
        )

    # -- connection -----------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether events flow right now."""
        return self._connection.connected

    async def connect(self, token: TokenSource | None = None, *, within: float = 10.0) -> None:
        """Connect; returns when connected, and from then on reconnects by itself.

        *token*: a chat JWT, or a function (also asynchronous) that returns one, or returns what
        `users.generate_token` does; it is asked at every connect, and before the token runs out. Without
        it, the client's jwt_token. Raises WebSocketError: `jwt_required`; the server's code if it refuses
        for good; `connect_failed` if there is no connection *within* so many seconds.
        """
        ask = asking(token)
        del token
        if self._connection.moved():
            self._turns = asyncio.Semaphore(JOINS_AT_ONCE)
        self._handlers.start()
        try:
            await self._connection.start(ask, within)
        except BaseException as error:
            if not isinstance(error, WebSocketError) or error.code != "already_connected":
                await self._handlers.stop()
            raise

    async def disconnect(self) -> None:
        """Close the connection and leave it closed; handlers still hear of what came before."""
        await self._connection.stop()
        for task in tuple(self._work):
            task.cancel()
        self._feeds.clear()
        await self._handlers.stop()

    async def wait(self) -> None:
        """Return when `disconnect` was called; raise WebSocketError when the connection ended for good."""
        await self._connection.wait()

    async def refresh_token(self, token: str | None = None) -> None:
        """Give the server a fresh token over the open connection; without *token*, the token function's."""
        await self._connection.refresh(self._events.refresh_token, token)

    @property
    def _events(self) -> Events:
        return self._where().dialect.events

    # -- calls ----------------------------------------------------------------------------------

    async def join_room(self, room_id: str, *, since_seq: int | None = None) -> JoinedRoom:
        """Hear of what happens in the room; with *since_seq*, first of every message after that one.

        It makes the user a member of a room that is not private; `leave_room` does not undo that, `rooms.leave` does.
        Where the server gives what was missed in several answers, this returns with the first, and the rest is
        fetched meanwhile. After a reconnect the room is joined again by itself, from the last message on. Raises
        WebSocketError with the server's code.
        """
        checked_id(room_id, "room_id")
        feed = self._feeds[room_id] = RoomFeed(since_seq, most=MOST_WAITING)
        try:
            joined = await self._join(room_id, feed)
        except BaseException:
            if self._feeds.get(room_id) is feed:
                del self._feeds[room_id]
            raise
        if feed.is_behind:
            self._rejoin_soon(room_id)
        return joined

    async def leave_room(self, room_id: str) -> None:
        """Hear no more of the room. The user stays a member."""
        self._feeds.pop(checked_id(room_id, "room_id"), None)
        await self._connection.call(self._events.leave_room, room_id)

    async def send_message(
        self,
        room_id: str,
        content: str,
        *,
        client_msg_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Message:
        """Say *content* in the room; answers with the stored message. Once, also if the connection breaks."""
        draft = present(
            roomId=checked_id(room_id, "room_id"),
            content=content,
            clientMsgId=client_msg_id or uuid.uuid4().hex,
            metadata=metadata,
        )
        answer = await self._connection.call(self._events.send_message, draft)
        return _built(answer.get("message"), Message)

    async def start_typing(self, room_id: str) -> None:
        """Show the others that this user types; it ends by itself after 6 s."""
        checked_id(room_id, "room_id")
        await self._connection.call(self._events.start_typing, room_id, again=False)

    async def stop_typing(self, room_id: str) -> None:
        """Take that back."""
        checked_id(room_id, "room_id")
        await self._connection.call(self._events.stop_typing, room_id, again=False)

    async def mark_read(self, room_id: str, *, seq: int) -> ReadMark:
        """Move this user's read mark up to *seq*; it never moves back."""
        mark = {"roomId": checked_id(room_id, "room_id"), "seq": seq}
        answer = await self._connection.call(self._events.mark_read, mark)
        return _built({name: answer[name] for name in answer if name != "ok"}, ReadMark)

    # -- rooms over reconnects ------------------------------------------------------------------

    def _up(self) -> None:
        self._handlers.tell("connect")
        for room_id in self._feeds:
            self._rejoin_soon(room_id)

    def _down(self, code: str) -> None:
        for feed in self._feeds.values():
            feed.disconnected()
        self._handlers.tell("disconnect", code)

    async def _join(self, room_id: str, feed: RoomFeed) -> JoinedRoom:
        """Join, from the last message on, and show what was missed if there is room for it."""
        since = feed.last
        what = room_id if since is None else {"roomId": room_id, "sinceSeq": since}
        joined = _built(await self._connection.call(self._events.join_room, what), JoinedRoom)
        if since is None or not self._handlers.full:
            self._deliver(feed.joined(joined.last_seq, joined.missed))
        return joined

    def _rejoin_soon(self, room_id: str) -> None:
        if room_id not in self._joining:
            self._joining.add(room_id)
            self._spawn(self._rejoin(room_id))

    async def _rejoin(self, room_id: str) -> None:
        try:
            async with self._turns:
                await self._catch_up(room_id)
        except WebSocketError as error:
            # A lost connection is not the room's fault; the next one joins again.
            if error.code not in {"not_connected", "connection_lost"}:
                self._feeds.pop(room_id, None)
            self._tell_error(error)
        finally:
            self._joining.discard(room_id)

    async def _catch_up(self, room_id: str) -> None:
        """Join until nothing is missing, in as many steps as the server and the handlers need."""
        refused = in_vain = 0
        while (feed := self._feeds.get(room_id)) is not None and feed.is_behind:
            await self._handlers.room()
            since = feed.last
            try:
                await self._join(room_id, feed)
            except WebSocketError as error:
                if not may_join_again(error.code, error.retry_after):
                    raise
                if error.code == "timeout":
                    self._tell_error(error)
                refused += 1
                await asyncio.sleep(pause_for(refused, error.retry_after))
                continue
            refused = 0
            in_vain = in_vain + 1 if feed.last == since and feed.has_gap else 0
            if in_vain > 1:  # no step forward: what is missing cannot be had
                self._deliver(feed.give_up_gap())

    def _deliver(self, messages: list[Message]) -> None:
        for message in messages:
            self._handlers.tell("message", message)

    # -- what the server sends -------------------------------------------------------------------

    def _received(self, event: str, payload: Any) -> None:
        known = _kinds(self._events).get(event)
        if known is None:
            return  # a newer server's event
        name, kind = known
        try:
            value = build(payload, kind)
        except ValueError:
            self._tell_error(
                WebSocketError(
                    f"{name} came in a shape the contract does not know", code="bad_response"
                )
            )
            return
        if isinstance(value, Message) and name == "message":
            self._message(value)
            return
        if isinstance(value, RoomDeleted):
            self._feeds.pop(value.room_id, None)
        elif isinstance(value, TokenExpiring):
            self._spawn(self._refresh())
        self._tell(name, value)

    def _message(self, message: Message) -> None:
        room_id = message.room_id or ""
        feed = self._feeds.get(room_id)
        if feed is None or message.seq is None:
            self._tell("message", message)
            return
        full = self._handlers.full
        self._deliver(feed.live(message, room=not full))
        if feed.has_gap or (full and feed.is_behind):
            self._rejoin_soon(room_id)

    def _tell(self, name: str, value: Model) -> None:
        """Tell handlers of what no server will say again, unless far too much waits."""
        if self._handlers.waiting < 2 * MOST_WAITING:
            self._dropping = False
            self._handlers.tell(name, value)
        elif not self._dropping:
            self._dropping = True
            self._tell_error(
                WebSocketError(
                    "Handlers are too slow: events other than messages were dropped",
                    code="events_dropped",
                )
            )

    async def _refresh(self) -> None:
        try:
            await self.refresh_token()
        except WebSocketError as error:
            self._tell_error(error)

    def _report(self, said: SocketErrorEvent) -> None:
        self._handlers.tell("error", said)

    def _tell_error(self, error: WebSocketError) -> None:
        said = SocketErrorEvent(
            code=error.code or "error", message=error.message, retry_after=error.retry_after
        )
        self._handlers.tell("error", said)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


def _kinds(events: Events) -> dict[str, tuple[str, type[Model]]]:
    return {
        events.message: ("message", Message),
        events.message_updated: ("message_updated", Message),
        events.message_deleted: ("message_deleted", Message),
        events.user_joined: ("user_joined", MemberEvent),
        events.user_left: ("user_left", MemberEvent),
        events.user_typing: ("user_typing", MemberEvent),
        events.user_stopped_typing: ("user_stopped_typing", MemberEvent),
        events.room_updated: ("room_updated", Room),
        events.room_deleted: ("room_deleted", RoomDeleted),
        events.token_expiring: ("token_expiring", TokenExpiring),
    }


def _built(value: object, kind: type[T]) -> T:
    try:
        return build(value, kind)
    except ValueError:
        pass
    raise WebSocketError(
        bad_response("an acknowledgement has another shape", status=None).message,
        code="bad_response",
    )
