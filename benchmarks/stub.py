"""A Chat API with fixed responses, so that only the cost of the target is measured.

`python -m benchmarks.stub` listens on `PORT` and answers as docs of the Chat API contract say: one project, one
room `room-1` in which everybody is a member, a page of messages of 1.6 KB. Every user exists: the user with
the external id X has the id `u-X`. A request without the key `API_KEY` (or a bearer, for verify) gets 401.
"""

import asyncio
import json
import os
import re
from typing import Any, cast
from urllib.parse import parse_qs, unquote

NOW = "2026-01-01T00:00:00.000Z"
CHAT_TOKEN = "eyJhbGciOiJFZERTQSIsImtpZCI6InN0dWIiLCJ0eXAiOiJjaGF0K2p3dCJ9.eyJzdWIiOiJ1LTEifQ.c3R1Yi1zaWduYXR1cmU"
_PROJECT = "project-1"
_ROOM = re.compile(
    rf"/api/v1/projects/{_PROJECT}/rooms/room-1(/messages|/members/([A-Za-z0-9_-]+)|/read|)$"
)
_USERS = f"/api/v1/projects/{_PROJECT}/users"


def user(external: str) -> dict[str, Any]:
    """The chat user whose external id is *external*."""
    return {
        "id": f"u-{external}",
        "project_id": _PROJECT,
        "external_user_id": external,
        "username": external,
        "display_name": external.title(),
        "email": None,
        "avatar_url": None,
        "status": "active",
        "metadata": {},
        "created_at": NOW,
        "updated_at": NOW,
    }


def message(seq: int) -> dict[str, Any]:
    """Message number *seq* of the room."""
    return {
        "id": f"message-{seq}",
        "room_id": "room-1",
        "seq": seq,
        "user_id": "u-alice",
        "username": "alice",
        "display_name": "Alice",
        "content": "See you at noon? I will bring the drawings and the coffee.",
        "client_msg_id": None,
        "metadata": {},
        "created_at": NOW,
        "edited_at": None,
        "deleted_at": None,
    }


ROOM: dict[str, Any] = {
    "id": "room-1",
    "project_id": _PROJECT,
    "name": "General",
    "description": None,
    "private": False,
    "created_by": "u-alice",
    "member_count": 2,
    "last_seq": 5,
    "last_message_at": NOW,
    "metadata": {},
    "created_at": NOW,
    "updated_at": NOW,
}


def page(items: list[dict[str, Any]]) -> dict[str, Any]:
    """*items* as page 1 of 1."""
    return {"items": items, "page": 1, "limit": 50, "total": len(items), "totalPages": 1}


MESSAGES = page([message(seq) for seq in range(5, 0, -1)])


def _answer(status: str, value: Any) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


_LIST = _answer("200 OK", MESSAGES)
_CREATED = _answer("201 Created", message(6))
_NOT_FOUND = _answer(
    "404 Not Found", {"code": "not_found", "status": 404, "message": "no such thing"}
)
_NO_KEY = _answer(
    "401 Unauthorized", {"code": "api_key_invalid", "status": 401, "message": "no key"}
)
_VERIFIED = _answer(
    "200 OK",
    {
        "valid": True,
        "user": {
            "userId": "u-alice",
            "username": "alice",
            "externalUserId": "alice",
            "projectId": _PROJECT,
        },
        "expires_at": NOW,
    },
)


def _member(user_id: str) -> dict[str, Any]:
    name = user_id.removeprefix("u-")
    return {
        "room_id": "room-1",
        "user_id": user_id,
        "username": name,
        "display_name": name.title(),
        "role": "member",
        "joined_at": NOW,
        "last_read_seq": 0,
    }


def _minted(user_id: str) -> dict[str, Any]:
    return {
        "token": CHAT_TOKEN,
        "token_type": "Bearer",
        "expires_in": 900,
        "expires_at": NOW,
        "user": user(user_id.removeprefix("u-")),
    }


def respond(method: str, target: str, body: bytes) -> bytes:
    """The whole HTTP answer to one authorised call."""
    route, _, query = target.partition("?")
    if found := _ROOM.match(route):
        tail, member = found.groups()
        if tail == "/messages":
            return _LIST if method == "GET" else _CREATED
        if member:
            return _answer("200 OK", _member(member))
        if tail == "/read":
            return _answer("200 OK", {"last_read_seq": 5, "unread": 0})
        return _answer("200 OK", ROOM)
    if route == "/api/v1/project":
        return _answer("200 OK", {"id": _PROJECT, "name": "Benchmarks"})
    if route == f"/api/v1/projects/{_PROJECT}/rooms":
        return _answer("200 OK", page([ROOM]))
    if route == _USERS and method == "POST":
        return _answer("201 Created", user(json.loads(body)["external_user_id"]))
    if route == _USERS:
        external = parse_qs(query).get("external_user_id", [])
        return _answer("200 OK", page([user(name) for name in external]))
    if route.startswith(_USERS + "/"):
        user_id, _, tail = unquote(route.removeprefix(_USERS + "/")).partition("/")
        if tail == "token":
            return _answer("200 OK", _minted(user_id))
        return _answer("200 OK", user(user_id.removeprefix("u-")))
    return _NOT_FOUND


class Stub(asyncio.Protocol):
    """One connection of a target to the stub."""

    def __init__(self, key: str) -> None:
        self._key = b"\r\nx-api-key: " + key.lower().encode() + b"\r\n"
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        assert self._transport is not None
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            headers = self._buffer[: head + 2].lower()
            length = 0
            start = headers.find(b"\r\ncontent-length:")
            if start >= 0:
                length = int(headers[start + 17 : headers.find(b"\r\n", start + 2)])
            elif b"\r\ntransfer-encoding: chunked" in headers:
                end = self._buffer.find(b"\r\n0\r\n\r\n", head)
                if end < 0:
                    return
                length = end + 7 - (head + 4)
            end = head + 4 + length
            if len(self._buffer) < end:
                return
            line, body = self._buffer[: self._buffer.find(b"\r\n")], self._buffer[head + 4 : end]
            self._buffer = self._buffer[end:]
            method, target, _ = line.decode("latin-1").split(" ", 2)
            self._transport.write(self._reply(method, target, headers, body))

    def _reply(self, method: str, target: str, headers: bytes, body: bytes) -> bytes:
        if target == "/api/v1/auth/verify":
            return _VERIFIED if b"\r\nauthorization: bearer " in headers else _NO_KEY
        if self._key not in headers:
            return _NO_KEY
        return respond(method, target, body)


async def serve(port: int, key: str) -> None:
    """Answer on loopback until the process ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(key), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve as the environment says."""
    import uvloop

    uvloop.run(serve(int(os.environ["PORT"]), os.environ["API_KEY"]))


if __name__ == "__main__":
    main()
