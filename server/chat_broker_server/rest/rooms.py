"""Routes about rooms, members and read marks.

For a user, a room they are no member of is NotFound, as one that does not exist.
"""

from chat_broker_server.chat import validation
from chat_broker_server.chat.idempotency import Replayed
from chat_broker_server.chat.member_lists import MOST_IDS, MemberFilter
from chat_broker_server.chat.members import NewMembers
from chat_broker_server.chat.models import CursorPage, Page
from chat_broker_server.chat.rooms import RoomFilter
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.errors import BadInput, Forbidden, NotFound
from chat_broker_server.rest import own_reactions
from chat_broker_server.rest.request import (
    NO_CONTENT,
    Request,
    Response,
    checked,
    created,
    number,
    ok,
    page_and_limit,
    page_limit,
)

_USER_ID = {"user_id": validation.optional(validation.identifier)}
MARK = {**_USER_ID, "seq": validation.seq}
_SORT = validation.one_of("activity", "created")
_KIND = validation.one_of("room", "direct", "thread")
_YES_NO = validation.one_of("true", "false")
CURSOR = validation.text(1024)
_DIRECT = {
    "user_ids": validation.identifiers(8, 1),
    "created_by": validation.optional(validation.identifier),
}
_MEMBER = {
    "role": validation.optional(validation.role),
    "by": validation.optional(validation.identifier),
}
_MEMBERS = {**_MEMBER, "user_ids": validation.identifiers(100, 1)}


async def create(request: Request) -> Response:
    body = await request.body()
    draft = validation.room_draft(body)
    return created(
        await request.chat.create_room(request.pid, draft, idempotency=request.idempotency(body))
    )


async def ensure(request: Request) -> Response:
    """PUT …/rooms/external:{id}: one room, however often and by how many it is asked for."""
    own_id = request.ids["room_id"].removeprefix(validation.EXTERNAL)
    try:
        validation.external_id(own_id)
    except ValueError as error:
        raise BadInput.field("external_id", str(error)) from None
    draft = validation.external_room_draft(own_id, await request.body())
    ensured, is_new = await request.chat.ensure_room(request.pid, draft)
    return created(ensured) if is_new else ok(ensured)


async def ensure_direct(request: Request) -> Response:
    body = validation.fields(await request.body(), _DIRECT, "user_ids")
    user_ids, created_by = list(dict.fromkeys(body["user_ids"])), body.get("created_by")
    if created_by is not None and created_by not in user_ids:
        raise BadInput.field("created_by", "must be one of user_ids")
    room, is_new = await request.chat.ensure_direct(request.pid, user_ids, created_by=created_by)
    return created(room) if is_new else ok(room)


async def list_all(request: Request) -> Response:
    """GET …/rooms: all rooms for the API key, the user's own rooms for a token."""
    query = request.query(
        *("page", "limit", "member_id", "private", "q", "sort", "kind", "archived", "cursor")
    )
    where = _room_filter(request, query)
    if checked(query, "sort", _SORT) == "activity":
        if "page" in query:
            raise BadInput.field("page", "does not go with sort=activity: use cursor")
        cursor, limit = checked(query, "cursor", CURSOR), page_limit(query)
        by_activity = await request.chat.rooms_by_activity(
            request.pid, where, cursor=cursor, limit=limit
        )
        return await _listed(request, where, by_activity)
    if "cursor" in query:
        raise BadInput.field("cursor", "goes with sort=activity alone")
    page, limit = page_and_limit(query)
    numbered = await request.chat.list_rooms(request.pid, where, page=page, limit=limit)
    return await _listed(request, where, numbered)


async def _listed(request: Request, where: RoomFilter, page: Page | CursorPage) -> Response:
    last = [room.last_message for room in page.items if room.last_message]
    return ok(await own_reactions.add(request, where.member_id, page, last))


def _room_filter(request: Request, query: dict[str, str]) -> RoomFilter:
    member_id = checked(query, "member_id", validation.identifier)
    if request.token_user_id is not None:
        member_id = own_user_id(request, member_id)
    private, archived = checked(query, "private", _YES_NO), checked(query, "archived", _YES_NO)
    if archived is not None and member_id is None:
        raise BadInput.field("archived", "goes with member_id alone")
    return RoomFilter(
        member_id,
        None if private is None else private == "true",
        checked(query, "q", validation.single_line(128)),
        None if archived is None else archived == "true",
        checked(query, "kind", _KIND),
    )


async def get(request: Request) -> Response:
    request.query()
    await require_member(request)
    return ok(await request.chat.get_room(request.pid, request.ids["room_id"]))


async def update(request: Request) -> Response:
    changes, by = validation.room_changes(await request.body())
    return ok(await request.chat.update_room(request.pid, request.ids["room_id"], changes, by=by))


async def delete(request: Request) -> Response:
    await request.chat.delete_room(request.pid, request.ids["room_id"])
    return NO_CONTENT


async def join(request: Request) -> Response:
    body = validation.fields(await request.body(optional=True), _USER_ID)
    member = await request.chat.join(
        request.pid,
        request.ids["room_id"],
        acting_user_id(request, body.get("user_id")),
        may_enter_private=request.token_user_id is None,
    )
    return ok(member)


async def leave(request: Request) -> Response:
    body = validation.fields(await request.body(optional=True), _USER_ID)
    await request.chat.leave(
        request.pid,
        request.ids["room_id"],
        acting_user_id(request, body.get("user_id")),
        hide_private=request.token_user_id is not None,
    )
    return NO_CONTENT


async def list_members(request: Request) -> Response:
    """GET …/members: a numbered page, or what follows a cursor, of all members, some by id, or those that match."""
    query = request.query("page", "limit", "ids", "role", "q", "cursor")
    room = request.pid, request.ids["room_id"]
    if "ids" in query:
        return await _list_members_by_id(request, query)
    where = MemberFilter(
        checked(query, "role", validation.role), checked(query, "q", validation.single_line(128))
    )
    if "cursor" in query:
        if "page" in query:
            raise BadInput.field("page", "cannot be combined with cursor")
        cursor, limit = checked(query, "cursor", validation.text(1024, least=0)), page_limit(query)
        await require_member(request)
        return ok(await request.chat.members_after(*room, where, cursor, limit=limit))
    page, limit = page_and_limit(query)
    await require_member(request)
    if where == MemberFilter():
        return ok(await request.chat.members(*room, page=page, limit=limit))
    return ok(await request.chat.matching_members(*room, where, page=page, limit=limit))


async def _list_members_by_id(request: Request, query: dict[str, str]) -> Response:
    for other in query:
        if other != "ids":
            raise BadInput.field(other, "cannot be combined with ids")
    asked = list(dict.fromkeys(query["ids"].split(",")))
    if len(asked) > MOST_IDS or not all(map(validation.ID.fullmatch, asked)):
        raise BadInput.field("ids", f"must be at most {MOST_IDS} ids, with commas between them")
    await require_member(request)
    found = await request.chat.some_members(request.pid, request.ids["room_id"], asked)
    return ok(Page.of(found, 1, MOST_IDS, len(found)))


async def add_members(request: Request) -> Response:
    body = await request.body()
    fields = validation.fields(body, _MEMBERS, "user_ids")
    try:
        added = await request.chat.add_members(
            request.pid,
            request.ids["room_id"],
            NewMembers(fields["user_ids"], fields.get("role"), fields.get("by")),
            idempotency=request.idempotency(body),
        )
    except Replayed as replayed:
        return Response(200, replayed.response, (("idempotency-replayed", "true"),))
    return ok(added)


async def get_member(request: Request) -> Response:
    request.query()
    await require_member(request)
    user_id = request.ids["user_id"]
    member = await request.chat.member(
        request.pid,
        request.ids["room_id"],
        user_id,
        with_from_seq=request.token_user_id in {None, user_id},
    )
    if member is None:
        await request.chat.get_room(request.pid, request.ids["room_id"])
        raise NotFound.member()
    return ok(member)


async def put_member(request: Request) -> Response:
    body = validation.fields(await request.body(optional=True), _MEMBER)
    return ok(
        await request.chat.put_member(
            request.pid,
            request.ids["room_id"],
            request.ids["user_id"],
            role=body.get("role"),
            by=body.get("by"),
        )
    )


async def remove_member(request: Request) -> Response:
    by = checked(request.query("by"), "by", validation.identifier)
    await request.chat.remove_member(
        request.pid, request.ids["room_id"], request.ids["user_id"], by=by
    )
    return NO_CONTENT


async def mark_read(request: Request) -> Response:
    body = validation.fields(await request.body(), MARK, "seq")
    return ok(
        await request.chat.mark_read(
            request.pid,
            request.ids["room_id"],
            acting_user_id(request, body.get("user_id")),
            body["seq"],
            hide_private=request.token_user_id is not None,
        )
    )


async def require_member(request: Request) -> int:
    """The first message that the caller sees. Raises NotFound if a user who is no member asks.

    The API key sees everything.
    """
    if request.token_user_id is None:
        return 1
    from_seq = await request.chat.from_seq(
        request.pid, request.ids["room_id"], request.token_user_id
    )
    if from_seq is None:
        raise NotFound.room()
    return from_seq


async def require_reader(request: Request, member_id: str | None) -> int:
    """The first message that the reader sees: the token's user, or the member whom the API key names.

    Raises an error if they are no member. The API key alone sees everything.
    """
    if request.token_user_id is not None:
        own_user_id(request, member_id)
        return await require_member(request)
    if member_id is None:
        return 1
    from_seq = await request.chat.from_seq(request.pid, request.ids["room_id"], member_id)
    if from_seq is None:
        await request.chat.get_room(request.pid, request.ids["room_id"])
        raise Forbidden("not_a_member", "This user is not a member of the room.")
    return from_seq


def acting_user_id(request: Request, named: str | None) -> str:
    """The user to act as: *named* for the API key, which must name one; else the token's own user."""
    if request.token_user_id is not None:
        return own_user_id(request, named)
    if named is None:
        raise BadInput.field("user_id", "is required with an API key")
    return named


def own_user_id(request: Request, named: str | None) -> str:
    """The token's user. Raises Forbidden if *named* is another user."""
    user_id = request.claims.sub
    if named not in {None, user_id}:
        raise Forbidden("not_your_user", "A chat token acts for its own user alone.")
    return user_id


def viewer_id(request: Request, query: dict[str, str]) -> str | None:
    """The user for whom the API key reads, from `viewer_id`; the token's own user. None: no user in particular."""
    named: str | None = checked(query, "viewer_id", validation.identifier)
    return named if request.token_user_id is None else own_user_id(request, named)


async def first_seq(request: Request, query: dict[str, str]) -> int:
    """The first message to answer: what the caller sees, less what `from_seq` leaves out."""
    return max(await require_member(request), number(query, "from_seq", 0, MAX_SEQ, 1))
