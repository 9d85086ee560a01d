"""A Chat API in memory, as an ASGI application: for tests of programs that use the SDK."""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from .fake_live import FakeLive, FakeTransport
from .fake_routes import route
from .fake_store import FakeStore, Json, Problem, Seen, encoded

if TYPE_CHECKING:
    from chat_broker_sdk._async.client import AsyncChatClient
    from chat_broker_sdk._sync.client import ChatClient

_Message = MutableMapping[str, Any]


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


class FakeChatApi:
    """A Chat API in memory that remembers what it was asked, and fails when told to.

    An ASGI application: behind AsgiTransport (`fake.client()`), or behind any server.
    """

    def __init__(self, *, api_key: str = "fake-key", project_id: str = "fake-project") -> None:
        self.api_key = api_key
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
        return route(self.store, request, self._caller(request))

    # -- clients --------------------------------------------------------------------------------

    def client(self, **options: Any) -> "AsyncChatClient":
        """An AsyncChatClient with this fake behind it; *options* as for AsyncChatClient."""
        # Loaded by whoever wants this client; another test may want the other, or none.
        from chat_broker_sdk._async.client import AsyncChatClient

        if "jwt_token" not in options:
            options.setdefault("api_key", self.api_key)
        return AsyncChatClient("http://fake", transport=FakeTransport(self, self.live), **options)

    def sync_client(self, **options: Any) -> "ChatClient":
        """The same, for ChatClient."""
        # As above.
        from chat_broker_sdk._sync.client import ChatClient

        if "jwt_token" not in options:
            options.setdefault("api_key", self.api_key)
        return ChatClient("http://fake", transport=FakeTransport(self, self.live), **options)


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
