"""GET …/presence: who is online. Only the API key may ask; a user's sockets watch."""

from chat_broker_server.chat import validation
from chat_broker_server.chat.presence import MOST_ASKED
from chat_broker_server.errors import BadInput
from chat_broker_server.rest.request import Request, Response, checked, ok


async def get(request: Request) -> Response:
    """Unknown users are left out; with `member_id`, also those who are in no room with that user."""
    query = request.query("ids", "member_id")
    asked = list(dict.fromkeys(query.get("ids", "").split(",")))
    if len(asked) > MOST_ASKED or not all(map(validation.ID.fullmatch, asked)):
        raise BadInput.field("ids", f"must be 1 to {MOST_ASKED} ids, with commas between them")
    reader_id = checked(query, "member_id", validation.identifier)
    items = await request.services.presence(request.pid, asked, reader_id)
    return ok({"items": items})
