"""Routes about rooms, members and read marks.

A user sees the rooms they are in; any other room is answered as if it did not exist.
"""

from chat_broker_server.chat import validation
from chat_broker_server.errors import BadInput, Forbidden, NotFound
from chat_broker_server.rest.request import NO_CONTENT, Call, Reply, checked, created, ok, page_of

_SOMEBODY = {"user_id": validation.optional(validation.identifier)}
_READ = {**_SOMEBODY, "seq": validation.seq}
_MEMBER = {"role": validation.optional(validation.role)}
_TRUTH = {"true": True, "false": False}


async def create(call: Call) -> Reply:
    """POST …/rooms"""
    body = await call.body()
    draft = validation.room_draft(body)
    return created(await call.chat.create_room(call.pid, draft, idempotency=call.idempotency(body)))


async def listed(call: Call) -> Reply:
    """GET …/rooms: all of them for the key, their own for a user."""
    query = call.query("page", "limit", "member_id", "private", "q")
    page, limit = page_of(query)
    member_id = checked(query, "member_id", validation.identifier)
    if call.asker is not None:
        member_id = themselves(call, member_id)
    private = checked(query, "private", validation.one_of("true", "false"))
    return ok(
        await call.chat.list_rooms(
            call.pid,
            page=page,
            limit=limit,
            member_id=member_id,
            private=None if private is None else _TRUTH[private],
            q=checked(query, "q", validation.line(128)),
        )
    )


async def get(call: Call) -> Reply:
    """GET …/rooms/{room_id}"""
    call.query()
    await inside(call)
    return ok(await call.chat.get_room(call.pid, call.ids["room_id"]))


async def update(call: Call) -> Reply:
    """PATCH …/rooms/{room_id}"""
    changes = validation.room_changes(await call.body())
    return ok(await call.chat.update_room(call.pid, call.ids["room_id"], changes))


async def delete(call: Call) -> Reply:
    """DELETE …/rooms/{room_id}"""
    await call.chat.delete_room(call.pid, call.ids["room_id"])
    return NO_CONTENT


async def join(call: Call) -> Reply:
    """POST …/rooms/{room_id}/join"""
    body = validation.fields(await call.body(optional=True), _SOMEBODY)
    member = await call.chat.join(
        call.pid,
        call.ids["room_id"],
        who(call, body.get("user_id")),
        may_enter_private=call.asker is None,
    )
    return ok(member)


async def leave(call: Call) -> Reply:
    """POST …/rooms/{room_id}/leave"""
    body = validation.fields(await call.body(optional=True), _SOMEBODY)
    await call.chat.leave(
        call.pid,
        call.ids["room_id"],
        who(call, body.get("user_id")),
        hide_private=call.asker is not None,
    )
    return NO_CONTENT


async def members(call: Call) -> Reply:
    """GET …/rooms/{room_id}/members"""
    page, limit = page_of(call.query("page", "limit"))
    await inside(call)
    return ok(await call.chat.members(call.pid, call.ids["room_id"], page=page, limit=limit))


async def member(call: Call) -> Reply:
    """GET …/rooms/{room_id}/members/{user_id}"""
    call.query()
    await inside(call)
    found = await call.chat.member(call.pid, call.ids["room_id"], call.ids["user_id"])
    if found is None:
        await call.chat.get_room(call.pid, call.ids["room_id"])
        raise NotFound.member()
    return ok(found)


async def put_member(call: Call) -> Reply:
    """PUT …/rooms/{room_id}/members/{user_id}"""
    body = validation.fields(await call.body(optional=True), _MEMBER)
    return ok(
        await call.chat.put_member(
            call.pid, call.ids["room_id"], call.ids["user_id"], role=body.get("role")
        )
    )


async def remove_member(call: Call) -> Reply:
    """DELETE …/rooms/{room_id}/members/{user_id}"""
    await call.chat.remove_member(call.pid, call.ids["room_id"], call.ids["user_id"])
    return NO_CONTENT


async def mark_read(call: Call) -> Reply:
    """PUT …/rooms/{room_id}/read"""
    body = validation.fields(await call.body(), _READ, "seq")
    return ok(
        await call.chat.mark_read(
            call.pid,
            call.ids["room_id"],
            who(call, body.get("user_id")),
            body["seq"],
            hide_private=call.asker is not None,
        )
    )


async def inside(call: Call) -> None:
    """Let members in, and the key; to everybody else the room does not exist."""
    if call.asker is not None and (
        await call.chat.member(call.pid, call.ids["room_id"], call.asker) is None
    ):
        raise NotFound.room()


def who(call: Call, named: str | None) -> str:
    """Whom a call is about: whoever the key names, or the token's own user."""
    if call.asker is not None:
        return themselves(call, named)
    if named is None:
        raise BadInput.field("user_id", "is required with an API key")
    return named


def themselves(call: Call, named: str | None) -> str:
    """The token's own user, who may be named and must not be anybody else."""
    asker = call.claims.sub
    if named not in {None, asker}:
        raise Forbidden("not_your_user", "A chat token acts for its own user alone.")
    return asker
