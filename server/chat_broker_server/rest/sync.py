"""Routes that tell a client what it lacks."""

import msgspec
from msgspec import UNSET

from chat_broker_server.chat import sizes, validation
from chat_broker_server.chat.delta import Seen
from chat_broker_server.chat.models import Changes
from chat_broker_server.chat.sync import Had, SyncQuery
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.errors import BadInput
from chat_broker_server.rest import own_reactions
from chat_broker_server.rest.request import Request, Response, checked, number, ok, page_limit
from chat_broker_server.rest.rooms import require_reader

_SYNC = {
    "have": validation.optional(validation.had_rooms),
    "have_version": validation.optional(validation.seq),
    "epoch": validation.optional(validation.text(64)),
    "messages": validation.optional(validation.integer(0, 20)),
    "limit": validation.optional(validation.integer(1, sizes.LARGEST_PAGE)),
    "cursor": validation.optional(validation.text(1024)),
    "token": validation.optional(validation.text(1024)),
}


async def list_changes(request: Request) -> Response:
    """GET …/rooms/{room_id}/changes: what changed after `since_rev`, as it is now."""
    query = request.query("since_rev", "from_seq", "limit", "member_id")
    if "since_rev" not in query:
        raise BadInput.field("since_rev", "is required")
    since_rev = number(query, "since_rev", 0, MAX_SEQ, 0)
    from_seq = number(query, "from_seq", 0, MAX_SEQ, 1)
    limit = page_limit(query)
    member_id = checked(query, "member_id", validation.identifier)
    seen = Seen(from_seq, await require_reader(request, member_id))
    changes = await request.chat.changes(
        request.pid, request.ids["room_id"], since_rev, seen=seen, limit=limit
    )
    found = [each.message for each in changes.items if each.message is not UNSET]
    reader_id = request.token_user_id or member_id
    changes = await own_reactions.add(request, reader_id, changes, found)
    response = ok(changes)
    return response if len(response.body) <= sizes.LARGEST_RESPONSE else ok(_shortened(changes))


async def sync(request: Request) -> Response:
    """POST …/users/{user_id}/sync with the API key, /api/v1/sync with a token."""
    query = validation.fields(await request.body(optional=True), _SYNC)
    query = {name: value for name, value in query.items() if value is not None}
    have = {room_id: Had(*had) for room_id, had in query.pop("have", {}).items()}
    user_id = request.token_user_id or request.ids["user_id"]
    return ok(await request.chat.sync(request.pid, user_id, SyncQuery(have, **query)))


def _shortened(changes: Changes) -> Changes:
    """*changes* with only as many items as fit into LARGEST_RESPONSE."""
    overhead = len(msgspec.json.encode(msgspec.structs.replace(changes, items=[])))
    items = sizes.fitting(changes.items, sizes.LARGEST_RESPONSE - overhead)
    more = changes.has_more or len(items) < len(changes.items)
    return msgspec.structs.replace(changes, items=items, has_more=more)
