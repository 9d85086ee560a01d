"""Chat in a terminal: python examples/terminal_chat.py alice General

Start the broker with `make run`, then this program in two terminals under two names. What you type is said in the
room; an empty line or Ctrl-D ends it. What is unread in your other rooms is shown as it comes.
"""

import argparse
import asyncio
import sys

import httpx
from broker_session import BrokerSession

from chat_broker_sdk import (
    AsyncChatClient,
    ChatError,
    Delta,
    MemberEvent,
    Message,
    MineEvent,
    RoomActivity,
    RoomRemoved,
    SocketErrorEvent,
)


async def read_lines() -> asyncio.StreamReader:
    """The lines of standard input, read without blocking the event loop."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


class RoomList:
    """The user's rooms with what is unread, kept by the socket's events alone: it is never stale."""

    def __init__(self, chat: AsyncChatClient, open_room: str) -> None:
        self._names: dict[str, str] = {}
        self._unread: dict[str, int] = {}
        self._open_room = open_room
        self._shown = ""
        chat.socket.on_room_added(self._put)
        chat.socket.on_room_removed(self._remove)
        chat.socket.on_room_activity(self._activity)
        chat.socket.on_mine(self._mine)

    def _put(self, delta: Delta) -> None:
        self._names[delta.room.id] = delta.room.name or "(direct)"
        self._set(delta.room.id, delta.mine.unread if delta.mine else 0)

    def _remove(self, event: RoomRemoved) -> None:
        self._names.pop(event.room_id, None)
        self._unread.pop(event.room_id, None)
        self._show()

    def _activity(self, event: RoomActivity) -> None:
        # A large room does not say how many are unread: count what comes.
        more = self._unread.get(event.room_id, 0) + 1
        self._set(event.room_id, more if event.unread is None else event.unread)

    def _mine(self, event: MineEvent) -> None:
        if event.room_id is not None and event.mine is not None:
            self._set(event.room_id, event.mine.unread)

    def _set(self, room_id: str, unread: int) -> None:
        self._unread[room_id] = unread
        self._show()

    def _show(self) -> None:
        waiting = [
            f"{self._names[room_id]} ({unread})"
            for room_id, unread in self._unread.items()
            if unread and room_id in self._names and room_id != self._open_room
        ]
        line = f"# unread: {', '.join(waiting)}" if waiting else ""
        if line != self._shown:
            self._shown = line
            print(line or "# nothing unread", flush=True)


async def talk(broker_url: str, username: str, room_name: str) -> None:
    """Join the room, print its messages, post what is typed."""
    async with BrokerSession(broker_url, username) as session, await session.chat() as chat:
        room_id = await session.room(room_name)

        async def on_message(message: Message) -> None:
            if message.username != username:
                print(f"{message.username}: {message.content}", flush=True)
                await chat.socket.mark_read(room_id, seq=message.seq or 0)

        def on_user_joined(event: MemberEvent) -> None:
            print(f"* {event.username} joined", flush=True)

        def on_error(error: SocketErrorEvent) -> None:
            print(f"! {error.code}: {error.message}", file=sys.stderr, flush=True)

        chat.socket.on_message(on_message)
        chat.socket.on_user_joined(on_user_joined)
        chat.socket.on_error(on_error)
        RoomList(chat, room_id)
        await chat.socket.connect(session.token)
        await chat.socket.watch_rooms()
        joined = await chat.socket.join_room(room_id)
        print(f"* {username} in {joined.room.name}: {joined.members_online} online", flush=True)

        lines = await read_lines()
        while line := (await lines.readline()).decode().strip():
            await chat.socket.send_message(room_id, line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Chat in a terminal, against `make run`.")
    parser.add_argument("username")
    parser.add_argument("room", nargs="?", default="General")
    parser.add_argument("--broker", default="http://127.0.0.1:8000")
    options = parser.parse_args()
    try:
        asyncio.run(talk(options.broker, options.username, options.room))
    except KeyboardInterrupt:
        pass
    except (ChatError, httpx.HTTPError) as error:
        sys.exit(f"{error}\nIs the broker running? make run")
