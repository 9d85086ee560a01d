"""The largest answer that the contract allows, of every call, gets through every transport."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from chat_broker_sdk import (
    AiohttpTransport,
    AsgiTransport,
    AsyncChatClient,
    ChatClient,
    DirectTransport,
    HttptoolsTransport,
    HttpxTransport,
    Page,
    Transport,
)
from chat_broker_server import Server, Settings, open_server
from tests.programs import Program, running_broker

KEY = "ck_0123456789abcdef_largest-answers-largest-answers-largest-a"
WIDE = "𝄞"  # one character, four bytes
METADATA = {"m": "x" * (4096 - len('{"m":""}'))}
CONTENT = WIDE * 8000
MOST = 200
LARGEST = 512 * 1024


@dataclass
class Full:
    """A Chat API whose every field is as long as it may be."""

    server: Server
    url: str
    client: AsyncChatClient
    owner: str
    room: str
    seqs: list[int]


def person(number: int) -> dict[str, Any]:
    ending = f"{number:03d}"
    return {
        "username": "u" * 61 + ending,
        "external_user_id": WIDE * 252 + ending,
        "display_name": WIDE * 128,
        "email": f"{WIDE * 126}@{WIDE * 127}",
        "avatar_url": "https://a/" + WIDE * 2038,
        "metadata": METADATA,
    }


def place(number: int) -> dict[str, Any]:
    return {
        "name": WIDE * 125 + f"{number:03d}",
        "description": WIDE * 2000,
        "metadata": METADATA,
    }


@asynccontextmanager
async def served(server: Server) -> AsyncIterator[str]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/socket.io"):
            await server.socket({**scope, "root_path": "/socket.io"}, receive, send)
        else:
            await server.rest(scope, receive, send)

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    web = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    serving = asyncio.create_task(web._serve([listener]))  # `serve` would take over signals
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        web.should_exit = True
        await serving


@pytest.fixture(scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
async def full(folder: Path) -> AsyncIterator[Full]:
    async with AsyncExitStack() as stack:
        own = Settings(data_dir=folder)
        server = await stack.enter_async_context(open_server(own, embedded_key=KEY))
        url = await stack.enter_async_context(served(server))
        client = AsyncChatClient(
            "http://chat", api_key=KEY, transport=DirectTransport(server.call), retries=0
        )
        await stack.enter_async_context(client)
        people = [(await client.users.create(**person(number))).id for number in range(MOST)]
        owner = people[0]
        for number in range(MOST - 1):
            await client.rooms.create(**place(number), created_by=owner)
        room = await client.rooms.create(**place(MOST - 1), created_by=owner, member_ids=people)
        seqs = []
        for number in range(MOST):
            message = await client.messages.create(
                room.id,
                content=CONTENT,
                user_id=owner,
                client_msg_id=WIDE * 125 + f"{number:03d}",
                metadata=METADATA,
            )
            seqs.append(message.seq or 0)
        yield Full(server, url, client, owner, room.id, seqs)


KINDS = {
    "direct": lambda full: DirectTransport(full.server.call),
    "asgi": lambda full: AsgiTransport(full.server.rest),
    "httptools": lambda _: HttptoolsTransport(),
    "aiohttp": lambda _: AiohttpTransport(),
    "httpx": lambda _: HttpxTransport(),
}


@pytest.fixture(params=list(KINDS))
async def client(request: pytest.FixtureRequest, full: Full) -> AsyncIterator[AsyncChatClient]:
    transport: Transport = KINDS[request.param](full)
    async with AsyncChatClient(full.url, api_key=KEY, transport=transport, retries=0) as client:
        yield client


async def test_pages_by_number_hold_what_was_asked_for(full: Full, client: AsyncChatClient) -> None:
    """Two hundred of everything, each with fields as long as they may be."""
    pages: list[Page[Any]] = [
        await client.users.list(limit=MOST),
        await client.rooms.list(limit=MOST),
        await client.rooms.list(limit=MOST, member_id=full.owner),
        await client.rooms.members(full.room, limit=MOST),
        await client.messages.list(full.room, limit=MOST),
        await client.messages.list(full.room, page=1, limit=MOST),
    ]
    assert [len(page.items) for page in pages] == [MOST] * len(pages)
    assert pages[-1].items[0].content == CONTENT


async def test_single_answers_with_the_longest_fields(full: Full, client: AsyncChatClient) -> None:
    assert (await client.users.get(full.owner)).metadata == METADATA
    assert (await client.rooms.get(full.room)).description == WIDE * 2000
    assert (await client.rooms.update(full.room, metadata=METADATA)).metadata == METADATA
    minted = await client.users.generate_token(full.owner)
    assert minted.user is not None
    assert minted.user.avatar_url == person(0)["avatar_url"]
    again = await client.messages.create(
        full.room,
        content=CONTENT,
        user_id=full.owner,
        client_msg_id=WIDE * 125 + "000",
        metadata=METADATA,
    )
    assert again.seq == full.seqs[0]


@pytest.mark.parametrize("cursor", [{"after": 0}, {"before": 201}])
async def test_a_page_by_cursor_ends_early_and_says_so(
    full: Full, client: AsyncChatClient, cursor: dict[str, int]
) -> None:
    """At 512 KiB; `next_cursor` goes on after the last message it holds."""
    raw = await client.with_raw_response(client.messages.list, full.room, limit=MOST, **cursor)
    page = raw.value
    one = len(raw.body) // len(page.items)
    assert LARGEST - one < len(raw.body) <= LARGEST
    assert page.has_more is True
    assert page.next_cursor == page.items[-1].seq
    expected = full.seqs if "after" in cursor else full.seqs[::-1]
    assert [message.seq for message in page.items] == expected[: len(page.items)]


async def test_walking_goes_on_past_shortened_pages(full: Full, client: AsyncChatClient) -> None:
    upwards = [each.seq async for each in client.messages.iterate(full.room, limit=MOST, after=0)]
    assert upwards == full.seqs
    before = full.seqs[-1] + 1
    for options in ({}, {"before": before}):
        downwards = [
            each.seq async for each in client.messages.iterate(full.room, limit=MOST, **options)
        ]
        assert downwards == full.seqs[::-1]


async def test_a_page_that_fits_is_whole(full: Full, client: AsyncChatClient) -> None:
    page = await client.messages.list(full.room, after=190, limit=MOST)
    assert [message.seq for message in page.items] == full.seqs[190:]
    assert (page.has_more, page.next_cursor) == (False, None)


async def test_the_synchronous_client(full: Full) -> None:
    def ask() -> tuple[int, int]:
        with ChatClient(full.url, api_key=KEY) as client:
            walked = len(list(client.messages.iterate(full.room, after=0, limit=MOST)))
            return len(client.messages.list(full.room, limit=MOST).items), walked

    assert await asyncio.to_thread(ask) == (MOST, MOST)


@asynccontextmanager
async def signed_in(full: Full, broker: Program) -> AsyncIterator[httpx.AsyncClient]:
    """A user of *broker* who is in the room, and in all others."""
    async with httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=30) as http:
        login = await http.post("/dev/login", json={"username": "reader"})
        http.headers["Authorization"] = f"Bearer {login.json()['token']}"
        me = (await http.get("/chat/me")).json()["id"]
        async for room in full.client.rooms.iterate(member_id=full.owner, limit=MOST):
            await full.client.rooms.put_member(room.id, me)
        yield http


@pytest.mark.parametrize("mode", ["remote", "embedded"])
async def test_a_broker_passes_them_on(full: Full, folder: Path, tmp_path: Path, mode: str) -> None:
    """Over the network to the Chat API, and with the Chat API in its own process."""
    given = {"CHAT_API_KEY": KEY}
    if mode == "remote":
        given["CHAT_BASE_URL"] = full.url
    data_dir = folder if mode == "embedded" else tmp_path
    async with running_broker(data_dir, **given) as broker, signed_in(full, broker) as http:
        in_room = f"/chat/rooms/{full.room}"
        for path in ("/chat/rooms", f"{in_room}/members", f"{in_room}/messages"):
            answer = await http.get(path, params={"limit": MOST})
            assert answer.status_code == 200, answer.text[:500]
            assert len(answer.json()["items"]) == MOST
        answer = await http.get(f"{in_room}/messages", params={"limit": MOST, "after": 0})
        page = answer.json()
        assert 1 < len(page["items"]) < MOST
        assert (page["has_more"], page["next_cursor"]) == (True, page["items"][-1]["seq"])
