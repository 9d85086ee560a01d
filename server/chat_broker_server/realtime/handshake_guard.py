"""The door of /socket.io: origins, sizes and Engine.IO frames, before the library sees them.

Every request the library would answer with a traceback, a log line or a wait without end is answered here. A bad
frame inside a good connection is replaced by one that `frames.read` refuses, so that it is counted on its connection.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec

from chat_broker_kit.allowance import Allowance
from chat_broker_kit.http.refused_origins import RefusedOrigins
from chat_broker_kit.http.websocket_denial import deny_websocket
from chat_broker_kit.logs.sampling import SampledLog
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.origins import IsOwnOrigin
from chat_broker_server.realtime.packets import OVERSIZED, REFUSED, acceptable
from chat_broker_server.realtime.send_queue import Outbox

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]

#: A host that wraps *send* on its way here may leave the server's own under this key of the scope.
SERVER_SEND: Final = "chat_broker_server.send"
_SID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_MAX_PACKETS = 16  # in one polling request; Engine.IO's own bound
_BODY_SECONDS = 10.0
_SECURE = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Refused(Exception):  # noqa: N818  # an answer rather than a failure
    """This request gets *status* and nothing else; *code* is Engine.IO's own number for the reason."""

    def __init__(self, status: int, message: str, *, code: int = 3, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class Links(Protocol):
    """What the gate asks about connections."""

    def outbox(self, eio_sid: str) -> Outbox | None: ...
    def room_for_one_more(self) -> bool: ...
    async def refused(self, eio_sid: str, code: str, message: str) -> None: ...


class Own(Protocol):
    """Websockets that need no library."""

    def upgrading(self, eio_sid: str) -> bool: ...
    async def serve(
        self, eio_sid: str | None, receive: Receive, send: Send, server_send: Any
    ) -> bool: ...


class Gate:
    """An ASGI app in front of the library's own, to be mounted at /socket.io."""

    def __init__(
        self,
        app: App,
        links: Links,
        own: Own,
        *,
        limits: Limits,
        origins: Iterable[str] | None,
        is_own_origin: IsOwnOrigin,
        refused_origins: RefusedOrigins,
        log: SampledLog,
    ) -> None:
        """*own* takes the websockets it can, *app* the others. *origins*: exactly these may connect from a browser, and
        the server's own in any spelling (*is_own_origin*); None lets any, for the token alone identifies."""
        self._app = app
        self._own = own
        self._links = links
        self._limits = limits
        self._origins = None if origins is None else frozenset(origins)
        self._is_own_origin = is_own_origin
        self._refused_origins = refused_origins
        self._log = log
        self._polling: set[str] = set()
        self._upgrading: set[str] = set()
        self.retry_after: int | None = None  # set while the server is going away

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request or serve one websocket."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    # -- what both have in common -----------------------------------------------------------------

    def _query(self, scope: Scope, transport: str) -> str | None:
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
        if path.strip("/") not in {"", "socket.io"}:
            raise Refused(404, "Not found")
        pairs: list[tuple[str, str]] = parse_qsl(
            scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True
        )
        query = dict(pairs)
        if len(query) != len(pairs):
            raise Refused(400, "A query parameter is given twice")
        if query.get("transport", "polling") != transport or "j" in query:
            raise Refused(400, "Transport unknown", code=0)
        if query.get("EIO") != "4":
            raise Refused(400, "Unsupported protocol version", code=5)
        sid = query.get("sid")
        if sid is None:
            if self.retry_after is not None:
                raise Refused(503, "The server is restarting", retry_after=self.retry_after)
            if not self._links.room_for_one_more():
                raise Refused(503, "Too many connections", retry_after=5)
        elif not _SID.fullmatch(sid) or self._links.outbox(sid) is None:
            raise Refused(400, "Session ID unknown", code=1)
        return sid

    def _origin(self, scope: Scope) -> str | None:
        given = [value for name, value in scope["headers"] if name == b"origin"]
        if not given:
            return None
        origin: str = given[0].decode("latin-1")
        if len(given) > 1 or not self._is_allowed(scope, origin):
            request_id = (scope.get("state") or {}).get("request_id", "")
            text = self._refused_origins.refuse(given, of="handshake", request_id=request_id)
            raise Refused(403, text, code=4)
        return origin

    def _is_allowed(self, scope: Scope, origin: str) -> bool:
        """Native clients name as their origin the address that they connect to."""
        if self._origins is None or origin in self._origins:
            return True
        return self._is_own_origin(scope, origin)

    # -- polling ----------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin: str | None = None
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *_SECURE, *self._cors(origin)]
            await send(message)

        try:
            origin = self._origin(scope)
            await self._polling_request(scope, receive, answer)
        except Refused as refused:
            await _plain(answer, refused)
        except OSError:
            pass  # the peer went away
        except Exception:  # noqa: BLE001  # whatever the library raises, the peer gets an answer and the log one line
            self._log.exception("socket.polling_failed")
            if not started:
                await _plain(answer, Refused(400, "Bad request"))

    async def _polling_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "OPTIONS":
            await _empty(send, 204)
            return
        if method not in {"GET", "POST"}:
            raise Refused(405, "Method not allowed", code=2)
        sid = self._query(scope, "polling")
        if method == "GET":
            if sid is None:
                await self._app(scope, receive, send)
                return
            if sid in self._polling:
                raise Refused(400, "There is a request for this session already")
            self._polling.add(sid)
            try:
                await self._app(scope, receive, send)
            finally:
                self._polling.discard(sid)
            return
        if sid is None:
            raise Refused(400, "Bad handshake method", code=2)
        try:
            body = self._checked(await self._body(scope, receive)).encode()
        except Refused as refused:
            code = "message_too_large" if refused.status == 413 else "protocol_error"
            await self._links.refused(sid, code, str(refused))
            raise
        headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app({**scope, "headers": headers}, replay, send)

    async def _body(self, scope: Scope, receive: Receive) -> str:
        limit = self._limits.message_bytes
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if not declared.isdigit() or len(declared) > 12 or int(declared) > limit:
            raise Refused(413, f"A request may have {limit} bytes")
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise OSError("the peer went away")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise Refused(413, f"A request may have {limit} bytes")
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refused(408, "The request took too long to arrive") from None
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise Refused(400, "The request is not UTF-8") from None

    def _checked(self, body: str) -> str:
        packets = body.split("\x1e")
        if len(packets) > _MAX_PACKETS:
            raise Refused(400, f"A request may hold {_MAX_PACKETS} packets")
        return "\x1e".join(packet if acceptable(packet) else REFUSED for packet in packets)

    def _cors(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        if origin is None:
            return [(b"vary", b"Origin")]
        headers = [
            (b"vary", b"Origin"),
            (
                b"access-control-allow-origin",
                b"*" if self._origins is None else origin.encode("latin-1"),
            ),
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"content-type"),
            (b"access-control-max-age", b"600"),
        ]
        if self._origins is not None:  # load balancers keep a poller on one node by a cookie
            headers.append((b"access-control-allow-credentials", b"true"))
        return headers

    # -- websocket --------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._origin(scope)
            sid = self._query(scope, "websocket")
            if sid is not None and (sid in self._upgrading or self._own.upgrading(sid)):
                raise Refused(400, "There is a websocket for this session already")  # noqa: TRY301
        except Refused as refused:
            headers, body = _answer(refused)
            await deny_websocket(
                scope, receive, send, status=refused.status, headers=headers, body=body
            )
            return
        if sid is not None:
            self._upgrading.add(sid)
        try:
            if not await self._own.serve(sid, receive, send, scope.get(SERVER_SEND, send)):
                await self._app(scope, self._frames(receive, sid), send)
        except OSError:
            pass  # the peer went away
        except asyncio.CancelledError as cancelled:
            if cancelled.args != ("cut off",):  # see Outbox.abort
                raise
        except Exception:  # noqa: BLE001  # see _http
            self._log.exception("socket.websocket_failed")
        finally:
            if sid is not None:
                self._upgrading.discard(sid)

    def _frames(self, receive: Receive, sid: str | None) -> Receive:
        """Pass frames on; those Engine.IO would stumble over become REFUSED."""
        handshake = ["2probe", "5"] if sid is not None else []
        pongs = Allowance(0.2, 4, time.monotonic())

        async def next_frame() -> Message:
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            text = message.get("text")
            if handshake:
                if text == handshake.pop(0):
                    if text == "5" and sid is not None and (outbox := self._links.outbox(sid)):
                        outbox.attach(asyncio.current_task())
                    return message
                handshake.clear()
            if text is not None and len(text.encode()) > self._limits.message_bytes:
                return {"type": "websocket.receive", "text": OVERSIZED}
            good = text is not None and acceptable(text)
            if good and text == "3" and not pongs.take(time.monotonic()):
                good = False
            return message if good else {"type": "websocket.receive", "text": REFUSED}

        return next_frame


def _answer(refused: Refused) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body."""
    body = msgspec.json.encode({"code": refused.code, "message": str(refused)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refused.retry_after:
        headers.append((b"retry-after", b"%d" % refused.retry_after))
    if refused.status == 405:
        headers.append((b"allow", b"GET, POST, OPTIONS"))
    if refused.status in {408, 413}:  # the rest of the body is not going to be read
        headers.append((b"connection", b"close"))
    return headers, body


async def _plain(send: Send, refused: Refused) -> None:
    headers, body = _answer(refused)
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _empty(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})
