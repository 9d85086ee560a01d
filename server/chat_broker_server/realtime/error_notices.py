"""What a socket is told when a call fails, or when it is refused or closed, and whether it should come back."""

from typing import Any, Final

#: After these, a client gets a new token and comes back; after any other, it stays away.
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

WORDS: Final = {
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


def failure(code: str, message: str, retry_after: int | None = None) -> dict[str, Any]:
    """The payload of an `error` event after which the connection goes on.

    `reconnect` is true, whatever has failed: a client that does not know `closing` stays away for good if it is false.
    """
    return _with_pause({"code": code, "message": message, "reconnect": True}, retry_after)


def farewell(
    code: str, message: str | None = None, retry_after: int | None = None
) -> dict[str, Any]:
    """The payload of the last `error` event before the server ends the connection."""
    return _with_pause({**_reason(code, message), "closing": True}, retry_after)


def _reason(code: str, message: str | None) -> dict[str, Any]:
    text = message or WORDS.get(code, "The connection was closed.")
    return {"code": code, "message": text, "reconnect": code in RECONNECT}


def _with_pause(payload: dict[str, Any], retry_after: int | None) -> dict[str, Any]:
    return payload if retry_after is None else {**payload, "retry_after": retry_after}


def refusal(
    code: str, message: str | None = None, retry_after: int | None = None
) -> dict[str, Any]:
    """What a refused handshake carries: client libraries show `message`, and `data` as it is."""
    data = _with_pause(_reason(code, message), retry_after)
    return {"message": data["message"], "data": data}
