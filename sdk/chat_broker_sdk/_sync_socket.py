"""The synchronous `client.socket`: the asynchronous one on a thread of its own."""

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chat_broker_sdk._async.realtime import AsyncChatSocket
from chat_broker_sdk._models import JoinedRoom, Message, ReadMark
from chat_broker_sdk._realtime.connection import Said, TokenSource
from chat_broker_sdk._realtime.events import Listening
from chat_broker_sdk._realtime.handlers import Handler, Handlers
from chat_broker_sdk._realtime.live_wire import Where
from chat_broker_sdk._transports.background import BackgroundLoop


class ChatSocket(Listening):
    """One user's live connection for synchronous code; see AsyncChatSocket for what it promises.

    Handlers run one after the other on a second thread, and may call the client and this socket.
    """

    def __init__(self, where: Callable[[], Where]) -> None:
        self._background = BackgroundLoop()
        self._hands: ThreadPoolExecutor | None = None
        self._socket = AsyncChatSocket(where, run=self._on_hands)

    async def _on_hands(self, handler: Handler, args: tuple[Any, ...]) -> None:
        if inspect.iscoroutinefunction(handler):
            await handler(*args)
            return
        if self._hands is None:
            self._hands = ThreadPoolExecutor(1, thread_name_prefix="chat_broker_sdk handlers")
        await asyncio.get_running_loop().run_in_executor(self._hands, handler, *args)

    @property
    def _handlers(self) -> Handlers:  # type: ignore[override]  # those of the socket on the thread
        return self._socket._handlers

    @property
    def connected(self) -> bool:
        """Whether events flow right now."""
        return self._socket.connected

    def connect(self, token: TokenSource | None = None, *, within: float = 10.0) -> None:
        """Connect; returns when connected. A token function runs on a thread, and may call the client."""
        source = _off_the_loop(token) if callable(token) else token
        self._background.run(self._socket.connect(source, within=within))

    def disconnect(self) -> None:
        """Close the connection, end the threads."""
        self._background.run(self._socket.disconnect())
        hands, self._hands = self._hands, None
        if hands is not None:
            hands.shutdown(wait=False)

    def close(self) -> None:
        """Disconnect and end the thread. Called by a handler, it leaves the thread to end with the program."""
        self.disconnect()
        self._background.close()

    def wait(self, timeout: float | None = None) -> None:
        """Return when `disconnect` was called; raise WebSocketError when the connection ended for good.

        With *timeout*, return after that many seconds at the latest.
        """
        self._background.run(_within(self._socket, timeout))

    def refresh_token(self, token: str | None = None) -> None:
        """Give the server a fresh token over the open connection."""
        self._background.run(self._socket.refresh_token(token))

    def join_room(self, room_id: str, *, since_seq: int | None = None) -> JoinedRoom:
        """Hear of what happens in the room; with *since_seq*, first of every message after that one."""
        return self._background.run(self._socket.join_room(room_id, since_seq=since_seq))

    def leave_room(self, room_id: str) -> None:
        """Hear no more of the room."""
        self._background.run(self._socket.leave_room(room_id))

    def send_message(
        self,
        room_id: str,
        content: str,
        *,
        client_msg_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Message:
        """Say *content* in the room; answers with the stored message."""
        return self._background.run(
            self._socket.send_message(
                room_id, content, client_msg_id=client_msg_id, metadata=metadata
            )
        )

    def start_typing(self, room_id: str) -> None:
        """Show the others that this user types; it ends by itself after 6 s."""
        self._background.run(self._socket.start_typing(room_id))

    def stop_typing(self, room_id: str) -> None:
        """Take that back."""
        self._background.run(self._socket.stop_typing(room_id))

    def mark_read(self, room_id: str, *, seq: int) -> ReadMark:
        """Move this user's read mark up to *seq*; it never moves back."""
        return self._background.run(self._socket.mark_read(room_id, seq=seq))


def _off_the_loop(ask: Callable[[], Any]) -> Callable[[], Any]:
    async def asked() -> Said:
        answer = await asyncio.to_thread(ask)
        if inspect.isawaitable(answer):
            answer = await answer
        said: Said = answer
        return said

    return asked


async def _within(socket: AsyncChatSocket, seconds: float | None) -> None:
    waiting = asyncio.create_task(socket.wait())
    done, _ = await asyncio.wait([waiting], timeout=seconds)
    if done:
        waiting.result()
    else:
        waiting.cancel()
