"""A node of the Chat API server in this process: real database, real sockets on a real port."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from chat_broker_kit.database.transactions import Database
from chat_broker_server.chat.events import Happened
from chat_broker_server.chat.models import Room, RoomDraft, User, UserDraft
from chat_broker_server.chat.service import Chat
from chat_broker_server.cluster.bus import Bus, RedisBus
from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.credentials.signing_keys import open_signing_keys
from chat_broker_server.credentials.tokens import Tokens
from chat_broker_server.database.open import open_database
from chat_broker_server.realtime.clock import Clock
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.origins import OriginPolicy
from chat_broker_server.realtime.server import Realtime
from tests.server.realtime.socket_client import Socket, connected

PID = "project-1"


@dataclass
class LiveNode:
    """What a test needs of a running node."""

    url: str
    realtime: Realtime
    chat: Chat
    tokens: Tokens
    database: Database
    server: uvicorn.Server
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def user(self, name: str) -> User:
        return await self.chat.create_user(
            PID, UserDraft(username=name, external_user_id=f"ext-{name}")
        )

    async def token(self, user: User, expires_in: int | None = None) -> str:
        return (await self.tokens.mint(PID, user.id, expires_in)).token

    async def room(self, owner: User, *members: User, private: bool = False) -> Room:
        draft = RoomDraft(
            name="a room",
            created_by=owner.id,
            private=private,
            member_ids=[member.id for member in members],
        )
        return await self.chat.create_room(PID, draft)

    async def socket(self, user: User, *rooms: Room) -> Socket:
        """A socket of *user* that has joined *rooms*; closed with the node."""
        token = await self.token(user)
        socket = await self.stack.enter_async_context(connected(self.url, token))
        assert socket.refused is None
        for room in rooms:
            assert (await socket.call("joinRoom", room.id))["ok"]
        return socket

    def fact(self, name: str) -> Any:
        return self.realtime.facts()[name]


async def until(condition: Any, *, within: float = 5.0) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in the server
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running_node(
    database_url: str,
    *,
    limits: Limits | None = None,
    redis_url: str | None = None,
    origins: list[str] | None = None,
    wrapped: bool = False,
    own_websockets: bool = True,
    clock: Clock | None = None,
) -> AsyncIterator[LiveNode]:
    """*wrapped*: hide the transport from the sockets, as a middleware would. *own_websockets*: see Realtime."""
    database = await open_database(database_url)
    bus: Bus | None = RedisBus(redis_url) if redis_url else None
    realtime: Realtime

    def publish(event: Happened) -> None:
        realtime.publish(event)

    chat = Chat(database, publish)
    keys = await open_signing_keys(database, "EdDSA")
    await ApiKeys(database).ensure_project(PID, "tests")
    tokens = Tokens(database, keys, issuer="chat-server")
    realtime = Realtime(
        chat,
        tokens,
        bus=bus,
        limits=limits,
        origins=OriginPolicy.of(origins, lambda _scope, _origin: False),
        own_websockets=own_websockets,
        clock=clock,
    )
    await realtime.start()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def hidden(message: Any) -> None:
            await send(message)

        await realtime.app(
            {**scope, "root_path": "/socket.io"}, receive, hidden if wrapped else send
        )

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        log_config=None,
        ws_max_size=1024 * 1024,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))  # `serve` would take over signals
    try:
        await until(lambda: server.started)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        node = LiveNode(url, realtime, chat, tokens, database, server)
        async with node.stack:
            yield node
    finally:
        await realtime.close(deadline=2)
        server.should_exit = True
        await serving
        await database.close()
