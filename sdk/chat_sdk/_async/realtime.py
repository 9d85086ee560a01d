"""client.socket: live events over Socket.IO."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chat_sdk._connection import Connection, TokenSource, Where, asking
from chat_sdk._dialect import Events
from chat_sdk._errors import WebSocketError, bad_response
from chat_sdk._feed import RoomFeed
from chat_sdk._fields import present
from chat_sdk._handlers import Handlers, Runner, run_here
from chat_sdk._listening import Listening
from chat_sdk._models import (
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
from chat_sdk._urls import checked_id

T = TypeVar("T")


class AsyncChatSocket(Listening):
    """One user's live connection. It comes back by itself, with all its rooms, and without gaps.

    Handlers are told one event at a time, in order. What one raises is logged and stops nothing. A slow
    handler delays the next event, not the connection.
    """

    def __init__(self, where: Callable[[], Where], *, run: Runner = run_here) -> None:
        self._where = where
        self._handlers = Handlers(run)
        self._feeds: dict[str, RoomFeed] = {}
        self._joining: set[str] = set()
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
        self._handlers.start()
        try:
            await self._connection.start(ask, within)
        except WebSocketError as error:
            if error.code != "already_connected":
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

        After a reconnect the room is joined again by itself, from the last message on. Raises
        WebSocketError with the server's code.
        """
        checked_id(room_id, "room_id")
        self._feeds[room_id] = RoomFeed(since_seq)
        try:
            return await self._join(room_id)
        except BaseException:
            self._feeds.pop(room_id, None)
            raise

    async def leave_room(self, room_id: str) -> None:
        """Hear no more of the room."""
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

    async def _join(self, room_id: str) -> JoinedRoom:
        """Join and catch up, in as many steps as the server needs for what was missed."""
        feed = self._feeds[room_id]
        first: JoinedRoom | None = None
        while True:
            since = feed.last
            what = room_id if since is None else {"roomId": room_id, "sinceSeq": since}
            answer = await self._connection.call(self._events.join_room, what)
            joined = _built(answer, JoinedRoom)
            first = first or joined
            self._deliver(feed.joined(joined.last_seq, joined.missed))
            if joined.last_seq is None or feed.last is None or feed.last >= joined.last_seq:
                return first
            if feed.last == since:  # no step forward: what is missing cannot be had
                self._deliver(feed.give_up_gap())
                return first

    def _rejoin_soon(self, room_id: str) -> None:
        if room_id not in self._joining:
            self._joining.add(room_id)
            self._spawn(self._rejoin(room_id))

    async def _rejoin(self, room_id: str) -> None:
        try:
            await self._join(room_id)
        except WebSocketError as error:
            # A lost connection is not the room's fault; the next one joins again.
            if error.code not in {"not_connected", "connection_lost", "timeout"}:
                self._feeds.pop(room_id, None)
            self._tell_error(error)
        except KeyError:
            pass  # left in the meantime
        finally:
            self._joining.discard(room_id)

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
        self._handlers.tell(name, value)

    def _message(self, message: Message) -> None:
        room_id = message.room_id or ""
        feed = self._feeds.get(room_id)
        if feed is None:
            self._handlers.tell("message", message)
            return
        self._deliver(feed.live(message))
        if feed.has_gap:
            self._rejoin_soon(room_id)

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
