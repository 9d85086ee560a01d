"""The synchronous `client.socket`: an AsyncChatSocket on a background thread."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chat_broker_sdk._async.realtime import AsyncChatSocket
from chat_broker_sdk._models import (
    DeliveredMark,
    JoinedRoom,
    Message,
    Presence,
    ReadMark,
    SyncResult,
)
from chat_broker_sdk._realtime.connection import TokenResult, TokenSource
from chat_broker_sdk._realtime.events import EventMethods
from chat_broker_sdk._realtime.handlers import Handler, Handlers
from chat_broker_sdk._realtime.room_watch import Have
from chat_broker_sdk._realtime.wire import ConnectOptions
from chat_broker_sdk._transports.background import BackgroundLoop


class ChatSocket(EventMethods):
    """One user's live connection for synchronous code, with the promises of AsyncChatSocket.

    Handlers run one at a time on a second thread, and may call the client and this socket.
    """

    def __init__(self, options: Callable[[], ConnectOptions]) -> None:
        self._background = BackgroundLoop()
        self._executor: ThreadPoolExecutor | None = None
        self._socket = AsyncChatSocket(options, run=self._run_on_thread)

    async def _run_on_thread(self, handler: Handler, args: tuple[Any, ...]) -> None:
        if inspect.iscoroutinefunction(handler):
            await handler(*args)
            return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="chat_broker_sdk handlers")
        await asyncio.get_running_loop().run_in_executor(self._executor, handler, *args)

    @property
    def _handlers(self) -> Handlers:  # type: ignore[override]  # the background socket's
        return self._socket._handlers

    @property
    def connected(self) -> bool:
        """Whether the connection is open at this moment."""
        return self._socket.connected

    def connect(self, token: TokenSource | None = None, *, within: float = 10.0) -> None:
        """Return when connected, as AsyncChatSocket does. A token function runs on a thread, and may call the client."""
        source = _in_thread(token) if callable(token) else token
        self._background.run(self._socket.connect(source, within=within))

    def disconnect(self) -> None:
        """Close the connection, and end the handlers' thread."""
        self._background.run(self._socket.disconnect())
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def close(self) -> None:
        """Disconnect, and end the background thread. Called by a handler, the thread ends with the program."""
        self.disconnect()
        self._background.close()

    def wait(self, timeout: float | None = None) -> None:
        """Return after `disconnect`, or after *timeout* seconds.

        Raises WebSocketError when the connection has ended and will not reconnect.
        """
        self._background.run(_within(self._socket, timeout))

    def refresh_token(self, token: str | None = None) -> None:
        """Send a new token over the open connection: *token*, or that of the token function. Raises WebSocketError."""
        self._background.run(self._socket.refresh_token(token))

    def join_room(
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

        With *since_rev* and *epoch* of an earlier result, also what changed since then of messages after *from_seq*.
        Makes the user a member of a room that is not private, unless they *peek*. Raises WebSocketError with the
        server's code.
        """
        return self._background.run(
            self._socket.join_room(
                room_id,
                since_seq=since_seq,
                since_rev=since_rev,
                from_seq=from_seq,
                epoch=epoch,
                peek=peek,
            )
        )

    def leave_room(self, room_id: str) -> None:
        """Stop receiving the room's events. The user stays a member."""
        self._background.run(self._socket.leave_room(room_id))

    def send_message(
        self,
        room_id: str,
        content: str,
        *,
        client_msg_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Message:
        """Post *content* in the room, and return the stored message. Posted once, also if the connection breaks meanwhile."""
        return self._background.run(
            self._socket.send_message(
                room_id, content, client_msg_id=client_msg_id, metadata=metadata
            )
        )

    def start_typing(self, room_id: str) -> None:
        """Show the other members that this user is typing, for 6 s."""
        self._background.run(self._socket.start_typing(room_id))

    def stop_typing(self, room_id: str) -> None:
        """Show the other members that this user has stopped typing."""
        self._background.run(self._socket.stop_typing(room_id))

    def mark_read(self, room_id: str, *, seq: int) -> ReadMark:
        """Move this user's read mark up to *seq*. It never moves back."""
        return self._background.run(self._socket.mark_read(room_id, seq=seq))

    def mark_delivered(self, room_id: str, *, seq: int) -> DeliveredMark:
        """Say that messages up to *seq* have reached this device. The socket does so by itself in small rooms."""
        return self._background.run(self._socket.mark_delivered(room_id, seq=seq))

    def watch_rooms(  # noqa: PLR0913 - one keyword a field of the contract
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

        The arguments and the result are those of `client.sync`. What is answered is also told through `on_room_added`
        and `on_room_removed`, before any later event. After a reconnect the socket watches again by itself. *deliver*
        `all`: every event of every room. Raises WebSocketError with the server's code, UnsupportedOperationError if
        the server does not offer it.
        """
        return self._background.run(
            self._socket.watch_rooms(
                have=have,
                have_version=have_version,
                epoch=epoch,
                messages=messages,
                limit=limit,
                cursor=cursor,
                token=token,
                deliver=deliver,
            )
        )

    def unwatch_rooms(self) -> None:
        """Hear only of the rooms that this socket has joined."""
        self._background.run(self._socket.unwatch_rooms())

    def send_signal(self, room_id: str, name: str, data: Any = None) -> None:
        """Tell the room's other sockets something that is stored nowhere, at most once. The room must have been joined."""
        self._background.run(self._socket.send_signal(room_id, name, data))

    def watch_presence(self, user_ids: Sequence[str]) -> tuple[Presence, ...]:
        """Be told by `on_presence` of these users, at most 200, and no others. Returns whether they are online now."""
        return self._background.run(self._socket.watch_presence(user_ids))


def _in_thread(token_function: Callable[[], Any]) -> Callable[[], Any]:
    async def call() -> TokenResult:
        result: Any = await asyncio.to_thread(token_function)
        if inspect.isawaitable(result):
            result = await result
        token: TokenResult = result
        return token

    return call


async def _within(socket: AsyncChatSocket, seconds: float | None) -> None:
    waiting = asyncio.create_task(socket.wait())
    done, _ = await asyncio.wait([waiting], timeout=seconds)
    if done:
        waiting.result()
    else:
        waiting.cancel()
