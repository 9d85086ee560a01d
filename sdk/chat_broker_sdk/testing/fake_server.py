"""A Chat API in memory, as an ASGI application."""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from . import fake_presence
from .fake_changes import FEATURES
from .fake_live import FakeLive, FakeTransport
from .fake_routes import route
from .fake_store import FakeStore, Json, Problem, Seen, encoded
from .fake_watch import tell_mine

if TYPE_CHECKING:
    from chat_broker_sdk._async.client import AsyncChatClient
    from chat_broker_sdk._sync.client import ChatClient

_Message = MutableMapping[str, Any]


@dataclass(slots=True)
class Fault:
    """A failure of the next *times* requests whose "METHOD /path" matches the regex *matches*.

    Seconds: *delay*, *retry_after*. *drop*: break the connection. *act_first*: handle the request before.
    """

    matches: str
    times: int
    status: int | None = None
    code: str = "server_error"
    retry_after: int | None = None
    drop: bool = False
    act_first: bool = False
    delay: float = 0.0
    body: bytes | None = None


class FakeChatApi:
    """A Chat API in memory, which records its requests in `seen`, and fails when told to.

    An ASGI application, for AsgiTransport (`fake.client()`) or any ASGI server. *features*: the optional ones that it
    has; with none it is a server that knows nothing of features.
    """

    def __init__(
        self,
        *,
        api_key: str = "fake-key",
        project_id: str = "fake-project",
        features: Collection[str] = FEATURES,
    ) -> None:
        self.api_key = api_key
        self.store = FakeStore(project_id)
        self.store.features = tuple(features)
        self.live = FakeLive(self.store)
        self.store.publish, self.store.close_user = self.live.publish, self.live.close_user
        self.store.tell_user, self.store.tell_reload = self.live.tell_user, self.live.tell_reload
        self.store.tell_mine = lambda room_id, user_id: tell_mine(
            self.store, tuple(self.live.wires), room_id, user_id
        )
        self.store.tell_receipt = partial(fake_presence.tell_receipt, self.store)
        self.seen: list[Seen] = []
        self._faults: list[Fault] = []
        self._idempotent: dict[tuple[str, str], tuple[Any, int, Any]] = {}

    # -- faults ------------------------------------------------------------------------

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

        *retry_after* is in seconds. *body*: raw bytes instead of a problem document.
        """
        self._faults.append(
            Fault(on, times, status=status, code=code, retry_after=retry_after, body=body)
        )

    def drop(self, *, times: int = 1, on: str = "", act_first: bool = True) -> None:
        """Break the connection in the middle of the response. With *act_first*, the request takes effect."""
        self._faults.append(Fault(on, times, drop=True, act_first=act_first))

    def delay(self, seconds: float, *, times: int = 1, on: str = "") -> None:
        """Take *seconds* before answering."""
        self._faults.append(Fault(on, times, delay=seconds))

    def disconnect(self, code: str = "server_restarting") -> None:
        """End all live connections with *code*, which decides whether clients reconnect."""
        for wire in tuple(self.live.wires):
            wire.end(code)

    def expire_tokens(self) -> None:
        """Let all tokens expire."""
        self.store.tokens = {
            token: (user_id, 0.0, generation)
            for token, (user_id, _, generation) in self.store.tokens.items()
        }

    def skew(self, seconds: float) -> None:
        """Set the fake's clock *seconds* ahead of this machine's, or behind if negative."""
        self.store.skew = seconds

    def count(self, on: str) -> int:
        """How many requests so far match *on*, a regex over "METHOD /path"."""
        return sum(bool(re.search(on, f"{each.method} {each.path}")) for each in self.seen)

    # -- ASGI -----------------------------------------------------------------------------------

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Serve one HTTP request. Other scopes are ignored."""
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
                self._respond(request)
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
        status, body, wait = self._respond(request)
        await _reply(send, status, body, wait)

    def _next_fault(self, request: Seen) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and re.search(fault.matches, f"{request.method} {request.path}"):
                fault.times -= 1
                return fault
        return None

    def _respond(self, request: Seen) -> tuple[int, Any, int | None]:
        try:
            return (*self._idempotent_response(request), None)
        except Problem as problem:
            response = _problem(problem.status, problem.code)
            response |= problem.facts
            if problem.field:
                response["errors"] = [{"field": problem.field, "message": "is not valid"}]
            return problem.status, response, None

    def _idempotent_response(self, request: Seen) -> tuple[int, Any]:
        key = request.headers.get("idempotency-key")
        if request.method != "POST" or key is None:
            return self._route(request)
        cache_key = request.path, key
        if cache_key in self._idempotent:
            body, status, response = self._idempotent[cache_key]
            if body != request.body:
                raise Problem(422, "idempotency_key_reused")
            return status, response
        status, response = self._route(request)
        response = json.loads(json.dumps(response))
        self._idempotent[cache_key] = request.body, status, response
        return status, response

    def _caller(self, request: Seen) -> str | None:
        """The user's id of a token, None for the API key. 401 for neither."""
        if request.headers.get("x-api-key") == self.api_key:
            return None
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            raise Problem(401, "not_authenticated")
        return self.store.bearer(token)[0]

    def _route(self, request: Seen) -> tuple[int, Any]:
        return route(self.store, self.live, request, self._caller(request))

    # -- clients --------------------------------------------------------------------------------

    def client(self, **options: Any) -> "AsyncChatClient":
        """An AsyncChatClient of this fake. *options* are AsyncChatClient's."""
        # Imported here, since many tests use only one of the two clients.
        from chat_broker_sdk._async.client import AsyncChatClient

        return AsyncChatClient("http://fake", **self._client_options(options))

    def sync_client(self, **options: Any) -> "ChatClient":
        """A ChatClient of this fake. *options* are ChatClient's."""
        from chat_broker_sdk._sync.client import ChatClient  # as above

        return ChatClient("http://fake", **self._client_options(options))

    def _client_options(self, options: dict[str, Any]) -> dict[str, Any]:
        key = {} if "jwt_token" in options else {"api_key": self.api_key}
        return {"transport": FakeTransport(self, self.live), **key, **options}


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
