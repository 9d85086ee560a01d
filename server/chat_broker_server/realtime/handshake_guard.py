"""Checks /socket.io requests (origins, sizes, Engine.IO packets) before python-socketio sees them.

Requests that the library would answer with a traceback, a log line or an endless wait are refused here. A bad packet
on an open connection is replaced by one that `packets.read` refuses, so that it is counted for its connection.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
import structlog

from chat_broker_kit.http.refused_origins import RefusedOrigins
from chat_broker_kit.http.websocket_denial import deny_websocket
from chat_broker_kit.token_bucket import TokenBucket
from chat_broker_server.realtime.context import Context
from chat_broker_server.realtime.origins import OriginPolicy
from chat_broker_server.realtime.packets import OVERSIZED, REFUSED, acceptable
from chat_broker_server.realtime.sessions import Sessions
from chat_broker_server.realtime.websocket_server import WebSocketServer

Scope = MutableMapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]

#: A host that wraps *send* may leave the ASGI server's own *send* under this key of the scope.
SERVER_SEND: Final = "chat_broker_server.send"
_SID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_MAX_PACKETS = 16  # in one polling request; Engine.IO's own bound
_BODY_SECONDS = 10.0
_SECURE = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class RefusedRequest(Exception):  # noqa: N818  # a response, not an error of this server
    """The request is refused with *status*. *code* is Engine.IO's number for the reason."""

    def __init__(self, status: int, message: str, *, code: int = 3, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class HandshakeGuard:
    """The ASGI app to mount at /socket.io, in front of the library's own."""

    def __init__(
        self,
        app: App,
        sessions: Sessions,
        websockets: WebSocketServer,
        context: Context,
        origins: OriginPolicy,
    ) -> None:
        """*websockets* serves the websockets that it can; *app* serves the others, and polling."""
        self._app = app
        self._websockets = websockets
        self._sessions = sessions
        self._limits = context.limits
        self._origins = origins
        self._refused_origins = RefusedOrigins(
            structlog.get_logger("chat_broker_server.realtime.origins"),
            context.counts.count_refused_origin,
        )
        self._log = context.log
        self._polling: set[str] = set()
        self._upgrading: set[str] = set()
        self.retry_after: int | None = None  # seconds; set once the server drains

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request or serve one websocket."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    # -- both transports --------------------------------------------------------------------------

    def _query(self, scope: Scope, transport: str) -> str | None:
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
        if path.strip("/") not in {"", "socket.io"}:
            raise RefusedRequest(404, "Not found")
        pairs: list[tuple[str, str]] = parse_qsl(
            scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True
        )
        query = dict(pairs)
        if len(query) != len(pairs):
            raise RefusedRequest(400, "A query parameter is given twice")
        if query.get("transport", "polling") != transport or "j" in query:
            raise RefusedRequest(400, "Transport unknown", code=0)
        if query.get("EIO") != "4":
            raise RefusedRequest(400, "Unsupported protocol version", code=5)
        sid = query.get("sid")
        if sid is None:
            if self.retry_after is not None:
                raise RefusedRequest(503, "The server is restarting", retry_after=self.retry_after)
            if not self._sessions.has_capacity():
                raise RefusedRequest(503, "Too many connections", retry_after=5)
        elif not _SID.fullmatch(sid) or self._sessions.library_queue(sid) is None:
            raise RefusedRequest(400, "Session ID unknown", code=1)
        return sid

    def _origin(self, scope: Scope) -> str | None:
        sent = [value for name, value in scope["headers"] if name == b"origin"]
        if not sent:
            return None
        origin: str = sent[0].decode("latin-1")
        if len(sent) > 1 or not self._origins.allows(scope, origin):
            request_id = (scope.get("state") or {}).get("request_id", "")
            text = self._refused_origins.refuse(sent, of="handshake", request_id=request_id)
            raise RefusedRequest(403, text, code=4)
        return origin

    # -- polling ----------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin: str | None = None
        started = False

        async def send_with_headers(message: ASGIMessage) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *_SECURE, *self._cors(origin)]
            await send(message)

        try:
            origin = self._origin(scope)
            await self._polling_request(scope, receive, send_with_headers)
        except RefusedRequest as refused:
            await _send_refusal(send_with_headers, refused)
        except OSError:
            pass  # the client went away
        except Exception:  # noqa: BLE001  # whatever the library raises, the client gets a response and the log one line
            self._log.exception("socket.polling_failed")
            if not started:
                await _send_refusal(send_with_headers, RefusedRequest(400, "Bad request"))

    async def _polling_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "OPTIONS":
            await _empty(send, 204)
            return
        if method not in {"GET", "POST"}:
            raise RefusedRequest(405, "Method not allowed", code=2)
        sid = self._query(scope, "polling")
        if method == "GET":
            if sid is None:
                await self._app(scope, receive, send)
                return
            if sid in self._polling:
                raise RefusedRequest(400, "There is a request for this session already")
            self._polling.add(sid)
            try:
                await self._app(scope, receive, send)
            finally:
                self._polling.discard(sid)
            return
        if sid is None:
            raise RefusedRequest(400, "Bad handshake method", code=2)
        try:
            body = self._checked(await self._body(scope, receive)).encode()
        except RefusedRequest as refused:
            code = "message_too_large" if refused.status == 413 else "protocol_error"
            await self._sessions.explain_refusal(sid, code, str(refused))
            raise
        headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))

        async def replay() -> ASGIMessage:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app({**scope, "headers": headers}, replay, send)

    async def _body(self, scope: Scope, receive: Receive) -> str:
        limit = self._limits.message_bytes
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if not declared.isdigit() or len(declared) > 12 or int(declared) > limit:
            raise RefusedRequest(413, f"A request may have {limit} bytes")
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise OSError("the client went away")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise RefusedRequest(413, f"A request may have {limit} bytes")
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise RefusedRequest(408, "The request took too long to arrive") from None
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise RefusedRequest(400, "The request is not UTF-8") from None

    def _checked(self, body: str) -> str:
        packets = body.split("\x1e")
        if len(packets) > _MAX_PACKETS:
            raise RefusedRequest(400, f"A request may hold {_MAX_PACKETS} packets")
        return "\x1e".join(packet if acceptable(packet) else REFUSED for packet in packets)

    def _cors(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        if origin is None:
            return [(b"vary", b"Origin")]
        headers = [
            (b"vary", b"Origin"),
            (
                b"access-control-allow-origin",
                b"*" if self._origins.listed is None else origin.encode("latin-1"),
            ),
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"content-type"),
            (b"access-control-max-age", b"600"),
        ]
        if self._origins.listed is not None:  # load balancers keep a poller on one node by a cookie
            headers.append((b"access-control-allow-credentials", b"true"))
        return headers

    # -- websocket --------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._origin(scope)
            sid = self._query(scope, "websocket")
            if sid is not None and (sid in self._upgrading or self._websockets.upgrading(sid)):
                raise RefusedRequest(400, "There is a websocket for this session already")  # noqa: TRY301
        except RefusedRequest as refused:
            headers, body = _refusal(refused)
            await deny_websocket(
                scope, receive, send, status=refused.status, headers=headers, body=body
            )
            return
        if sid is not None:
            self._upgrading.add(sid)
        try:
            if not await self._websockets.serve(sid, receive, send, scope.get(SERVER_SEND, send)):
                await self._app(scope, self._frames(receive, sid), send)
        except OSError:
            pass  # the client went away
        except asyncio.CancelledError as cancelled:
            if cancelled.args != ("cut off",):  # raised by EngineIOSendQueue.abort
                raise
        except Exception:  # noqa: BLE001  # see _http
            self._log.exception("socket.websocket_failed")
        finally:
            if sid is not None:
                self._upgrading.discard(sid)

    def _frames(self, receive: Receive, sid: str | None) -> Receive:
        """Pass packets on; those that Engine.IO cannot handle become REFUSED."""
        handshake = ["2probe", "5"] if sid is not None else []
        pongs = TokenBucket(0.2, 4, time.monotonic())

        async def next_frame() -> ASGIMessage:
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            text = message.get("text")
            if handshake:
                if text == handshake.pop(0):
                    if (
                        text == "5"
                        and sid is not None
                        and (send_queue := self._sessions.library_queue(sid))
                    ):
                        send_queue.attach(asyncio.current_task())
                    return message
                handshake.clear()
            if text is not None and len(text.encode()) > self._limits.message_bytes:
                return {"type": "websocket.receive", "text": OVERSIZED}
            good = text is not None and acceptable(text)
            if good and text == "3" and not pongs.take(time.monotonic()):
                good = False
            return message if good else {"type": "websocket.receive", "text": REFUSED}

        return next_frame


def _refusal(refused: RefusedRequest) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the JSON body of the response."""
    body = msgspec.json.encode({"code": refused.code, "message": str(refused)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refused.retry_after:
        headers.append((b"retry-after", b"%d" % refused.retry_after))
    if refused.status == 405:
        headers.append((b"allow", b"GET, POST, OPTIONS"))
    if refused.status in {408, 413}:  # the rest of the body is not going to be read
        headers.append((b"connection", b"close"))
    return headers, body


async def _send_refusal(send: Send, refused: RefusedRequest) -> None:
    headers, body = _refusal(refused)
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _empty(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})
