"""A bot that answers: python examples/bot.py General

It greets who joins, and replies to `!ping`, `!time` and `!help`.
"""

import argparse
import asyncio
import contextlib
from datetime import UTC, datetime

from broker_session import BrokerSession

from chat_broker_sdk import MemberEvent, Message


def reply_to(content: str) -> str | None:
    """The bot's reply to *content*; None if the message is not for the bot."""
    match content.strip().lower():
        case "!ping":
            return "pong"
        case "!time":
            return f"It is {datetime.now(UTC):%H:%M} UTC."
        case "!help":
            return "I know !ping, !time and !help."
        case _:
            return None


async def answer(broker_url: str, username: str, room_name: str) -> None:
    """Stay in the room and answer, over reconnects, until interrupted."""
    async with BrokerSession(broker_url, username) as session, await session.chat() as chat:
        room_id = await session.room(room_name)

        async def on_message(message: Message) -> None:
            reply = reply_to(message.content)
            if reply is not None and message.username != username:
                await chat.socket.send_message(room_id, reply)

        async def on_user_joined(event: MemberEvent) -> None:
            if event.username != username:
                await chat.socket.send_message(
                    room_id, f"Welcome, {event.display_name or event.username}!"
                )

        chat.socket.on_message(on_message)
        chat.socket.on_user_joined(on_user_joined)
        await chat.socket.connect(session.token)
        await chat.socket.join_room(room_id)
        print(f"{username} answers in {room_name}", flush=True)
        await chat.socket.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A bot that answers, against `make run`.")
    parser.add_argument("room", nargs="?", default="General")
    parser.add_argument("--username", default="bot")
    parser.add_argument("--broker", default="http://127.0.0.1:8000")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(answer(options.broker, options.username, options.room))
