"""Refusing a websocket with a status of HTTP, where the server can do that."""

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
    """Answer the handshake of *scope*; with 403 and nothing else where ASGI's denial response is not to be had."""
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    start = {"type": "websocket.http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body})


def is_handshake(scope: Scope) -> bool:
    """Does the request of *scope*, to a path of Socket.IO's, ask for a new session?"""
    query: bytes = scope.get("query_string", b"")
    return not any(part.startswith(b"sid=") for part in query.split(b"&"))
