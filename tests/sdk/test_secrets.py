"""The key and the token are nowhere but in the one header they belong into."""

import asyncio
import base64
import copy
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from chat_broker_sdk import (
    AiohttpTransport,
    AsgiTransport,
    AsyncChatClient,
    ChatClient,
    ChatError,
    ConfigurationError,
    Dialect,
    DirectTransport,
    HttptoolsTransport,
    HttpxTransport,
    Request,
    Response,
    SyncHttpxTransport,
    Transport,
)
from chat_broker_sdk._credentials import ApiKey, seal
from chat_broker_sdk.testing import FakeChatApi
from tests.sdk.conftest import KEY


def told(error: BaseException) -> str:
    """All a crash reporter could see: the whole chain, with the locals of every frame but this test's own."""
    text = "".join(traceback.format_exception(error)) + pprint.pformat(error) + repr(vars(error))
    chain: list[BaseException | None] = [error]
    for each in chain:
        if each is None:
            continue
        chain += [each.__cause__, each.__context__]
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                text += "".join(f"{name}={value!r}" for name, value in frame.f_locals.items())
    return text


def assert_clean(text: str, secret: str = KEY) -> None:
    for form in (secret, base64.b64encode(secret.encode()).decode(), secret[:12]):
        assert form not in text


def test_the_key_hides_itself() -> None:
    sealed = seal(KEY)
    assert callable(sealed)
    key = ApiKey(sealed)
    for shown in (
        repr(key),
        str(key),
        f"{key}",
        f"{key:>40}",
        pprint.pformat([key]),
        repr(dir(key)),
    ):
        assert_clean(shown)
    name, value = key.header(Dialect())
    assert (name, str(value)) == ("X-API-Key", KEY)
    assert_clean(repr(key.header(Dialect())))
    assert copy.copy(key) is key
    assert copy.deepcopy({"k": key})["k"] is key
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        json.dumps(key)
    with pytest.raises(TypeError):
        vars(key)


def test_neither_client_nor_its_parts_show_it() -> None:
    client = AsyncChatClient("https://h", api_key=KEY, jwt_token="eyJ.canary.token")
    for shown in (repr(client), pprint.pformat(vars(client)), pprint.pformat(vars(client._api))):
        assert_clean(shown)
        assert_clean(shown, "eyJ.canary.token")
    with pytest.raises((TypeError, AttributeError)):
        pickle.dumps(client)


@pytest.mark.parametrize("bad", [KEY + "\r\nX: 1", KEY + " ", KEY + "é", "\0" + KEY, ""])
def test_a_key_that_cannot_be_sent_is_refused_without_repeating_it(bad: str) -> None:
    for build in (
        lambda: AsyncChatClient("https://h", api_key=bad),
        lambda: ChatClient("https://h", jwt_token=bad),
        lambda: ChatClient("https://h", api_key="k").as_user(bad),
    ):
        with pytest.raises(ConfigurationError) as caught:
            build()
        if bad:
            assert_clean(told(caught.value))


def test_a_constructor_that_fails_leaves_no_key_in_its_frames() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _build_with_a_bad_address()
    assert_clean(told(caught.value))


def _build_with_a_bad_address() -> None:
    AsyncChatClient("http://public.example.com", api_key=KEY)


@asynccontextmanager
async def answering(answer: bytes | None, asked: asyncio.Event | None = None) -> AsyncIterator[int]:
    """A server that gives every request the same bytes, or nothing at all; *asked* is set by the first."""
    done = asyncio.Event()
    asked = asked or asyncio.Event()
    closing: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closing.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
        if answer is None:
            await done.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await asyncio.sleep(
            0.01
        )  # asyncio never closes what it is about to accept when the server closes
        done.set()
        server.close()
        for writer in closing:
            with suppress(ConnectionError):
                await writer.wait_closed()


ANSWERS = [
    None,
    b"",
    b"HTTP/1.1 200",
    b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi",
    (
        b"HTTP/1.1 500 X\r\ncontent-type: application/json\r\ncontent-length: 45\r\n\r\n"
        b'{"detail": "ck_live_s3cr3tCanary0123456789" }'
    ),
    b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.2:9/\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nhi",
]


@pytest.mark.parametrize("kind", [HttpxTransport, AiohttpTransport, HttptoolsTransport])
@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
async def test_no_failure_shows_the_key(
    answer: bytes | None, kind: type[Transport], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    logging.getLogger("httpcore").setLevel(logging.NOTSET)
    async with (
        answering(answer) as port,
        AsyncChatClient(
            f"http://127.0.0.1:{port}", api_key=KEY, transport=kind(), timeout=0.3
        ) as client,
    ):
        with pytest.raises(ChatError) as caught:
            await client.users.create(username="a", external_user_id="1")
    assert caught.value.__context__ is None
    assert_clean(told(caught.value))
    assert_clean(caplog.text)


def test_no_failure_of_the_synchronous_client_shows_it() -> None:
    client = ChatClient(
        "http://127.0.0.1:9", api_key=KEY, transport=SyncHttpxTransport(), timeout=0.3
    )
    with pytest.raises(ChatError) as caught:
        client.project()
    client.close()
    assert_clean(told(caught.value))


@pytest.mark.parametrize("kind", [HttpxTransport, AiohttpTransport, HttptoolsTransport])
async def test_a_cancelled_call_does_not_show_it_either(kind: type[Transport]) -> None:
    asked = asyncio.Event()
    async with (
        answering(None, asked) as port,
        AsyncChatClient(f"http://127.0.0.1:{port}", api_key=KEY, transport=kind()) as client,
    ):
        call = asyncio.create_task(client.project())
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
    assert_clean(told(caught.value))
    libraries = [f.filename for f in traceback.extract_tb(caught.value.__traceback__)]
    assert not [each for each in libraries if "/aiohttp/" in each or "/httpcore/" in each]
    assert len(libraries) <= 8, "nor the frames of a connection, which know the request"


async def test_a_failing_application_in_this_process_does_not_show_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("bug")

    async def failing(*_: object) -> tuple[int, list[tuple[str, str]], bytes]:
        raise RuntimeError("bug")

    for transport in (AsgiTransport(broken), DirectTransport(failing)):
        client = AsyncChatClient("http://app", api_key=KEY, transport=transport)
        with pytest.raises(ChatError) as caught:
            await client.project()
        assert_clean(told(caught.value))
        assert_clean(caplog.text)


async def test_a_server_that_repeats_the_key_is_not_quoted() -> None:
    class Parrot:
        async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109
            key = dict(request.headers)["X-API-Key"]
            body = json.dumps(
                {
                    "detail": f"bad key {key}",
                    "errors": [{"field": key, "message": key}],
                    "request_id": key,
                    "code": key,
                }
            )
            return Response(401, [("content-type", "application/problem+json")], body.encode())

        async def aclose(self) -> None: ...

    for key in (KEY, "hunter2_all_in_small_letters"):
        with pytest.raises(ChatError) as caught:
            await AsyncChatClient("https://h", api_key=key, transport=Parrot()).project()
        assert "[hidden]" in str(caught.value)
        assert caught.value.errors
        assert_clean(told(caught.value), key)


async def test_errors_survive_pickle_and_copy(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    await client.project()
    fake_chat.fail(409, code="username_taken")
    with pytest.raises(ChatError) as caught:
        await client.users.create(username="a", external_user_id="1")
    error = caught.value
    for again in (
        pickle.loads(pickle.dumps(error)),  # noqa: S301 - our own
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(again) is type(error)
        assert (again.status, again.code, again.request_id) == (
            409,
            "username_taken",
            error.request_id,
        )
        assert str(again) == str(error)
    assert_clean(pickle.dumps(error).decode("latin-1"))
