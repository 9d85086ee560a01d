"""A Chat API in memory, as an ASGI application: for tests of programs that use the SDK."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from chat_broker_sdk._async.client import AsyncChatClient
    from chat_broker_sdk._sync.client import ChatClient

_Message = MutableMapping[str, Any]
Json = dict[str, Any]

_USERNAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Problem(Exception):  # noqa: N818 - it is an answer, not a failure of the fake
    """An error answer of the fake."""

    def __init__(self, status: int, code: str, *, field: str | None = None) -> None:
        super().__init__(code)
        self.status, self.code, self.field = status, code, field


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived. Header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    body: Any = None


@dataclass(slots=True)
class Fault:
    """One thing to go wrong, *times* times, for requests whose "METHOD path" *matches*."""

    matches: str
    times: int
    status: int | None = None
    code: str = "server_error"
    retry_after: int | None = None
    drop: bool = False
    act_first: bool = False
    delay: float = 0.0
    body: bytes | None = None


class FakeStore:
    """The project's users, rooms and messages, and the rules of the contract that tests lean on."""

    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        self.users: dict[str, Json] = {}
        self.rooms: dict[str, Json] = {}
        self.members: dict[str, dict[str, Json]] = {}
        self.messages: dict[str, list[Json]] = {}
        self.tokens: dict[str, tuple[str, float, int]] = {}
        self.generations: dict[str, int] = {}
        self.skew = 0.0
        # Called with what the sockets in a room hear: event, room, payload.
        self.publish: Callable[[str, str, Json], None] = lambda *_: None
        # Called when a user's tokens are good no more, with the code; answers how many connections that ended.
        self.close_user: Callable[[str, str], int] = lambda *_: 0

    def now(self) -> float:
        """Epoch seconds by the fake's clock."""
        return time.time() + self.skew

    def instant(self, at: float | None = None) -> str:
        """RFC 3339, by the fake's clock."""
        moment = datetime.fromtimestamp(self.now() if at is None else at, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    # -- users ----------------------------------------------------------------------------------

    def create_user(self, body: Json) -> Json:
        """A new user; 409 where a name is taken."""
        if not _USERNAME.fullmatch(str(body.get("username", ""))):
            raise Problem(400, "bad_request", field="username")
        if not body.get("external_user_id"):
            raise Problem(400, "bad_request", field="external_user_id")
        if any(
            user["external_user_id"] == body["external_user_id"] for user in self.users.values()
        ):
            raise Problem(409, "external_user_id_taken")
        self.refuse_taken_name(body["username"])
        user = {
            "id": _id(),
            "project_id": self.project_id,
            "external_user_id": body["external_user_id"],
            "username": body["username"],
            "display_name": body.get("display_name"),
            "email": body.get("email"),
            "avatar_url": body.get("avatar_url"),
            "status": "active",
            "metadata": body.get("metadata") or {},
            "created_at": self.instant(),
            "updated_at": self.instant(),
        }
        self.users[user["id"]] = user
        return user

    def refuse_taken_name(self, username: str, but: str | None = None) -> None:
        """409 if somebody, *but* one, has the username in any case."""
        if any(
            each["username"].lower() == username.lower()
            for each in self.users.values()
            if each["id"] != but
        ):
            raise Problem(409, "username_taken")

    def user(self, user_id: str) -> Json:
        """The user, or 404."""
        return _one(self.users, user_id)

    def mint(self, user_id: str, seconds: int) -> Json:
        """A token for the user, an opaque string."""
        user = self.user(user_id)
        if user["status"] != "active":
            raise Problem(403, "user_suspended")
        token = f"fake-{uuid.uuid4().hex}"
        expires = self.now() + seconds
        self.tokens[token] = user_id, expires, self.generations.get(user_id, 0)
        return {
            "token": token,
            "token_type": "Bearer",
            "expires_in": seconds,
            "expires_at": self.instant(expires),
            "user": user,
        }

    def bearer(self, token: str) -> tuple[str, float]:
        """Whom the token stands for and until when, or 401."""
        user_id, expires, generation = self.tokens.get(token, ("", 0.0, 0))
        if not user_id:
            raise Problem(401, "token_invalid")
        if generation != self.generations.get(user_id, 0):
            raise Problem(401, "token_revoked")
        if self.now() >= expires:
            raise Problem(401, "token_expired")
        if user_id not in self.users:
            raise Problem(401, "user_deleted")
        if self.users[user_id]["status"] != "active":
            raise Problem(403, "user_suspended")
        return user_id, expires

    # -- rooms ----------------------------------------------------------------------------------

    def create_room(self, body: Json) -> Json:
        """A new room with its creator as owner."""
        if not body.get("name") or body.get("created_by") not in self.users:
            raise Problem(400, "bad_request")
        room = {
            "id": _id(),
            "project_id": self.project_id,
            "name": body["name"],
            "description": body.get("description"),
            "private": bool(body.get("private", False)),
            "created_by": body["created_by"],
            "member_count": 0,
            "last_seq": 0,
            "last_message_at": None,
            "metadata": body.get("metadata") or {},
            "created_at": self.instant(),
            "updated_at": self.instant(),
        }
        self.rooms[room["id"]] = room
        self.members[room["id"]] = {}
        self.messages[room["id"]] = []
        self.join(room["id"], body["created_by"], role="owner")
        for user_id in body.get("member_ids", ()):
            self.join(room["id"], user_id)
        return room

    def room(self, room_id: str, caller: str | None = None) -> Json:
        """The room, or 404, also for a user who is not in it."""
        room = _one(self.rooms, room_id)
        if caller is not None and caller not in self.members[room_id]:
            raise Problem(404, "not_found")
        return room

    def join(self, room_id: str, user_id: str, role: str | None = None) -> Json:
        """Membership; the same one the second time."""
        room, user = _one(self.rooms, room_id), self.user(user_id)
        inside = self.members[room_id]
        if user_id not in inside:
            inside[user_id] = {
                "room_id": room_id,
                "user_id": user_id,
                "username": user["username"],
                "display_name": user["display_name"],
                "role": role or "member",
                "joined_at": self.instant(),
                "last_read_seq": 0,
            }
            self.publish("user_joined", room_id, _person(inside[user_id]))
        elif role:
            inside[user_id]["role"] = role
        room["member_count"] = len(inside)
        return inside[user_id]

    def leave(self, room_id: str, user_id: str) -> None:
        """No membership any more."""
        room = _one(self.rooms, room_id)
        member = self.members[room_id].pop(user_id, None)
        room["member_count"] = len(self.members[room_id])
        if member is not None:
            self.publish("user_left", room_id, _person(member))

    def mark_read(self, room_id: str, user_id: str, seq: int) -> Json:
        """Move the mark forwards."""
        room, member = _one(self.rooms, room_id), _one(self.members[room_id], user_id)
        member["last_read_seq"] = max(member["last_read_seq"], min(seq, room["last_seq"]))
        return {
            "last_read_seq": member["last_read_seq"],
            "unread": room["last_seq"] - member["last_read_seq"],
        }

    # -- messages -------------------------------------------------------------------------------

    def post(self, room_id: str, user_id: str, body: Json) -> Json:
        """A new message; the first one again for a repeated client_msg_id."""
        room = _one(self.rooms, room_id)
        if user_id not in self.members[room_id]:
            raise Problem(403, "not_a_member")
        content = body.get("content")
        if not isinstance(content, str) or not 1 <= len(content) <= 8000:
            raise Problem(400, "bad_request")
        for message in self.messages[room_id]:
            if body.get("client_msg_id") and message["client_msg_id"] == body["client_msg_id"]:
                return message
        user = self.user(user_id)
        room["last_seq"] += 1
        room["last_message_at"] = self.instant()
        message = {
            "id": _id(),
            "room_id": room_id,
            "seq": room["last_seq"],
            "user_id": user_id,
            "username": user["username"],
            "display_name": user["display_name"],
            "content": content,
            "client_msg_id": body.get("client_msg_id"),
            "metadata": body.get("metadata") or {},
            "created_at": self.instant(),
            "edited_at": None,
            "deleted_at": None,
        }
        self.messages[room_id].append(message)
        self.publish("message", room_id, message)
        return message

    def message(self, room_id: str, message_id: str) -> Json:
        """The message, or 404."""
        _one(self.rooms, room_id)
        return _one({each["id"]: each for each in self.messages[room_id]}, message_id)


def _person(member: Json) -> Json:
    return {name: member[name] for name in ("room_id", "user_id", "username", "display_name")}


def _id() -> str:
    return uuid.uuid4().hex


def _one(things: dict[str, Json], thing_id: str) -> Json:
    if thing_id not in things:
        raise Problem(404, "not_found")
    return things[thing_id]


class FakeChatApi:
    """A Chat API in memory that remembers what it was asked, and fails when told to.

    An ASGI application: behind AsgiTransport (`fake.client()`), or behind any server.
    """

    def __init__(self, *, api_key: str = "fake-key", project_id: str = "fake-project") -> None:
        self.api_key = api_key
        from .fake_live import FakeLive

        self.store = FakeStore(project_id)
        self.live = FakeLive(self.store)
        self.store.publish, self.store.close_user = self.live.tell, self.live.close_user
        self.seen: list[Seen] = []
        self._faults: list[Fault] = []
        self._answers: dict[tuple[str, str], tuple[Any, int, Any]] = {}

    # -- faults to order ------------------------------------------------------------------------

    def fail(
        self,
        status: int = 503,
        *,
        times: int = 1,
        on: str = "",
        code: str = "unavailable",
        retry_after: int | None = None,
        body: bytes | None = None,
    ) -> None:
        """Answer the next *times* requests matching *on* (a regex over "METHOD /path") with *status*.

        *body*: raw bytes instead of a problem, to see what garbage does.
        """
        self._faults.append(
            Fault(on, times, status=status, code=code, retry_after=retry_after, body=body)
        )

    def drop(self, *, times: int = 1, on: str = "", act_first: bool = True) -> None:
        """Break the connection in the middle of the answer; with *act_first*, after doing what was asked."""
        self._faults.append(Fault(on, times, drop=True, act_first=act_first))

    def delay(self, seconds: float, *, times: int = 1, on: str = "") -> None:
        """Take *seconds* before answering."""
        self._faults.append(Fault(on, times, delay=seconds))

    def disconnect(self, code: str = "server_restarting") -> None:
        """End every live connection with *code*; clients come back if it is one to come back after."""
        for wire in tuple(self.live.wires):
            wire.end(code)

    def expire_tokens(self) -> None:
        """Every token out there has run out."""
        self.store.tokens = {
            token: (user_id, 0.0, generation)
            for token, (user_id, _, generation) in self.store.tokens.items()
        }

    def skew(self, seconds: float) -> None:
        """Set the fake's clock that far ahead of (negative: behind) this machine's."""
        self.store.skew = seconds

    def count(self, on: str) -> int:
        """How many requests matched *on* so far."""
        return sum(bool(re.search(on, f"{each.method} {each.path}")) for each in self.seen)

    # -- ASGI -----------------------------------------------------------------------------------

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            return
        raw = b""
        while True:
            part = await receive()
            raw += part.get("body", b"")
            if not part.get("more_body", False):
                break
        request = Seen(
            scope["method"],
            scope["path"],
            dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)),
            {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            json.loads(raw) if raw else None,
        )
        self.seen.append(request)
        fault = self._next_fault(request)
        if fault is not None:
            await asyncio.sleep(fault.delay)
            if fault.act_first:
                self._answer(request)
            if fault.drop:
                await _start(send, 200, [(b"content-length", b"100")])
                await send({"type": "http.response.body", "body": b"{", "more_body": True})
                return
            if fault.status is not None:
                wait = fault.retry_after
                await _reply(
                    send, fault.status, _problem(fault.status, fault.code), wait, raw=fault.body
                )
                return
        status, body, wait = self._answer(request)
        await _reply(send, status, body, wait)

    def _next_fault(self, request: Seen) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and re.search(fault.matches, f"{request.method} {request.path}"):
                fault.times -= 1
                return fault
        return None

    def _answer(self, request: Seen) -> tuple[int, Any, int | None]:
        try:
            return (*self._remembered(request), None)
        except Problem as problem:
            answer = _problem(problem.status, problem.code)
            if problem.field:
                answer["errors"] = [{"field": problem.field, "message": "is not valid"}]
            return problem.status, answer, None

    def _remembered(self, request: Seen) -> tuple[int, Any]:
        key = request.headers.get("idempotency-key")
        if request.method != "POST" or key is None:
            return self._route(request)
        place = request.path, key
        if place in self._answers:
            body, status, answer = self._answers[place]
            if body != request.body:
                raise Problem(422, "idempotency_key_reused")
            return status, answer
        status, answer = self._route(request)
        answer = json.loads(json.dumps(answer))
        self._answers[place] = request.body, status, answer
        return status, answer

    def _caller(self, request: Seen) -> str | None:
        """None for the key, the user's id for a token, 401 for neither."""
        if request.headers.get("x-api-key") == self.api_key:
            return None
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            raise Problem(401, "not_authenticated")
        return self.store.bearer(token)[0]

    def _route(self, request: Seen) -> tuple[int, Any]:
        from .fake_routes import route

        return route(self.store, request, self._caller(request))

    # -- clients --------------------------------------------------------------------------------

    def client(self, **options: Any) -> "AsyncChatClient":
        """An AsyncChatClient with this fake behind it; *options* as for AsyncChatClient."""
        from chat_broker_sdk._async.client import AsyncChatClient

        from .fake_live import FakeTransport

        if "jwt_token" not in options:
            options.setdefault("api_key", self.api_key)
        return AsyncChatClient("http://fake", transport=FakeTransport(self), **options)

    def sync_client(self, **options: Any) -> "ChatClient":
        """The same, for ChatClient."""
        from chat_broker_sdk._sync.client import ChatClient

        from .fake_live import FakeTransport

        if "jwt_token" not in options:
            options.setdefault("api_key", self.api_key)
        return ChatClient("http://fake", transport=FakeTransport(self), **options)


def _problem(status: int, code: str) -> Json:
    return {
        "type": "about:blank",
        "title": code.replace("_", " "),
        "status": status,
        "detail": code.replace("_", " "),
        "instance": "",
        "code": code,
        "message": code.replace("_", " "),
        "request_id": uuid.uuid4().hex,
    }


async def _start(
    send: Callable[[_Message], Awaitable[None]], status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _reply(
    send: Callable[[_Message], Awaitable[None]],
    status: int,
    body: Any,
    retry_after: int | None,
    *,
    raw: bytes | None = None,
) -> None:
    kind = b"application/json" if status < 400 else b"application/problem+json"
    headers = [(b"content-type", kind)]
    if status in {429, 503} and retry_after is None:
        retry_after = 1
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    content = raw if raw is not None else b"" if status == 204 else encoded(body)
    await _start(send, status, headers)
    await send({"type": "http.response.body", "body": content})


def encoded(body: Any) -> bytes:
    """JSON in UTF-8."""
    return json.dumps(body, ensure_ascii=False).encode()
