"""Chat in a terminal: python examples/terminal_chat.py alice General

Start the broker with `make run`, then this program in two terminals under two names. What you type is said in the
room; an empty line or Ctrl-D ends it.
"""

import argparse
import asyncio
import sys

import httpx
from broker_session import BrokerSession

from chat_broker_sdk import ChatError, MemberEvent, Message, WebSocketError


async def read_lines() -> asyncio.StreamReader:
    """The lines of standard input, read without blocking the event loop."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def talk(broker_url: str, username: str, room_name: str) -> None:
    """Join the room, print its messages, post what is typed."""
    async with BrokerSession(broker_url, username) as session, await session.chat() as chat:
        room_id = await session.room(room_name)

        def on_message(message: Message) -> None:
            if message.username != username:
                print(f"{message.username}: {message.content}", flush=True)

        def on_user_joined(event: MemberEvent) -> None:
            print(f"* {event.username} joined", flush=True)

        def on_error(error: WebSocketError) -> None:
            print(f"! {error}", file=sys.stderr, flush=True)

        chat.socket.on_message(on_message)
        chat.socket.on_user_joined(on_user_joined)
        chat.socket.on_error(on_error)
        await chat.socket.connect(session.token)
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
