"""Routes that tell a client what it lacks."""

import msgspec

from chat_broker_server.chat import sizes, validation
from chat_broker_server.chat.models import Changes
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.errors import BadInput, Forbidden
from chat_broker_server.rest.request import Request, Response, checked, number, ok, page_limit
from chat_broker_server.rest.rooms import own_user_id, require_member


async def list_changes(request: Request) -> Response:
    """GET …/rooms/{room_id}/changes: what changed after `since_rev`, as it is now."""
    query = request.query("since_rev", "from_seq", "limit", "member_id")
    if "since_rev" not in query:
        raise BadInput.field("since_rev", "is required")
    since_rev = number(query, "since_rev", 0, MAX_SEQ, 0)
    from_seq = number(query, "from_seq", 0, MAX_SEQ, 1)
    limit = page_limit(query)
    await _require_reader(request, checked(query, "member_id", validation.identifier))
    changes = await request.chat.changes(
        request.pid, request.ids["room_id"], since_rev, from_seq=from_seq, limit=limit
    )
    response = ok(changes)
    return response if len(response.body) <= sizes.LARGEST_RESPONSE else ok(_shortened(changes))


async def _require_reader(request: Request, member_id: str | None) -> None:
    """Raise an error unless the reader is a member: the token's user, or the one whom the API key names."""
    if request.token_user_id is not None:
        own_user_id(request, member_id)
        await require_member(request)
    elif member_id is not None and (
        await request.chat.member(request.pid, request.ids["room_id"], member_id) is None
    ):
        await request.chat.get_room(request.pid, request.ids["room_id"])
        raise Forbidden("not_a_member", "This user is not a member of the room.")


def _shortened(changes: Changes) -> Changes:
    """*changes* with only as many items as fit into LARGEST_RESPONSE."""
    overhead = len(msgspec.json.encode(msgspec.structs.replace(changes, items=[])))
    items = sizes.fitting(changes.items, sizes.LARGEST_RESPONSE - overhead)
    more = changes.has_more or len(items) < len(changes.items)
    return msgspec.structs.replace(changes, items=items, has_more=more)
