"""Routes that send signals: to the sockets of a room, or of a user. Only the API key may call them."""

from chat_broker_server.chat import signals, validation
from chat_broker_server.rest.request import Request, Response

_SIGNAL = {"name": signals.name, "data": signals.data}
_ACCEPTED = Response(202, b"{}")


async def to_room(request: Request) -> Response:
    """POST …/rooms/{room_id}/signals: answered before it is told."""
    body = validation.fields(await request.body(), _SIGNAL, "name")
    await request.chat.signal_room(
        request.pid, request.ids["room_id"], body["name"], body.get("data")
    )
    return _ACCEPTED


async def to_user(request: Request) -> Response:
    """POST …/users/{user_id}/signals: to the user's sockets, in whatever rooms they are."""
    body = validation.fields(await request.body(), _SIGNAL, "name")
    await request.chat.signal_user(
        request.pid, request.ids["user_id"], body["name"], body.get("data")
    )
    return _ACCEPTED
