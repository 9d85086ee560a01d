"""What a server says over a live connection: its errors and its acknowledgements. Pure."""

from typing import Any

from chat_broker_sdk._credentials import UserToken
from chat_broker_sdk._errors import WebSocketError
from chat_broker_sdk._models import SocketErrorEvent, build


def error_event(payload: object, token: UserToken | None) -> SocketErrorEvent:
    """What the server said was wrong, without *token*, or a nameless error if it said nothing readable."""
    if token is not None and isinstance(payload, dict):
        said = {name: payload[name] for name in ("code", "message") if name in payload}
        told = {name: token.scrub(text) for name, text in said.items() if isinstance(text, str)}
        payload = {**payload, **told}
    try:
        return build(payload, SocketErrorEvent)
    except ValueError:
        return SocketErrorEvent()


def acknowledged(event: str, answer: object, token: UserToken | None) -> dict[str, Any]:
    """The acknowledgement of *event*, if it says ok; raises WebSocketError with the server's code if not."""
    if isinstance(answer, dict) and answer.get("ok") is True:
        return answer
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        raise WebSocketError(
            f"{event} was acknowledged with something the contract does not know",
            code="bad_response",
        )
    said = error_event(error, token)
    raise WebSocketError(
        f"{event} was refused ({said.code})" + (f": {said.message}" if said.message else ""),
        code=said.code,
        retry_after=said.retry_after,
    )
