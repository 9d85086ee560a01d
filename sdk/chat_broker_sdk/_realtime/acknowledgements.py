"""Reads a server's error events and acknowledgements. Pure."""

from typing import Any

from chat_broker_sdk._credentials import UserToken
from chat_broker_sdk._errors import WebSocketError
from chat_broker_sdk._models import SocketErrorEvent, build


def error_event(payload: object, token: UserToken | None) -> SocketErrorEvent:
    """The server's error, with *token* scrubbed from it. An unreadable one has the code `error`."""
    if token is not None and isinstance(payload, dict):
        scrubbed = {
            name: token.scrub(text)
            for name in ("code", "message")
            if isinstance(text := payload.get(name), str)
        }
        payload = {**payload, **scrubbed}
    try:
        return build(payload, SocketErrorEvent)
    except ValueError:
        return SocketErrorEvent()


def refused(what: str, error: SocketErrorEvent) -> WebSocketError:
    """The exception for *what* (an event, or "The live connection"), which the server refused with *error*."""
    return WebSocketError(
        f"{what} was refused ({error.code})" + (f": {error.message}" if error.message else ""),
        code=error.code,
        retry_after=error.retry_after,
    )


def checked_acknowledgement(
    event: str, acknowledgement: object, token: UserToken | None
) -> dict[str, Any]:
    """The acknowledgement of *event*, if it is ok. Raises WebSocketError with the server's code if not."""
    if isinstance(acknowledgement, dict) and acknowledgement.get("ok") is True:
        return acknowledgement
    error = acknowledgement.get("error") if isinstance(acknowledgement, dict) else None
    if not isinstance(error, dict):
        raise WebSocketError(
            f"{event} was acknowledged with something the contract does not know",
            code="bad_response",
        )
    raise refused(event, error_event(error, token))
