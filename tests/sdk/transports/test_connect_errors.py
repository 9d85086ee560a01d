"""A server that cannot be reached: the error says where and why, and so does one line of the log at DEBUG."""

import asyncio
import logging
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chat_broker_sdk import (
    AiohttpTransport,
    AsyncChatClient,
    ChatClient,
    ChatError,
    HttptoolsTransport,
    HttpxTransport,
    NetworkError,
    Transport,
    WebSocketError,
)
from tests.programs import free_port
from tests.sdk.conftest import KEY
from tests.sdk.test_secrets import assert_clean, told
from tests.sdk.transports.test_transports import Upstream, answer, listening

KINDS: list[Callable[[], Transport]] = [HttpxTransport, AiohttpTransport, HttptoolsTransport]
TOKEN = "eyJ.canary-token-canary.x"


async def failure_of(url: str, transport: Transport) -> ChatError:
    async with AsyncChatClient(
        url, api_key=KEY, transport=transport, retries=0, timeout=5
    ) as client:
        with pytest.raises(ChatError) as caught:
            await client.users.create(username="a", external_user_id="1")
    assert_clean(told(caught.value))
    return caught.value


def assert_bare(cause: BaseException | None, kind: type[BaseException]) -> None:
    """What the system said, without the frames and contexts of libraries, which know the request."""
    assert isinstance(cause, kind)
    assert cause.__traceback__ is None
    assert cause.__context__ is None
    assert cause.__cause__ is None


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_listens_there(
    kind: Callable[[], Transport], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "chat_broker_sdk")
    port = free_port()
    error = await failure_of(f"http://127.0.0.1:{port}", kind())
    assert isinstance(error, NetworkError)
    assert f"127.0.0.1:{port}" in error.message
    assert "refused" in error.message
    assert_bare(error.__cause__, ConnectionRefusedError)
    [line] = [each for each in caplog.records if each.name == "chat_broker_sdk"]
    assert line.levelno == logging.DEBUG
    assert f"127.0.0.1:{port}" in line.getMessage()
    assert "refused" in line.getMessage()
    assert_clean(caplog.text)


@pytest.mark.parametrize("kind", KINDS)
async def test_there_is_no_such_host(kind: Callable[[], Transport]) -> None:
    error = await failure_of("https://nowhere.invalid", kind())
    assert "nowhere.invalid:443" in error.message
    assert "host is unknown" in error.message
    assert_bare(error.__cause__, socket.gaierror)


@asynccontextmanager
async def speaking_http() -> AsyncIterator[str]:
    """Whatever it is sent, it answers that this is a bad request, as web servers do."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer(b"bad request", "connection: close", status=400))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_https_where_http_is_spoken(kind: Callable[[], Transport]) -> None:
    async with speaking_http() as url:
        error = await failure_of(url.replace("http://", "https://"), kind())
    assert url.removeprefix("http://") in error.message
    assert "no TLS" in error.message
    assert_bare(error.__cause__, ssl.SSLError)


@asynccontextmanager
async def over_tls(folder: Path) -> AsyncIterator[str]:
    """A server with a certificate that nobody has vouched for."""
    make = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    files = ("-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost")
    made = await asyncio.create_subprocess_exec(
        "openssl", *make, *files, cwd=folder, stderr=asyncio.subprocess.DEVNULL
    )
    assert await made.wait() == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate_of_nobody(kind: Callable[[], Transport], tmp_path: Path) -> None:
    async with over_tls(tmp_path) as address:
        error = await failure_of(f"https://{address}", kind())
    assert address in error.message
    assert "certificate" in error.message
    assert_bare(error.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("kind", KINDS)
async def test_http_where_https_is_spoken(kind: Callable[[], Transport], tmp_path: Path) -> None:
    """Servers hang up, or answer what is no HTTP: the address shows which scheme was spoken."""
    async with over_tls(tmp_path) as address:
        error = await failure_of(f"http://{address}", kind())
    assert f"(http://{address})" in error.message
    async with listening(Upstream(b"\x15\x03\x01\x00\x02\x02\x46")) as url:  # an alert of TLS
        error = await failure_of(url, kind())
    assert f"({url})" in error.message
    assert "no HTTP" in error.message


@pytest.mark.parametrize("kind", KINDS)
async def test_time_runs_out(kind: Callable[[], Transport]) -> None:
    async with listening(Upstream(b"", hold=30)) as url:
        client = AsyncChatClient(url, api_key=KEY, transport=kind(), retries=0, timeout=0.2)
        with pytest.raises(NetworkError) as caught:
            await client.users.list()
        await client.aclose()
    assert url.removeprefix("http://") in caught.value.message


def test_the_synchronous_client_says_it_too() -> None:
    port = free_port()
    with (
        ChatClient(f"http://127.0.0.1:{port}", api_key=KEY, retries=0) as client,
        pytest.raises(NetworkError, match="refused") as caught,
    ):
        client.users.list()
    assert f"127.0.0.1:{port}" in caught.value.message
    assert_bare(caught.value.__cause__, ConnectionRefusedError)
    assert_clean(told(caught.value))


# -- the live connection --------------------------------------------------------------------------


async def socket_failure_of(url: str) -> WebSocketError:
    async with AsyncChatClient(url, jwt_token=TOKEN) as client:
        with pytest.raises(WebSocketError) as caught:
            await client.socket.connect(within=0.5)
    assert caught.value.code == "connect_failed"
    assert_clean(told(caught.value), TOKEN)
    return caught.value


async def test_no_live_connection_where_nothing_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "chat_broker_sdk")
    port = free_port()
    error = await socket_failure_of(f"http://127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in error.message
    assert "refused" in error.message
    assert_bare(error.__cause__, ConnectionRefusedError)
    lines = [each.getMessage() for each in caplog.records if each.name == "chat_broker_sdk"]
    assert lines
    assert all("refused" in line for line in lines)
    assert_clean(caplog.text, TOKEN)


async def test_no_live_connection_to_an_unknown_host() -> None:
    error = await socket_failure_of("https://nowhere.invalid")
    assert "nowhere.invalid:443" in error.message
    assert "host is unknown" in error.message


async def test_no_live_connection_where_http_is_spoken_and_https_expected() -> None:
    async with speaking_http() as url:
        error = await socket_failure_of(url.replace("http://", "https://"))
    assert "no TLS" in error.message


async def test_no_live_connection_at_a_web_server_without_sockets() -> None:
    async with listening(Upstream(answer(b"{}", "connection: close", status=404))) as url:
        error = await socket_failure_of(url)
    assert url.removeprefix("http://") in error.message
    assert "answers 404" in error.message


WITHOUT_AIOHTTP = """
import asyncio, gc, importlib.util, sys, warnings
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "aiohttp" else real(name, *more)
from chat_broker_sdk import AsyncChatClient, ChatClient, ConfigurationError

async def asynchronous():
    client = AsyncChatClient("http://localhost:9", jwt_token="eyJ.a.b")
    try:
        await client.socket.connect()
    except ConfigurationError as error:
        print(error.code)

def synchronous():
    client = ChatClient("http://localhost:9", jwt_token="eyJ.a.b")
    try:
        client.socket.connect()
    except ConfigurationError as error:
        print(error.code)

asyncio.run(asynchronous())
synchronous()
gc.collect()
"""


def test_without_aiohttp_there_is_the_error_and_nothing_else() -> None:
    """No task is left behind that Python complains of at the end."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", WITHOUT_AIOHTTP],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["aiohttp_missing", "aiohttp_missing"]
    assert done.stderr == ""


async def test_a_connect_that_fails_or_is_cancelled_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    client = AsyncChatClient(f"http://127.0.0.1:{free_port()}", jwt_token=TOKEN)
    with pytest.raises(WebSocketError):
        await client.socket.connect(within=0.2)
    connecting = asyncio.create_task(client.socket.connect(within=30))
    await asyncio.sleep(0.1)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    await client.aclose()
