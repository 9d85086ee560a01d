"""Refuses a websocket handshake with an HTTP response."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def deny_websocket(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> None:
    """Refuse the handshake of *scope* with this response; with a bare 403 on a server without ASGI's denial response."""
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def is_handshake(scope: Scope) -> bool:
    """Whether the Socket.IO request of *scope* asks for a new session."""
    query: bytes = scope.get("query_string", b"")
    return not any(part.startswith(b"sid=") for part in query.split(b"&"))
