"""The REST side: its table of routes, and how a request is judged.

It is called as a function in this process, or over ASGI; both ways lead through `answer`. A request is judged in this order: path (404), method (405), credential (401, 403), project (404),
and then by its route: query, body, rule. An id that no id can be is a path that leads nowhere.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import structlog

from chat_broker_server.chat.idempotency import Replayed
from chat_broker_server.chat.identity import mark
from chat_broker_server.chat.validation import ID
from chat_broker_server.errors import (
    BadInput,
    ChatError,
    Conflict,
    Forbidden,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
)
from chat_broker_server.observability.logs import bug
from chat_broker_server.rest import auth, messages, rooms, users
from chat_broker_server.rest.problems import problem
from chat_broker_server.rest.request import Call, ClientGone, Parts, Receive, Reply, headers_of

Scope = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]
Handler = Callable[[Call], Awaitable[Reply]]

log = structlog.get_logger("chat_broker_server.rest")


class Who(Enum):
    """Which credential opens a route."""

    KEY = "key"
    USER = "user"
    EITHER = "either"
    ANYBODY = "anybody"


CLIENT_GONE = 499
"""In log and metrics alone: the caller has hung up before the answer."""
PREFIX = "/api/v1"
_P = f"{PREFIX}/projects/{{pid}}"
_U = f"{_P}/users"
_R = f"{_P}/rooms"
_M = f"{_R}/{{room_id}}/members"
_T = f"{_R}/{{room_id}}/messages"

ROUTES: tuple[tuple[str, str, Who, Handler], ...] = (
    ("GET", "/.well-known/jwks.json", Who.ANYBODY, auth.jwks),
    ("GET", f"{PREFIX}/auth/verify", Who.USER, auth.verify),
    ("GET", f"{PREFIX}/project", Who.EITHER, auth.project),
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

# What nearly every path looks like: a thing of a project, and perhaps something of that.
_USUAL = re.compile(
    f"{PREFIX}/projects/({ID.pattern})/([a-z]+)/({ID.pattern})(?:/([a-z]+)(?:/({ID.pattern}))?)?"
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_NOWHERE: dict[str, Callable[[], NotFound]] = {
    "pid": NotFound.project,
    "user_id": NotFound.user,
    "room_id": NotFound.room,
    "message_id": NotFound.the_message,
}
_JSON = ("content-type", "application/json")
_ALWAYS = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))


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


def _shortcuts(root: _Node) -> dict[tuple[str, str | None, bool], tuple[_Node, str, str]]:
    """The nodes of paths that look as usual, by their words; with the names of their ids."""
    found: dict[tuple[str, str | None, bool], tuple[_Node, str, str]] = {}
    project = root.words["api"].words["v1"].words["projects"].below
    assert project is not None  # noqa: S101 – it is in the table
    for noun, things in project.words.items():
        thing = things.below
        if thing is None:
            continue
        found[noun, None, False] = thing, things.parameter, ""
        for word, more in thing.words.items():
            found[noun, word, False] = more, things.parameter, ""
            if more.below is not None:
                found[noun, word, True] = more.below, things.parameter, more.parameter
    return found


class Rest:
    """Answers every request; errors are problem+json, never an exception."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._root = _tree()
        self._shortcuts = _shortcuts(self._root)
        self._running: set[tuple[str, str, str]] = set()

    async def call(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body for a request made in this process. *target*: path and query, escaped."""
        path, _, query = target.partition("?")
        call = Call(self._parts, method, path, query.encode(), body or b"")
        reply = await self.answer(call, headers)
        return reply.status, _headers(reply, call), b"" if method == "HEAD" else reply.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request over ASGI, as `scope["chat.request_id"]` if there is one.

        Afterwards `scope["chat.route"]` names the route, `scope["chat.code"]` the error ("" if there was none), and
        `scope["chat.user_id"]` whose token it was (None for nobody's), for logs and metrics.
        """
        if scope["type"] != "http":
            raise RuntimeError(f"REST does not speak {scope['type']}")
        method: str = scope["method"]
        call = Call(self._parts, method, _path(scope), scope["query_string"], receive)
        call.request_id = scope.get("chat.request_id", "")
        sent = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        try:
            reply = await self.answer(call, sent)
        finally:
            scope["chat.route"], scope["chat.code"] = call.route, call.code
            scope["chat.user_id"] = call.asker
        headers = [(name.encode(), value.encode()) for name, value in _headers(reply, call)]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        body = b"" if method == "HEAD" else reply.body
        await send({"type": "http.response.body", "body": body})

    async def answer(self, call: Call, headers: Iterable[tuple[str, str]]) -> Reply:
        """The reply to *call*, which was sent with *headers*."""
        try:
            call.headers = headers_of(headers)
            call.request_id = call.request_id or _request_id(call.headers.get("x-request-id"))
            return await self._reply(call)
        except Replayed as replayed:
            return Reply(201, replayed.answer, (("idempotency-replayed", "true"),))
        except ClientGone:
            call.code = "client_gone"
            return Reply(CLIENT_GONE)
        except ChatError as error:
            known = error
        except Exception:  # noqa: BLE001 – a bug of ours is a 500; as text, since some log renderers show local variables
            bug(log, "rest.failed", request_id=call.request_id, route=call.route or None)
            known = ChatError()
        call.request_id = call.request_id or _request_id(None)
        call.code = known.code
        return problem(known, path=call.path, request_id=call.request_id)

    async def _reply(self, call: Call) -> Reply:
        node = self._find(call)
        call.route = node.template
        found = node.methods.get("GET" if call.method == "HEAD" else call.method)
        if found is None:
            raise MethodNotAllowed(_allowed(node))
        who, handler = found
        await self._admit(who, call)
        if call.ids.get("pid", call.pid) != call.pid:
            raise NotFound.project()
        if call.method != "POST" or "idempotency-key" not in call.headers:
            return await handler(call)
        return await self._once(call, handler)

    async def _once(self, call: Call, handler: Handler) -> Reply:
        """Refuse a key whose first request is still running in this process. (On another replica
        the second waits in the database, and gets the first answer.)"""
        running = (call.asker or "", call.path, call.headers["idempotency-key"])
        if running in self._running:
            raise Conflict(
                "idempotency_in_progress", "The first request with this key is still running."
            )
        self._running.add(running)
        try:
            return await handler(call)
        finally:
            self._running.discard(running)

    def _find(self, call: Call) -> _Node:
        usual = _USUAL.fullmatch(call.path)
        if usual is not None:
            pid, noun, one, word, other = usual.groups()
            short = self._shortcuts.get((noun, word, other is not None))
            if short is not None and short[0].methods:
                call.ids = {"pid": pid, short[1]: one}
                if other is not None:
                    call.ids[short[2]] = other
                return short[0]
        return self._walk(call)

    def _walk(self, call: Call) -> _Node:
        node, ids = self._root, call.ids
        for segment in call.path[1:].split("/"):
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
        return node

    async def _admit(self, who: Who, call: Call) -> None:
        """Find out whose request it is, and of which project."""
        if who is Who.ANYBODY:
            return
        key, authorization = call.headers.get("x-api-key"), call.headers.get("authorization")
        if key is not None and authorization is not None:
            raise BadInput(
                "ambiguous_credentials", "Send an API key or a chat token, not both at once."
            )
        if key is not None:
            pid = await self._parts.keys.project_of(key)
            if who is Who.USER:
                raise NotAuthenticated("authentication_required", "A chat token is needed here.")
            call.admit(pid, None)
            return
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticated
        claims = await self._parts.tokens.check(token.strip(" \t"))
        if who is Who.KEY:
            raise Forbidden("api_key_required", "This needs the project's API key.")
        call.admit(claims.pid, claims)


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


def _request_id(sent: str | None) -> str:
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent
    return mark()


def _headers(reply: Reply, call: Call) -> list[tuple[str, str]]:
    about_it = ("x-request-id", call.request_id)
    if reply.status == 204:
        return [*reply.headers, *_ALWAYS, about_it]
    length = ("content-length", str(len(reply.body)))
    if not reply.headers:
        return [_JSON, *_ALWAYS, about_it, length]
    kind = () if reply.headers[0][0] == "content-type" else (_JSON,)
    return [*kind, *reply.headers, *_ALWAYS, about_it, length]
