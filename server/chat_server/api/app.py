"""The ASGI application of the REST side, and its table of routes.

A request is judged in this order: path (404), method (405), credential (401, 403), project (404),
and then by its route: query, body, rule. An id that no id can be is a path that leads nowhere.
"""

import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import structlog

from chat_server.api import auth, messages, rooms, users
from chat_server.api.call import Call, Headers, Parts, Receive, Reply
from chat_server.api.problems import problem
from chat_server.checks import ID
from chat_server.errors import (
    BadInput,
    ChatError,
    Conflict,
    Forbidden,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
)
from chat_server.idempotency import Replayed
from chat_server.logs import bug
from chat_server.tokens import Claims

Scope = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]
Handler = Callable[[Call], Awaitable[Reply]]

log = structlog.get_logger("chat_server.rest")


class Who(Enum):
    """Which credential opens a route."""

    KEY = "key"
    USER = "user"
    EITHER = "either"
    ANYBODY = "anybody"


PREFIX = "/api/v1"
_P = f"{PREFIX}/projects/{{pid}}"
_U = f"{_P}/users"
_R = f"{_P}/rooms"
_M = f"{_R}/{{room_id}}/members"
_T = f"{_R}/{{room_id}}/messages"

ROUTES: tuple[tuple[str, str, Who, Handler], ...] = (
    ("GET", "/.well-known/jwks.json", Who.ANYBODY, auth.jwks),
    ("GET", f"{PREFIX}/auth/verify", Who.USER, auth.verify),
    ("GET", f"{PREFIX}/project", Who.KEY, auth.project),
    ("POST", f"{_P}/revoke", Who.KEY, auth.revoke_everything),
    ("GET", _U, Who.KEY, users.listed),
    ("POST", _U, Who.KEY, users.create),
    ("GET", f"{_U}/{{user_id}}", Who.KEY, users.get),
    ("PATCH", f"{_U}/{{user_id}}", Who.KEY, users.update),
    ("DELETE", f"{_U}/{{user_id}}", Who.KEY, users.delete),
    ("POST", f"{_U}/{{user_id}}/token", Who.KEY, users.mint),
    ("POST", f"{_U}/{{user_id}}/revoke", Who.KEY, users.revoke),
    ("GET", _R, Who.EITHER, rooms.listed),
    ("POST", _R, Who.KEY, rooms.create),
    ("GET", f"{_R}/{{room_id}}", Who.EITHER, rooms.get),
    ("PATCH", f"{_R}/{{room_id}}", Who.KEY, rooms.update),
    ("DELETE", f"{_R}/{{room_id}}", Who.KEY, rooms.delete),
    ("POST", f"{_R}/{{room_id}}/join", Who.EITHER, rooms.join),
    ("POST", f"{_R}/{{room_id}}/leave", Who.EITHER, rooms.leave),
    ("PUT", f"{_R}/{{room_id}}/read", Who.EITHER, rooms.mark_read),
    ("GET", _M, Who.EITHER, rooms.members),
    ("GET", f"{_M}/{{user_id}}", Who.EITHER, rooms.member),
    ("PUT", f"{_M}/{{user_id}}", Who.KEY, rooms.put_member),
    ("DELETE", f"{_M}/{{user_id}}", Who.KEY, rooms.remove_member),
    ("GET", _T, Who.EITHER, messages.listed),
    ("POST", _T, Who.EITHER, messages.post),
    ("PATCH", f"{_T}/{{message_id}}", Who.EITHER, messages.edit),
    ("DELETE", f"{_T}/{{message_id}}", Who.EITHER, messages.delete),
)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{8,64}")
_NOWHERE: dict[str, Callable[[], NotFound]] = {
    "pid": NotFound.project,
    "user_id": NotFound.user,
    "room_id": NotFound.room,
    "message_id": NotFound.the_message,
}
_JSON = (b"content-type", b"application/json")
_ALWAYS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


@dataclass
class _Node:
    """One segment of the paths of the table."""

    words: dict[str, "_Node"] = field(default_factory=dict)
    parameter: str = ""
    below: "_Node | None" = None
    template: str = ""
    methods: dict[str, tuple[Who, Handler]] = field(default_factory=dict)


def _tree() -> _Node:
    root = _Node()
    for method, template, who, handler in ROUTES:
        node = root
        for segment in template[1:].split("/"):
            if segment.startswith("{"):
                node.parameter = segment[1:-1]
                node.below = node.below or _Node()
                node = node.below
            else:
                node = node.words.setdefault(segment, _Node())
        node.template = template
        node.methods[method] = (who, handler)
    return root


class Rest:
    """REST over ASGI. Answers every http request; errors are problem+json, never an exception."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._root = _tree()
        self._running: set[tuple[str, str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. `scope["chat.route"]` then names the route, for logs and metrics."""
        if scope["type"] != "http":
            raise RuntimeError(f"REST does not speak {scope['type']}")
        path, request_id = _path(scope), ""
        try:
            headers = Headers(scope["headers"])
            request_id = _request_id(headers.request_id)
            reply = await self._reply(scope, path, headers, receive)
        except Replayed as replayed:
            reply = Reply(201, replayed.answer, ((b"idempotency-replayed", b"true"),))
        except ChatError as error:
            request_id = request_id or _request_id(None)
            reply = problem(error, path=path, request_id=request_id)
        except Exception:  # noqa: BLE001 – a bug of ours is a 500; as text, since some log renderers show local variables
            bug(log, "rest.failed", request_id=request_id, route=scope.get("chat.route"))
            reply = problem(ChatError(), path=path, request_id=request_id)
        await _send(send, reply, request_id, empty=scope["method"] == "HEAD")

    async def _reply(self, scope: Scope, path: str, headers: Headers, receive: Receive) -> Reply:
        node, ids = self._find(path)
        scope["chat.route"] = node.template
        method: str = scope["method"]
        if method == "HEAD":
            method = "GET"
        found = node.methods.get(method)
        if found is None:
            raise MethodNotAllowed(_allowed(node))
        who, handler = found
        claims, pid = await self._credential(who, headers)
        if ids.get("pid", pid) != pid:
            raise NotFound.project()
        call = Call(
            self._parts,
            method,
            path,
            ids,
            headers,
            scope["query_string"],
            receive,
            claims,
            pid,
        )
        if headers.idempotency_key is None or method != "POST":
            return await handler(call)
        return await self._once(call, handler)

    async def _once(self, call: Call, handler: Handler) -> Reply:
        """Refuse a key whose first request is still running in this process. (On another replica
        the second waits in the database, and gets the first answer.)"""
        who = call.asker or ""
        running = (who, call.resource, (call.headers.idempotency_key or b"").decode("latin-1"))
        if running in self._running:
            raise Conflict(
                "idempotency_in_progress", "The first request with this key is still running."
            )
        self._running.add(running)
        try:
            return await handler(call)
        finally:
            self._running.discard(running)

    def _find(self, path: str) -> tuple[_Node, dict[str, str]]:
        node, ids = self._root, {}
        for segment in path[1:].split("/"):
            below = node.words.get(segment)
            if below is None:
                below = node.below
                if below is None or not segment:
                    raise NotFound
                if not ID.fullmatch(segment):
                    raise _NOWHERE[node.parameter]()  # noqa: RSE102 – a function makes the error
                ids[node.parameter] = segment
            node = below
        if not node.methods:
            raise NotFound
        return node, ids

    async def _credential(self, who: Who, headers: Headers) -> tuple[Claims | None, str]:
        """Whose request it is, and of which project: a token's claims, or None for the key."""
        if who is Who.ANYBODY:
            return None, ""
        key, authorization = headers.x_api_key, headers.authorization
        if key is not None and authorization is not None:
            raise BadInput(
                "ambiguous_credentials", "Send an API key or a chat token, not both at once."
            )
        if key is not None:
            pid = await self._parts.keys.project_of(key.decode("latin-1"))
            if who is Who.USER:
                raise NotAuthenticated("authentication_required", "A chat token is needed here.")
            return None, pid
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            raise NotAuthenticated
        claims = await self._parts.tokens.check(token.strip().decode("latin-1"))
        if who is Who.KEY:
            raise Forbidden("api_key_required", "This needs the project's API key.")
        return claims, claims.pid


def _path(scope: Scope) -> str:
    """The path as it was sent: no id contains a character that would need an escape."""
    raw = scope.get("raw_path")
    if raw is None:
        path: str = scope["path"]
        return path if path.isascii() else "/%"
    text: str = raw.decode("latin-1")
    return text.partition("?")[0]


def _allowed(node: _Node) -> str:
    methods = {*node.methods, *({"HEAD"} if "GET" in node.methods else ())}
    return ", ".join(sorted(methods))


def _request_id(sent: bytes | None) -> str:
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent.decode()
    return secrets.token_hex(16)


async def _send(send: Send, reply: Reply, request_id: str, *, empty: bool) -> None:
    headers = [*reply.headers, *_ALWAYS, (b"x-request-id", request_id.encode())]
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
        if not (reply.headers and reply.headers[0][0] == b"content-type"):
            headers.append(_JSON)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if empty else reply.body})
