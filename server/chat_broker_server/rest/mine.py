"""Routes about a user's own side of rooms: marks, settings of a room, what is unread."""

from chat_broker_server.chat import validation
from chat_broker_server.errors import BadInput
from chat_broker_server.rest.request import Request, Response, ok
from chat_broker_server.rest.rooms import MARK, acting_user_id, require_member

_READ_MANY = {"rooms": validation.marks, "all": validation.true}


async def get(request: Request) -> Response:
    request.query()
    user_id = await _member_id(request)
    return ok(await request.chat.mine(request.pid, request.ids["room_id"], user_id))


async def update(request: Request) -> Response:
    changes = validation.mine_changes(await request.body())
    user_id = await _member_id(request)
    return ok(await request.chat.update_mine(request.pid, request.ids["room_id"], user_id, changes))


async def mark_delivered(request: Request) -> Response:
    body = validation.fields(await request.body(), MARK, "seq")
    delivered_seq = await request.chat.mark_delivered(
        request.pid,
        request.ids["room_id"],
        acting_user_id(request, body.get("user_id")),
        body["seq"],
        hide_private=request.token_user_id is not None,
    )
    return ok({"delivered_seq": delivered_seq})


async def mark_many_read(request: Request) -> Response:
    """POST …/users/{user_id}/read: some rooms, or all of them."""
    body = validation.fields(await request.body(), _READ_MANY)
    if len(body) != 1:
        raise BadInput.field("rooms", "is required, or all, but not both")
    user_id = request.ids["user_id"]
    if "all" in body:
        totals = await request.chat.mark_all_read(request.pid, user_id)
    else:
        marks: dict[str, int] = {}
        for room, seq in body["rooms"].items():
            room_id = await request.chat.room_id(request.pid, room)
            marks[room_id] = max(seq, marks.get(room_id, 0))
        totals = await request.chat.mark_rooms_read(request.pid, user_id, marks)
    return ok({"totals": totals})


async def unread(request: Request) -> Response:
    request.query()
    return ok(await request.chat.totals(request.pid, request.ids["user_id"]))


async def _member_id(request: Request) -> str:
    """Whose side it is: the token's user, or the one in the path. For a user, a room without them is NotFound."""
    if request.token_user_id is None:
        return request.ids["user_id"]
    await require_member(request)
    return request.token_user_id
