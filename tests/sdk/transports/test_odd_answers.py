"""What the corpus says of an answer is what every transport makes of it, however its bytes come."""

import asyncio
import gzip
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from chat_broker_sdk import (
    AiohttpTransport,
    AsgiTransport,
    ChatError,
    HttptoolsTransport,
    HttpxTransport,
    Request,
    ServerError,
    Transport,
)
from chat_broker_sdk._transports.base import LARGEST_HEAD, Body
from tests.sdk.transports.http_corpus import (
    BAD,
    CUT,
    ENDLESS,
    PACKED,
    WHOLE,
    Endless,
    Outcome,
    chunked,
    raw,
)
from tests.sdk.transports.test_transports import OnAThread

KINDS: list[Callable[[], Transport]] = [
    HttpxTransport,
    AiohttpTransport,
    HttptoolsTransport,
    OnAThread,
]
FAST: list[Callable[[], Transport]] = [AiohttpTransport, HttptoolsTransport]
AT_ONCE = 50
Serve = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
SMALL = 64 * 1024
"""For the largest body, so that endless ones end soon."""


@asynccontextmanager
async def answering(serve: Serve) -> AsyncIterator[Callable[[Transport, int], Awaitable[Outcome]]]:
    """A function that asks a server for a number, which calls *serve*(number, writer) and hangs up."""
    asked: set[int] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            number = int(head.split(b" ")[1].removeprefix(b"/"))
            asked.add(number)
            await serve(number, writer)
        writer.close()

    async def ask(transport: Transport, number: int) -> Outcome:
        while True:
            try:
                response = await transport.send(Request("GET", f"{url}/{number}"), timeout=10)
            except ChatError as error:
                # One that was not even asked found a kept connection on which the server had hung up.
                if number in asked or error.code != CUT:
                    return error.code or ""
            else:
                return response.status, response.body

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1000)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield ask
    finally:
        server.close()


@asynccontextmanager
async def opened(kind: Callable[[], Transport]) -> AsyncIterator[Transport]:
    transport = kind()
    try:
        yield transport
    finally:
        await transport.aclose()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_whole_answers(kind: Callable[[], Transport]) -> None:
    names = list(WHOLE)

    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE[names[number]][0])

    async with answering(serve) as ask, opened(kind) as transport:
        found = {name: await ask(transport, number) for number, name in enumerate(names)}
    assert found == {name: expected for name, (_, expected) in WHOLE.items()}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_a_server_that_speaks_first_speaks_no_http(kind: Callable[[], Transport]) -> None:
    """Whether its words come before the request, with it, or after it."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a"
    async with opened(kind) as transport:
        for _ in range(20):
            with pytest.raises(ServerError) as caught:
                await transport.send(Request("GET", url), timeout=5)
            assert caught.value.code == BAD
    server.close()


async def _all(
    kind: Callable[[], Transport],
    cases: list[tuple[str, int]],
    serve: Serve,
) -> Iterator[tuple[tuple[str, int], Outcome]]:
    """The outcome of each of *cases*, whose place in the list is the number asked for; many at once."""
    turn = asyncio.Semaphore(AT_ONCE)
    async with answering(serve) as ask, opened(kind) as transport:

        async def one(number: int) -> Outcome:
            async with turn:
                return await ask(transport, number)

        found = await asyncio.gather(*(one(number) for number in range(len(cases))))
    return zip(cases, found, strict=True)


EVERY_OFFSET = [
    (name, offset) for name, (data, _) in WHOLE.items() for offset in range(1, len(data))
]


@pytest.mark.parametrize("kind", FAST, ids=lambda kind: kind.__name__)
async def test_an_answer_in_two_pieces_is_the_same_answer(kind: Callable[[], Transport]) -> None:
    """Divided at every byte."""

    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        name, offset = EVERY_OFFSET[number]
        data, _ = WHOLE[name]
        writer.write(data[:offset])
        await asyncio.sleep(0.005)
        writer.write(data[offset:])

    for (name, offset), found in await _all(kind, EVERY_OFFSET, serve):
        if kind is AiohttpTransport and name == "more after it":
            continue  # it forgets what it has seen of a second answer: a call after this one finds the rest, and fails
        assert found == WHOLE[name][1], (name, offset)


@pytest.mark.parametrize("kind", FAST, ids=lambda kind: kind.__name__)
async def test_an_answer_cut_at_any_byte_is_cut_off(kind: Callable[[], Transport]) -> None:
    """Right ones are, until they are whole; broken ones never become right. What ends with the connection cannot tell."""

    async def serve(number: int, writer: asyncio.StreamWriter) -> None:
        name, offset = EVERY_OFFSET[number]
        writer.write(WHOLE[name][0][:offset])

    for (name, offset), found in await _all(kind, EVERY_OFFSET, serve):
        data, expected = WHOLE[name]
        if expected in {BAD, CUT}:
            assert found in {BAD, CUT}, (name, offset)
        elif name == "until the end":
            head = data.index(b"\r\n\r\n") + 4
            assert found == (CUT if offset < head else (200, data[head:offset])), offset
        elif name == "more after it":
            assert found in {CUT, expected}
        else:
            assert found == CUT, (name, offset)


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_what_never_ends_is_ended(
    kind: Callable[[], Transport], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a bounded number of bytes, long before the call's time is up, whatever part of the answer has no end."""
    monkeypatch.setattr("chat_broker_sdk._transports.base.LARGEST_BODY", SMALL)
    accepted = 0

    async def serve(_: int, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        endless: Endless = ENDLESS[name]
        writer.write(endless.begin)
        while True:
            writer.write(endless.again)
            await writer.drain()
            accepted += len(endless.again)

    async with answering(serve) as ask, opened(kind) as transport:
        assert await ask(transport, 0) == BAD
    # Among them what the kernel and the server's own side hold of a connection nobody reads any more: a few MB.
    assert accepted < 16 * 1024 * 1024


@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_trailers_take_no_more_room_than_they_may(piece: int) -> None:
    """In pieces of any size, which a parser puts together anew each time."""
    head = chunked(b"{}", end=b"0\r\n") + b"x: "
    sent = 0

    async def serve(_: int, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head)
        while True:
            writer.write(b"y" * piece)
            sent += piece
            if sent % (100 * piece) == 0:
                await asyncio.sleep(0)
            await writer.drain()

    async with answering(serve) as ask, opened(HttptoolsTransport) as transport:
        assert await ask(transport, 0) == BAD


@pytest.mark.parametrize("kind", FAST, ids=lambda kind: kind.__name__)
async def test_many_small_chunks_are_a_right_answer(kind: Callable[[], Transport]) -> None:
    """Their framing is more than a head may be, and more than they are themselves."""
    count = LARGEST_HEAD

    async def serve(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"))
        writer.write(b"1\r\nx\r\n" * count + b"0\r\n\r\n")
        await writer.drain()

    async with answering(serve) as ask, opened(kind) as transport:
        assert await ask(transport, 0) == (200, b"x" * count)


@pytest.mark.parametrize(
    "pieces",
    [
        [PACKED[:-1]],
        [PACKED[:-8]],
        [PACKED, b"x"],
        [PACKED + b"x"],
        itertools.chain([PACKED], itertools.repeat(b"x" * 65536)),
        itertools.chain([PACKED[:10]], itertools.repeat(b"\x00\x00\x00\xff\xff" * 10_000)),
        itertools.repeat(b"x" * 65536),
    ],
    ids=["cut", "no checksum", "more", "more at once", "endless", "empty blocks", "no gzip"],
)
async def test_an_application_in_this_process_is_held_to_the_same(pieces: Iterator[bytes]) -> None:
    """Even one that goes on after an error: the answer stays broken, and `send` raises each time."""
    refused = 0

    async def app(scope: object, receive: object, send: Callable[..., object]) -> None:
        nonlocal refused
        headers = [(b"content-encoding", b"gzip")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[misc]
        for piece in pieces:
            try:
                await send({"type": "http.response.body", "body": piece, "more_body": True})  # type: ignore[misc]
            except ChatError:
                refused += 1
                if refused == 3:
                    break
        with suppress(ChatError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})  # type: ignore[misc]

    with pytest.raises(ServerError) as caught:
        await AsgiTransport(app).send(Request("GET", "http://chat/a"), timeout=5)
    assert caught.value.code == BAD


def test_a_body_in_a_million_pieces_takes_little_more_room_than_in_one() -> None:
    import tracemalloc

    body, size = Body(200, None, None), 1024 * 1024
    tracemalloc.start()
    try:
        for number in range(size // 2):
            body.add(number.to_bytes(2, "little", signed=False) if number < 65536 else b"xy")
        whole = body.complete()
        assert tracemalloc.get_traced_memory()[1] < 4 * size
    finally:
        tracemalloc.stop()
    assert len(whole) == size


def test_a_compressed_body_may_come_in_any_pieces() -> None:
    plain = b'{"items": [' + b"1, " * 5000 + b"1]}"
    packed = gzip.compress(plain)
    for piece in (1, 2, 3, 1000):
        body = Body(200, "gzip", None)
        for start in range(0, len(packed), piece):
            body.add(packed[start : start + piece])
        assert body.complete() == plain
