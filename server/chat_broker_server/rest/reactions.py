"""Routes about reactions to messages, and about pinned messages."""

from chat_broker_server.chat import emoji, validation
from chat_broker_server.chat.message_lock import Actor
from chat_broker_server.chat.models import Pins
from chat_broker_server.chat.reactions import Wanted
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.errors import BadInput
from chat_broker_server.rest import own_reactions
from chat_broker_server.rest.request import Request, Response, checked, number, ok, page_limit
from chat_broker_server.rest.rooms import own_user_id, require_reader, viewer_id

_CURSOR = validation.text(1024)
_PIN = {"user_id": validation.optional(validation.identifier)}


async def add(request: Request) -> Response:
    """PUT …/reactions/{emoji} with a token, …/{emoji}/{user_id} with the API key."""
    reaction = await _reaction(request)
    reactions = await request.chat.react(
        request.pid,
        request.ids["room_id"],
        request.ids["message_id"],
        reaction,
        _actor(request, request.ids.get("user_id")),
    )
    return ok({"reactions": reactions})


async def remove(request: Request) -> Response:
    """DELETE …/reactions/{emoji}, as `add`."""
    reaction = await _reaction(request)
    reactions = await request.chat.unreact(
        request.pid,
        request.ids["room_id"],
        request.ids["message_id"],
        reaction,
        _actor(request, request.ids.get("user_id")),
    )
    return ok({"reactions": reactions})


async def list_all(request: Request) -> Response:
    """GET …/reactions: who reacted, next to a cursor."""
    query = request.query("emoji", "cursor", "limit", "member_id", "from_seq")
    wanted = Wanted(
        checked(query, "emoji", emoji.reaction),
        checked(query, "cursor", _CURSOR),
        page_limit(query),
    )
    _, from_seq = await _reader(request, query)
    return ok(
        await request.chat.reactions(
            request.pid,
            request.ids["room_id"],
            request.ids["message_id"],
            wanted,
            from_seq=from_seq,
        )
    )


async def pin(request: Request) -> Response:
    actor = await _pinning(request)
    return ok(
        await request.chat.pin(
            request.pid, request.ids["room_id"], request.ids["message_id"], actor
        )
    )


async def unpin(request: Request) -> Response:
    actor = await _pinning(request)
    return ok(
        await request.chat.unpin(
            request.pid, request.ids["room_id"], request.ids["message_id"], actor
        )
    )


async def list_pins(request: Request) -> Response:
    """GET …/pins: all of them, newest pin first."""
    query = request.query("viewer_id", "member_id", "from_seq")
    reader_id, from_seq = await _reader(request, query)
    pinned = await request.chat.pins(request.pid, request.ids["room_id"], from_seq=from_seq)
    return ok(await own_reactions.add(request, reader_id, Pins(pinned), pinned))


async def _reader(request: Request, query: dict[str, str]) -> tuple[str | None, int]:
    """Whose own reactions to tell, and the first message to answer. With the API key `member_id` names a reader who is a
    member and sees no more than that, `viewer_id` any."""
    member_id = checked(query, "member_id", validation.identifier)
    seen = await require_reader(request, member_id)
    reader_id = member_id or viewer_id(request, query)
    return reader_id, max(seen, number(query, "from_seq", 0, MAX_SEQ, 1))


async def _reaction(request: Request) -> str:
    """The emoji of the path. Raises BadInput."""
    validation.fields(await request.body(optional=True), {})
    try:
        reaction: str = emoji.reaction(request.ids["emoji"])
    except ValueError as error:
        raise BadInput.field("emoji", str(error)) from None
    return reaction


async def _pinning(request: Request) -> Actor:
    """Who pins: the token's user; with the API key the `user_id` of the body, or nobody in particular."""
    body = validation.fields(await request.body(optional=True), _PIN)
    return _actor(request, body.get("user_id"))


def _actor(request: Request, named: str | None) -> Actor:
    if request.token_user_id is None:
        return Actor(named, by_token=False)
    return Actor(own_user_id(request, named), by_token=True)
