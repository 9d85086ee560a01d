"""Payloads of `error` events and refused handshakes: the reason, and whether the client should reconnect."""

from typing import Any, Final

#: Codes after which a client should get a new token and reconnect. After any other it must not.
RECONNECT: Final = frozenset(
    {
        "database_unavailable",
        "handshake_timeout",
        "internal_error",
        "message_too_large",
        "ping_timeout",
        "server_restarting",
        "slow_down",
        "token_expired",
        "too_many_sockets",
        "unavailable",
        "writes_unavailable",
    }
)

MESSAGES: Final = {
    "handshake_timeout": "No token was sent in time: connect again.",
    "ping_timeout": "No answer to a ping: connect again.",
    "server_restarting": "The server is restarting: connect again in a moment.",
    "slow_down": "Too much at once: connect again, and slow down.",
    "token_expired": "The token has expired: get a new one and connect again.",
    "token_invalid": "The token is not valid.",
    "token_revoked": "The token has been revoked.",
    "user_deleted": "This user does not exist any more.",
    "user_suspended": "This user is suspended.",
}


def error_notice(code: str, message: str, retry_after: int | None = None) -> dict[str, Any]:
    """The payload of an `error` event on a connection that stays open.

    `reconnect` is always true: a client that does not know `closing` would never reconnect if it were false.
    """
    return _with_retry_after({"code": code, "message": message, "reconnect": True}, retry_after)


def closing_notice(
    code: str, message: str | None = None, retry_after: int | None = None
) -> dict[str, Any]:
    """The payload of the last `error` event before the server closes the connection."""
    return _with_retry_after({**_reason(code, message), "closing": True}, retry_after)


def _reason(code: str, message: str | None) -> dict[str, Any]:
    text = message or MESSAGES.get(code, "The connection was closed.")
    return {"code": code, "message": text, "reconnect": code in RECONNECT}


def _with_retry_after(payload: dict[str, Any], retry_after: int | None) -> dict[str, Any]:
    return payload if retry_after is None else {**payload, "retry_after": retry_after}


def refused_handshake(
    code: str, message: str | None = None, retry_after: int | None = None
) -> dict[str, Any]:
    """The payload of CONNECT_ERROR. Client libraries pass on `message` and `data`."""
    data = _with_retry_after(_reason(code, message), retry_after)
    return {"message": data["message"], "data": data}
