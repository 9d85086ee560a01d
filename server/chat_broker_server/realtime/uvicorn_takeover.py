"""Takes an accepted websocket over from uvicorn, whose protocol class is no public API.

So each object is checked before use. If anything differs (another version, a transport hidden by a middleware, a
negotiated extension), the websocket is served through ASGI.
"""

from typing import Any

import structlog

from chat_broker_kit.insides import misfit

try:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError:  # pragma: no cover
    WebSocketsSansIOProtocol = None  # type: ignore[assignment, misc]

_log = structlog.get_logger("chat_broker_server.realtime.uvicorn_takeover")

_NEEDED = (
    "close_sent",
    "conn",
    "connections",
    "disconnected",
    "handshake_complete",
    "loop",
    "queue",
    "stop_keepalive",
    "transport",
    "writable",
)


def is_possible() -> bool:
    """Whether this version of uvicorn allows a takeover. If not, the reason is logged."""
    if WebSocketsSansIOProtocol is None:
        reason = "uvicorn has no WebSocketsSansIOProtocol"
    else:
        reason = misfit({WebSocketsSansIOProtocol: _NEEDED})
    if reason:
        _log.warning("socket.ordinary_way", of="websockets", reason=reason)
    return not reason


def protocol_behind(send: Any) -> Any | None:
    """uvicorn's protocol object behind an ASGI *send*; None if it is not of the known kind."""
    protocol = getattr(send, "__self__", None)
    if WebSocketsSansIOProtocol is None or not isinstance(protocol, WebSocketsSansIOProtocol):
        return None
    return protocol if all(hasattr(protocol, name) for name in _NEEDED) else None


def untouched(protocol: Any) -> bool:
    """Whether the client has sent only its handshake, and no extension was negotiated."""
    conn = protocol.conn
    reader = getattr(conn, "reader", None)
    return (
        not protocol.handshake_complete
        and protocol.writable.is_set()
        and not protocol.transport.is_closing()
        and protocol.queue.qsize() <= 1  # the handshake itself
        and not getattr(conn, "extensions", True)
        and hasattr(getattr(conn, "parser", None), "close")
        and not getattr(reader, "buffer", True)
    )


def accepted(protocol: Any) -> bool:
    """Whether the websocket was accepted and is still open."""
    return (
        protocol.handshake_complete
        and not protocol.close_sent
        and not protocol.disconnected
        and not protocol.transport.is_closing()
    )


def let_go(protocol: Any) -> None:
    """Detach uvicorn from this websocket: its keepalive, its set of connections, its transport."""
    protocol.stop_keepalive()
    protocol.connections.discard(protocol)
    protocol.transport = _ClosedTransport()
    protocol.conn.parser.close()  # it refers to itself: without close() only the garbage collector frees it


class _ClosedTransport:
    """Replaces the transport, which uvicorn closes when the ASGI call returns."""

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return True
