"""Taking a websocket over from uvicorn, once it has accepted it: a class of uvicorn's that is nobody's promise.

So it is looked at before it is touched. Whatever differs from what is known here, a future version, a transport
hidden by a middleware, an extension that was agreed on: the websocket then goes the ordinary way, through ASGI.
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
    """Can the websockets of this uvicorn be taken over at all? If not, the log says why."""
    if WebSocketsSansIOProtocol is None:
        reason = "uvicorn has no WebSocketsSansIOProtocol"
    else:
        reason = misfit({WebSocketsSansIOProtocol: _NEEDED})
    if reason:
        _log.warning("socket.ordinary_way", of="websockets", reason=reason)
    return not reason


def protocol_behind(send: Any) -> Any | None:
    """uvicorn's own object behind an ASGI *send*, if it is of the kind known here."""
    protocol = getattr(send, "__self__", None)
    if WebSocketsSansIOProtocol is None or not isinstance(protocol, WebSocketsSansIOProtocol):
        return None
    return protocol if all(hasattr(protocol, name) for name in _NEEDED) else None


def untouched(protocol: Any) -> bool:
    """Has the client sent nothing yet but its handshake, and was no extension agreed on?"""
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
    """Was the websocket accepted, and is the client still there?"""
    return (
        protocol.handshake_complete
        and not protocol.close_sent
        and not protocol.disconnected
        and not protocol.transport.is_closing()
    )


def let_go(protocol: Any) -> None:
    """End all that uvicorn does for this websocket; the transport is another's from now on."""
    protocol.stop_keepalive()
    protocol.connections.discard(protocol)
    protocol.transport = _Nothing()
    protocol.conn.parser.close()  # it refers to itself, and would wait for the garbage collector


class _Nothing:
    """In the place of the transport: uvicorn closes it when the ASGI call returns."""

    def close(self) -> None:
        """Nothing to close."""

    def is_closing(self) -> bool:
        """Nothing more can be sent."""
        return True
