"""The Chat API over each transport, as one value: a base URL, a key and a client."""

import secrets
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from chat_broker_server import Server, Settings, open_server
from tests.programs import run_command, running_server


@dataclass
class ChatApi:
    """A Chat API, with clients for the project's key and for users."""

    http: httpx.AsyncClient
    api_key: str
    pid: str = ""

    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """One request with the key; `{pid}` in the path is the project."""
        sent = {"X-API-Key": self.api_key, **(headers or {})}
        return await self.bare(method, path, headers=sent, **options)

    async def as_user(self, token: str, method: str, path: str, **options: Any) -> httpx.Response:
        """One request with a chat token."""
        return await self.bare(
            method, path, headers={"Authorization": f"Bearer {token}"}, **options
        )

    async def bare(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request without a credential, unless *options* hold one."""
        return await self.http.request(method, path.replace("{pid}", self.pid), **options)

    # what nearly every test needs

    async def user(self, name: str = "user", **more: Any) -> dict[str, Any]:
        """A new user with unique names."""
        unique = uuid.uuid4().hex[:10]
        body = {"username": f"{name}-{unique}", "external_user_id": f"ext-{unique}", **more}
        return made(await self.send("POST", "/api/v1/projects/{pid}/users", json=body))

    async def room(
        self, owner: dict[str, Any], *others: dict[str, Any], **more: Any
    ) -> dict[str, Any]:
        """A room of *owner* with *others* in it."""
        body = {
            "name": "Room",
            "created_by": owner["id"],
            "member_ids": [other["id"] for other in others],
            **more,
        }
        return made(await self.send("POST", "/api/v1/projects/{pid}/rooms", json=body))

    async def say(
        self, room: dict[str, Any], user: dict[str, Any], content: str, **more: Any
    ) -> dict[str, Any]:
        """A message of *user* in *room*."""
        body = {"content": content, "user_id": user["id"], **more}
        return made(await self.send("POST", f"{in_room(room)}/messages", json=body))

    async def token(self, user: dict[str, Any], **more: Any) -> str:
        """A chat token of *user*."""
        answer = await self.send(
            "POST", f"/api/v1/projects/{{pid}}/users/{user['id']}/token", json=more or None
        )
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        return token


def in_room(room: dict[str, Any]) -> str:
    """The path of a room."""
    return f"/api/v1/projects/{{pid}}/rooms/{room['id']}"


def of_user(user: dict[str, Any]) -> str:
    """The path of a user."""
    return f"/api/v1/projects/{{pid}}/users/{user['id']}"


def made(answer: httpx.Response) -> dict[str, Any]:
    """The body of a 201."""
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def refused(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The body of *answer*. Fails unless it is a complete problem+json with this status."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    names = {
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "message",
        "request_id",
        "errors",
    }
    assert set(body) == names
    assert body["status"] == status
    assert body["message"] == body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    if code is not None:
        assert body["code"] == code, body
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if status in {429, 503}:
        assert int(answer.headers["retry-after"]) >= 1
    return body


class Direct(httpx.AsyncBaseTransport):
    """Sends the requests of an httpx client to the server's function, without HTTP."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sent = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw
        ]
        target = request.url.raw_path.decode()
        body = await request.aread()
        status, headers, answer = await self._server.call(
            request.method, target, sent, body or None
        )
        return httpx.Response(status, headers=headers, content=answer)


@asynccontextmanager
async def embedded(folder: Path, database: str | None = None) -> AsyncIterator[ChatApi]:
    """In this process, called without a network."""
    key = secrets.token_urlsafe(32)
    more: dict[str, Any] = {"chat_database_url": database} if database else {}
    async with open_server(Settings(data_dir=folder, **more), embedded_key=key) as server:
        assert server.project_id is not None
        async with httpx.AsyncClient(base_url="http://chat", transport=Direct(server)) as http:
            yield ChatApi(http, key, server.project_id)


@asynccontextmanager
async def standalone(
    folder: Path, database: str | None = None, *, under: Sequence[str] = ()
) -> AsyncIterator[ChatApi]:
    """`chat-server serve` on a port, its project made by `chat-server create-project`. *under*: see `running_server`."""
    settings = {"DATA_DIR": str(folder)}
    if database:
        settings["CHAT_DATABASE_URL"] = database
    async with running_server(folder, under=under, **settings) as program:
        assert ("http.ordinary_protocol" in program.log()) == bool(under)
        # While it runs: the command and the server share the database.
        code, out, err = await run_command(
            "chat-server", "create-project", "--name", "Contract", environment=settings
        )
        assert code == 0, err
        async with httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=30) as http:
            api = ChatApi(http, out.strip().splitlines()[-1])
            api.pid = (await api.send("GET", "/api/v1/project")).json()["id"]
            yield api
