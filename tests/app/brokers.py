"""A broker in this process, over a Chat API that records requests and can send false responses."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

import chat_broker_server
from chat_broker.fast_path.protocol import FastPathProtocol
from chat_broker.main import create_app
from chat_broker.settings import Settings
from chat_broker_sdk import DirectTransport, Request, Response, Transport

API_KEY = "ck_0123456789abcdef_canary-SECRET-canary-SECRET-canary-SECRE"
"""An API key of the real form. It may appear only in the header of requests upstream."""

Answer = Callable[[Request], Response | None]


@dataclass
class Upstream:
    """Forwards requests to *server* and records them; *answer*, if set, responds instead."""

    server: Transport
    seen: list[Request] = field(default_factory=list)
    answer: Answer | None = None

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam
        self.seen.append(request)
        if self.answer is not None and (given := self.answer(request)) is not None:
            return given
        return await self.server.send(request, timeout=timeout)

    async def aclose(self) -> None:
        await self.server.aclose()

    def paths(self) -> list[str]:
        return [f"{one.method} {one.url.removeprefix('http://chat')}" for one in self.seen]

    def bodies(self) -> list[Any]:
        return [json.loads(one.body) for one in self.seen if one.body]


class Person:
    """A client that is signed in as an app user."""

    def __init__(self, client: httpx.AsyncClient, name: str, prefix: str) -> None:
        self.client = client
        self.name = name
        self.prefix = prefix

    async def call(self, method: str, path: str, json: Any = None, **more: Any) -> httpx.Response:
        if json is not None:
            more["json"] = json
        return await self.client.request(method, self.prefix + path, **more)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.call("GET", path, **more)

    async def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return await self.call("POST", path, json, **more)

    async def put(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return await self.call("PUT", path, json, **more)

    async def patch(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return await self.call("PATCH", path, json, **more)

    async def delete(self, path: str, **more: Any) -> httpx.Response:
        return await self.call("DELETE", path, **more)

    async def room(self, **fields: Any) -> str:
        """The id of a new room of the user."""
        made = await self.post("/rooms", {"name": "General", **fields})
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    async def say(self, room: str, content: str = "hello") -> dict[str, Any]:
        said = await self.post(f"/rooms/{room}/messages", {"content": content})
        assert said.status_code == 201, said.text
        answer: dict[str, Any] = said.json()
        return answer

    async def id(self) -> str:
        return str((await self.get("/me")).json()["id"])


@dataclass
class Running:
    """One broker with its upstream, settings and clients."""

    app: FastAPI
    upstream: Upstream
    client: httpx.AsyncClient
    server: chat_broker_server.Server
    stack: AsyncExitStack
    prefix: str
    protocol: Any = None
    """The HTTP protocol below ASGI; None if the application is called directly."""

    async def sign_in(self, name: str) -> Person:
        """A client that is signed in to the app as *name*."""
        answer = await self.client.post("/dev/login", json={"username": name})
        assert answer.status_code == 200, answer.text
        headers = {"authorization": f"Bearer {answer.json()['token']}"}
        client = http(self.app, headers=headers)
        return Person(await self.stack.enter_async_context(client), name, self.prefix)


class OverTheWire(httpx.AsyncBaseTransport):
    """Sends requests to a server on loopback, whatever host the URL and the Host header name."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def http(app: Any, **more: Any) -> httpx.AsyncClient:
    """A client of *app*: over HTTP if it is served, else by calling it."""
    transport: httpx.AsyncBaseTransport
    if (port := served_at(app)) is not None:
        transport = OverTheWire(port)
    else:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("127.0.0.1", 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://broker", **more)


def served_at(app: Any) -> int | None:
    """The port on which *app* is served; None if it is not."""
    port: int | None = getattr(getattr(app, "state", None), "port", None)
    return port


@asynccontextmanager
async def served(app: FastAPI, protocol: Any = FastPathProtocol) -> AsyncIterator[None]:
    """Serve *app*, whose lifespan has begun, with *protocol* (the program's or uvicorn's) in this loop."""
    config = uvicorn.Config(
        app,
        http=protocol,
        lifespan="off",
        log_config=None,
        server_header=False,
        proxy_headers=False,
    )
    config.load()
    assert config.loaded_app is app  # wrapped in anything, it would have no short way
    state = ServerState()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: config.http_protocol_class(config, state, {}),  # type: ignore[call-arg]
        "127.0.0.1",
        0,
    )
    app.state.port = listening.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        listening.close()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=5)


def settings(data_dir: Path, **given: Any) -> Settings:
    """Development settings with limits that no test reaches by accident."""
    plenty = dict.fromkeys(
        ("rate_token", "rate_write", "rate_react", "rate_read", "rate_ip"), "100000/minute"
    )
    return Settings(
        **{
            "_env_file": None,
            "environment": "development",
            "auth": ("dev",),
            "data_dir": data_dir,
            "chat_base_url": "http://chat",
            "chat_api_key": API_KEY,
            **plenty,
            **given,
        }
    )


@asynccontextmanager
async def running(
    data_dir: Path,
    *,
    over_the_wire: bool = False,
    protocol: Any = FastPathProtocol,
    **given: Any,
) -> AsyncIterator[Running]:
    """A broker over a Chat API of its own, both with their data in *data_dir*.

    Called as an ASGI application; or *over_the_wire*, where hot routes have their short way if *protocol* knows it.
    """
    async with AsyncExitStack() as stack:
        own = chat_broker_server.Settings(_env_file=None, data_dir=data_dir)
        server = await stack.enter_async_context(
            chat_broker_server.open_server(own, embedded_key=API_KEY)
        )
        upstream = Upstream(DirectTransport(server.call))
        config = settings(data_dir, **given)
        app = create_app(config, chat_transport=upstream)
        await stack.enter_async_context(app.router.lifespan_context(app))
        if over_the_wire:
            await stack.enter_async_context(served(app, protocol))
        client = await stack.enter_async_context(http(app))
        below = protocol if over_the_wire else None
        yield Running(app, upstream, client, server, stack, config.route_prefix, below)


def is_uvicorns_refusal(broker: Running, body: bytes) -> bool:
    """Whether uvicorn's own protocol refused the request below ASGI, in plain text."""
    return broker.protocol == "httptools" and body == b"Invalid HTTP request received."


def code_of(answer: httpx.Response) -> str:
    """The `code` of a problem+json response. Fails if it is another response."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["message"] == problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return str(problem["code"])


async def as_sent(
    app: Any, method: str, target: bytes, headers: dict[str, str], body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """Send one request with exactly this target, which a client library would normalise."""
    if (port := served_at(app)) is not None:
        return await _over_the_wire(port, method, target, headers, body)
    path, _, query = target.partition(b"?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(path.decode("latin-1")), "raw_path": path, "query_string": query, "root_path": "",
        "headers": [(b"host", b"broker"), *((k.lower().encode(), v.encode("latin-1")) for k, v in headers.items())],
        "client": ("127.0.0.1", 4711), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answered = {k.decode(): v.decode("latin-1") for k, v in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(one.get("body", b"") for one in sent[1:])


async def _over_the_wire(
    port: int, method: str, target: bytes, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Send one request as bytes on a connection; the response without the headers of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = {"host": "broker", **headers, "connection": "close"}
    if body:
        lines.setdefault("content-length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("latin-1")
    writer.write(method.encode() + b" " + target + b" HTTP/1.1\r\n" + head + b"\r\n" + body)
    answer = await reader.read()
    writer.close()
    head, _, said = answer.partition(b"\r\n\r\n")
    status, *given = head.decode("latin-1").split("\r\n")
    answered = dict(line.split(": ", 1) for line in given)
    for name in ("date", "connection"):
        answered.pop(name, None)
    return int(status.split(" ")[1]), answered, said
