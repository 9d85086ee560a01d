"""What a socket is told when it is refused or closed, and whether it should come back."""

from typing import Any, Final

#: After these, a client gets a new token and comes back; after any other, it stays away.
RECONNECT: Final = frozenset(
    {
        "database_unavailable",
        "server_restarting",
        "slow_down",
        "token_expired",
        "too_many_sockets",
        "unavailable",
    }
)

WORDS: Final = {
    "server_restarting": "The server is restarting: connect again in a moment.",
    "slow_down": "Too much at once: connect again, and slow down.",
    "token_expired": "The token has expired: get a new one and connect again.",
    "token_invalid": "The token is not valid.",
    "token_revoked": "The token has been revoked.",
    "user_deleted": "This user does not exist any more.",
    "user_suspended": "This user is suspended.",
}


def notice(code: str, message: str | None = None, retry_after: int | None = None) -> dict[str, Any]:
    """The payload of an `error` event."""
    told: dict[str, Any] = {
        "code": code,
        "message": message or WORDS.get(code, "The connection was closed."),
        "reconnect": code in RECONNECT,
    }
    if retry_after is not None:
        told["retry_after"] = retry_after
    return told


def refusal(
    code: str, message: str | None = None, retry_after: int | None = None
) -> dict[str, Any]:
    """What a refused handshake carries: client libraries show `message`, and `data` as it is."""
    data = notice(code, message, retry_after)
    return {"message": data["message"], "data": data}
