"""The table of REST routes, and the order in which a request is judged.

A request comes as a function call in this process or over ASGI; both use `Rest.answer`. The order is: path (404), method (405),
credential (401, 403), project (404), then the route's query, body and rule. A malformed id is a 404, too.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import unquote

import structlog

from chat_broker_kit.http.request_ids import request_id_of
from chat_broker_kit.text.random_hex import random_hex
from chat_broker_server.chat.idempotency import Replayed
from chat_broker_server.chat.validation import EXTERNAL, EXTERNAL_ROOM, ID
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
from chat_broker_server.rest import (
    auth,
    messages,
    mine,
    people,
    presence,
    reactions,
    rooms,
    signals,
    sync,
    users,
)
from chat_broker_server.rest.problems import problem
from chat_broker_server.rest.request import (
    ClientGone,
    Receive,
    Request,
    Response,
    Services,
    known_headers,
)

Scope = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]
Handler = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger("chat_broker_server.rest")


class Credential(Enum):
    """The credential that a route requires."""

    KEY = "key"
    USER = "user"
    EITHER = "either"
    NONE = "none"


CLIENT_GONE = 499
"""Status in log and metrics only: the client closed the connection before the response."""
PREFIX = "/api/v1"
_P = f"{PREFIX}/projects/{{pid}}"
_U = f"{_P}/users"
_R = f"{_P}/rooms"
_M = f"{_R}/{{room_id}}/members"
_T = f"{_R}/{{room_id}}/messages"

ROUTES: tuple[tuple[str, str, Credential, Handler], ...] = (
    ("GET", "/.well-known/jwks.json", Credential.NONE, auth.jwks),
    ("GET", f"{PREFIX}/auth/verify", Credential.USER, auth.verify),
    ("GET", f"{PREFIX}/project", Credential.EITHER, auth.project),
    ("POST", f"{_P}/revoke", Credential.KEY, auth.revoke_everything),
    ("GET", _U, Credential.KEY, users.list_all),
    ("POST", _U, Credential.KEY, users.create),
    ("GET", f"{_U}/{{user_id}}", Credential.KEY, users.get),
    ("PATCH", f"{_U}/{{user_id}}", Credential.KEY, users.update),
    ("DELETE", f"{_U}/{{user_id}}", Credential.KEY, users.delete),
    ("GET", f"{_U}/{{user_id}}/settings", Credential.KEY, people.get_settings),
    ("PATCH", f"{_U}/{{user_id}}/settings", Credential.KEY, people.update_settings),
    ("GET", f"{_U}/{{user_id}}/blocks", Credential.KEY, people.list_blocks),
    ("PUT", f"{_U}/{{user_id}}/blocks/{{other_id}}", Credential.KEY, people.block),
    ("DELETE", f"{_U}/{{user_id}}/blocks/{{other_id}}", Credential.KEY, people.unblock),
    ("GET", f"{_U}/{{user_id}}/directory", Credential.KEY, people.find),
    ("POST", f"{_U}/{{user_id}}/token", Credential.KEY, users.mint),
    ("POST", f"{_U}/{{user_id}}/revoke", Credential.KEY, users.revoke),
    ("POST", f"{PREFIX}/sync", Credential.USER, sync.sync),
    ("POST", f"{_U}/{{user_id}}/sync", Credential.KEY, sync.sync),
    ("GET", f"{_U}/{{user_id}}/unread", Credential.KEY, mine.unread),
    ("POST", f"{_U}/{{user_id}}/read", Credential.KEY, mine.mark_many_read),
    ("GET", f"{_U}/{{user_id}}/mentions", Credential.KEY, messages.list_mentions),
    ("GET", f"{_P}/presence", Credential.KEY, presence.get),
    ("POST", f"{_U}/{{user_id}}/signals", Credential.KEY, signals.to_user),
    ("POST", f"{_R}/{{room_id}}/signals", Credential.KEY, signals.to_room),
    ("GET", _R, Credential.EITHER, rooms.list_all),
    ("POST", _R, Credential.KEY, rooms.create),
    ("PUT", f"{_P}/direct", Credential.KEY, rooms.ensure_direct),
    ("GET", f"{_R}/{{room_id}}", Credential.EITHER, rooms.get),
    ("PUT", f"{_R}/{{room_id}}", Credential.KEY, rooms.ensure),
    ("PATCH", f"{_R}/{{room_id}}", Credential.KEY, rooms.update),
    ("DELETE", f"{_R}/{{room_id}}", Credential.KEY, rooms.delete),
    ("POST", f"{_R}/{{room_id}}/join", Credential.EITHER, rooms.join),
    ("POST", f"{_R}/{{room_id}}/leave", Credential.EITHER, rooms.leave),
    ("PUT", f"{_R}/{{room_id}}/read", Credential.EITHER, rooms.mark_read),
    ("GET", f"{_R}/{{room_id}}/changes", Credential.EITHER, sync.list_changes),
    ("PUT", f"{_R}/{{room_id}}/delivered", Credential.EITHER, mine.mark_delivered),
    ("GET", f"{_R}/{{room_id}}/mine", Credential.USER, mine.get),
    ("PATCH", f"{_R}/{{room_id}}/mine", Credential.USER, mine.update),
    ("GET", f"{_M}/{{user_id}}/mine", Credential.KEY, mine.get),
    ("PATCH", f"{_M}/{{user_id}}/mine", Credential.KEY, mine.update),
    ("GET", _M, Credential.EITHER, rooms.list_members),
    ("POST", _M, Credential.KEY, rooms.add_members),
    ("GET", f"{_M}/{{user_id}}", Credential.EITHER, rooms.get_member),
    ("PUT", f"{_M}/{{user_id}}", Credential.KEY, rooms.put_member),
    ("DELETE", f"{_M}/{{user_id}}", Credential.KEY, rooms.remove_member),
    ("GET", _T, Credential.EITHER, messages.list_all),
    ("POST", _T, Credential.EITHER, messages.post),
    ("GET", f"{_T}/{{message_id}}", Credential.EITHER, messages.get),
    ("PATCH", f"{_T}/{{message_id}}", Credential.EITHER, messages.edit),
    ("DELETE", f"{_T}/{{message_id}}", Credential.EITHER, messages.delete),
    ("GET", f"{_T}/{{message_id}}/receipts", Credential.EITHER, messages.receipts),
    ("GET", f"{_T}/{{message_id}}/reactions", Credential.EITHER, reactions.list_all),
    ("PUT", f"{_T}/{{message_id}}/reactions/{{emoji}}", Credential.USER, reactions.add),
    ("DELETE", f"{_T}/{{message_id}}/reactions/{{emoji}}", Credential.USER, reactions.remove),
    ("PUT", f"{_T}/{{message_id}}/reactions/{{emoji}}/{{user_id}}", Credential.KEY, reactions.add),
    (
        "DELETE",
        f"{_T}/{{message_id}}/reactions/{{emoji}}/{{user_id}}",
        Credential.KEY,
        reactions.remove,
    ),
    ("PUT", f"{_T}/{{message_id}}/pin", Credential.EITHER, reactions.pin),
    ("DELETE", f"{_T}/{{message_id}}/pin", Credential.EITHER, reactions.unpin),
    ("GET", f"{_R}/{{room_id}}/pins", Credential.EITHER, reactions.list_pins),
)

# Most paths: /projects/{pid}/{noun}/{id}, then optionally /{word} and /{id}.
_USUAL = re.compile(
    f"{PREFIX}/projects/({ID.pattern})/([a-z]+)/({ID.pattern})(?:/([a-z]+)(?:/({ID.pattern}))?)?"
)
_NOT_FOUND: dict[str, Callable[[], NotFound]] = {
    "pid": NotFound.project,
    "user_id": NotFound.user,
    "other_id": NotFound.user,
    "room_id": NotFound.room,
    "message_id": NotFound.the_message,
}
# What a parameter may be besides an id. Such a segment may have escapes.
_OTHER_SEGMENTS: dict[str, re.Pattern[str]] = {
    "emoji": re.compile(".*", re.DOTALL),  # its route says what is wrong with it
    # Whether it is a good one is looked at when the caller is known: making a room by it is refused with a reason.
    "room_id": re.compile(f"{EXTERNAL}(?s:.*)"),
}
_JSON = ("content-type", "application/json")
_ALWAYS = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))


@dataclass
class _Node:
    """One segment of the route table: the fixed words and the parameter that may follow it."""

    words: dict[str, "_Node"] = field(default_factory=dict)
    parameter: str = ""
    below: "_Node | None" = None
    template: str = ""
    methods: dict[str, tuple[Credential, Handler]] = field(default_factory=dict)


def _tree() -> _Node:
    root = _Node()
    for method, template, credential, handler in ROUTES:
        node = root
        for segment in template[1:].split("/"):
            if segment.startswith("{"):
                node.parameter = segment[1:-1]
                node.below = node.below or _Node()
                node = node.below
            else:
                node = node.words.setdefault(segment, _Node())
        node.template = template
        node.methods[method] = (credential, handler)
    return root


def _shortcuts(root: _Node) -> dict[tuple[str, str | None, bool], tuple[_Node, str, str]]:
    """The nodes of the paths that `_USUAL` matches, by (noun, word, has a second id), with the parameters' names."""
    shortcuts: dict[tuple[str, str | None, bool], tuple[_Node, str, str]] = {}
    project = root.words["api"].words["v1"].words["projects"].below
    assert project is not None  # noqa: S101 – it is in the table
    for noun, things in project.words.items():
        thing = things.below
        if thing is None:
            continue
        shortcuts[noun, None, False] = thing, things.parameter, ""
        for word, more in thing.words.items():
            shortcuts[noun, word, False] = more, things.parameter, ""
            if more.below is not None:
                shortcuts[noun, word, True] = more.below, things.parameter, more.parameter
    return shortcuts


class Rest:
    """Answers every request. Errors become problem+json responses; no exception leaves it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._root = _tree()
        self._shortcuts = _shortcuts(self._root)
        self._running: set[tuple[str, str, str]] = set()

    async def call(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Answer a request of this process with (status, headers, body). *target* is the escaped path and query."""
        path, _, query = target.partition("?")
        request = Request(self._services, method, path, query.encode(), body or b"")
        response = await self.answer(request, headers)
        return (
            response.status,
            _headers(response, request),
            b"" if method == "HEAD" else response.body,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request. `scope["chat.request_id"]` is used as its id if it is set.

        Sets three keys of the scope for logs and metrics: `chat.route`, `chat.code` (the error's, or "") and
        `chat.user_id` (of the chat token, or None).
        """
        if scope["type"] != "http":
            raise RuntimeError(f"REST does not speak {scope['type']}")
        method: str = scope["method"]
        request = Request(self._services, method, _path(scope), scope["query_string"], receive)
        request.request_id = scope.get("chat.request_id", "")
        sent = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        try:
            response = await self.answer(request, sent)
        finally:
            scope["chat.route"], scope["chat.code"] = request.route, request.code
            scope["chat.user_id"] = request.token_user_id
        headers = [(name.encode(), value.encode()) for name, value in _headers(response, request)]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        body = b"" if method == "HEAD" else response.body
        await send({"type": "http.response.body", "body": body})

    async def answer(self, request: Request, headers: Iterable[tuple[str, str]]) -> Response:
        try:
            request.headers = known_headers(headers)
            if not request.request_id:
                sent = request.headers.get("x-request-id")
                request.request_id = request_id_of(
                    () if sent is None else (sent.encode("ascii", "replace"),)
                )
            return await self._route(request)
        except Replayed as replayed:
            return Response(201, replayed.response, (("idempotency-replayed", "true"),))
        except ClientGone:
            request.code = "client_gone"
            return Response(CLIENT_GONE)
        except ChatError as error:
            problem_error = error
        except Exception:  # noqa: BLE001 – a bug of ours is a 500; as text, since some log renderers show local variables
            bug(log, "rest.failed", request_id=request.request_id, route=request.route or None)
            problem_error = ChatError()
        request.request_id = request.request_id or random_hex()
        request.code = problem_error.code
        return problem(problem_error, path=request.path, request_id=request.request_id)

    async def _route(self, request: Request) -> Response:
        node = self._find(request)
        request.route = node.template
        entry = node.methods.get("GET" if request.method == "HEAD" else request.method)
        room = request.ids.get("room_id", "")
        is_own_id = ":" in room
        # A room is made by the app's own id alone: to an id of ours, the path does not answer PUT.
        if entry is None or (not is_own_id and entry[1] is rooms.ensure):
            raise MethodNotAllowed(_allowed(node, by_own_id=is_own_id))
        credential, handler = entry
        await self._authenticate(credential, request)
        if request.ids.get("pid", request.pid) != request.pid:
            raise NotFound.project()
        if is_own_id and handler is not rooms.ensure:
            if not EXTERNAL_ROOM.fullmatch(room):
                raise NotFound.room()
            request.ids["room_id"] = await request.chat.room_id(request.pid, room)
        if request.method != "POST" or "idempotency-key" not in request.headers:
            return await handler(request)
        return await self._once(request, handler)

    async def _once(self, request: Request, handler: Handler) -> Response:
        """Raise Conflict if a request with this Idempotency-Key is running in this process.

        On another replica the second request waits in the database and gets the first response.
        """
        running = (request.token_user_id or "", request.path, request.headers["idempotency-key"])
        if running in self._running:
            raise Conflict(
                "idempotency_in_progress", "The first request with this key is still running."
            )
        self._running.add(running)
        try:
            return await handler(request)
        finally:
            self._running.discard(running)

    def _find(self, request: Request) -> _Node:
        usual = _USUAL.fullmatch(request.path)
        if usual is not None:
            pid, noun, first_id, word, second_id = usual.groups()
            shortcut = self._shortcuts.get((noun, word, second_id is not None))
            if shortcut is not None and shortcut[0].methods:
                node, first, second = shortcut
                request.ids = {"pid": pid, first: first_id}
                if second_id is not None:
                    request.ids[second] = second_id
                return node
        return self._walk(request)

    def _walk(self, request: Request) -> _Node:
        node, ids = self._root, request.ids
        for segment in request.path[1:].split("/"):
            below = node.words.get(segment)
            if below is None:
                below = node.below
                if below is None or not segment:
                    raise NotFound
                ids[node.parameter] = _parameter(node.parameter, segment)
            node = below
        if not node.methods:
            raise NotFound
        return node

    async def _authenticate(self, required: Credential, request: Request) -> None:
        """Check the request's credential and note its project. Raises NotAuthenticated or Forbidden."""
        if required is Credential.NONE:
            return
        key, authorization = request.headers.get("x-api-key"), request.headers.get("authorization")
        if key is not None and authorization is not None:
            raise BadInput(
                "ambiguous_credentials", "Send an API key or a chat token, not both at once."
            )
        if key is not None:
            pid = await self._services.keys.project_of(key)
            if required is Credential.USER:
                raise NotAuthenticated("authentication_required", "A chat token is needed here.")
            request.admit(pid, None)
            return
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticated
        claims = await self._services.tokens.check(token.strip(" \t"))
        if required is Credential.KEY:
            raise Forbidden("api_key_required", "This needs the project's API key.")
        request.admit(claims.pid, claims)


def _parameter(name: str, segment: str) -> str:
    """The value of parameter *name* in a path. Raises NotFound for what cannot be one."""
    if ID.fullmatch(segment):
        return segment
    other = _OTHER_SEGMENTS.get(name)
    if other is not None:
        try:
            value = unquote(segment, errors="strict")
        except UnicodeDecodeError:
            value = ""
        if other.fullmatch(value):
            return value
    raise _NOT_FOUND[name]()  # noqa: RSE102 – a function makes the error


def _path(scope: Scope) -> str:
    """The path, still escaped."""
    raw = scope.get("raw_path")
    if raw is None:
        path: str = scope["path"]
        return path if path.isascii() else "/%"
    text: str = raw.decode("latin-1")
    return text.partition("?")[0]


def _allowed(node: _Node, *, by_own_id: bool) -> str:
    methods = {
        method
        for method, (_, handler) in node.methods.items()
        if by_own_id or handler is not rooms.ensure
    }
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


def _headers(response: Response, request: Request) -> list[tuple[str, str]]:
    request_id = ("x-request-id", request.request_id)
    if response.status == 204:
        return [*response.headers, *_ALWAYS, request_id]
    length = ("content-length", str(len(response.body)))
    if not response.headers:
        return [_JSON, *_ALWAYS, request_id, length]
    kind = () if response.headers[0][0] == "content-type" else (_JSON,)
    return [*kind, *response.headers, *_ALWAYS, request_id, length]
