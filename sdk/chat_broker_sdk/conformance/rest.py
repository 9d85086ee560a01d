"""Checks of the REST half of the contract."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from chat_broker_sdk._async.client import AsyncChatClient
from chat_broker_sdk._errors import ChatError
from chat_broker_sdk._models import Message, Model

from .checks import Missing, World, check, expect, refused

LONG = 8000
LARGEST_ANSWER = 512 * 1024


def _expect_fields(value: Model, *names: str) -> None:
    """Expect the fields *names* to be present and not null."""
    for name in names:
        expect(getattr(value, name) is not None, f"{name} is missing or null")


@check("Project", "GET /project names the key's project")
async def _project(world: World) -> None:
    _expect_fields(await world.client.project(), "id", "name")


@check("Project", "a wrong key is 401")
async def _wrong_key(world: World) -> None:
    api = world.client._api
    other = AsyncChatClient(
        str(api.server.base),
        api_key="wrong-" + uuid.uuid4().hex,
        transport=api.server.transport,
        dialect=api.dialect,
        allow_http=True,
    )
    await refused(other.project(), 401)


@check("Users", "create answers with the whole user")
async def _create_user(world: World) -> None:
    ann, _ = await world.people()
    _expect_fields(
        ann,
        "id",
        "project_id",
        "external_user_id",
        "username",
        "status",
        "created_at",
        "updated_at",
    )
    expect(ann.status == "active", f"status is {ann.status!r}")


@check("Users", "a taken username is 409 username_taken")
async def _username_taken(world: World) -> None:
    ann, _ = await world.people()
    call = world.client.users.create(username=ann.username, external_user_id=f"{world.run}|new")
    await refused(call, 409, "username_taken")


@check("Users", "a username taken in another case is 409 username_taken")
async def _username_taken_in_another_case(world: World) -> None:
    ann, _ = await world.people()
    for spelling in {ann.username.upper(), ann.username.lower()} - {ann.username}:
        call = world.client.users.create(username=spelling, external_user_id=f"{world.run}|new")
        await refused(call, 409, "username_taken")


@check("Users", "a taken external id is 409 external_user_id_taken")
async def _external_taken(world: World) -> None:
    ann, _ = await world.people()
    call = world.client.users.create(
        username=f"{world.run}-new", external_user_id=ann.external_user_id or ""
    )
    await refused(call, 409, "external_user_id_taken")


@check("Users", "q finds a name in any case, beyond ASCII too")
async def _found_in_any_case(world: World) -> None:
    made = await world.client.users.create(
        username=f"{world.run}-case",
        external_user_id=f"{world.run}|case",
        display_name=f"Ärger {world.run}",
    )
    found = await world.client.users.list(q=f"äRGER {world.run}".upper())
    expect(made.id in [user.id for user in found.items], "upper case did not find it")
    found = await world.client.users.list(q=f"ärger {world.run}".lower())
    expect(made.id in [user.id for user in found.items], "lower case did not find it")


@check("Users", "bad input is 400 and names the field")
async def _bad_user(world: World) -> None:
    call = world.client.users.create(username="not a name!", external_user_id=f"{world.run}|bad")
    error = await refused(call, 400)
    expect(any("username" in each.field for each in error.errors), "errors does not name username")


@check("Users", "an unknown field is 400")
async def _unknown_field(world: World) -> None:
    ann, _ = await world.people()
    await refused(world.client.users.update(ann.id, no_such_field=1), 400)


@check("Users", "get finds a user, and answers 404 for a missing one")
async def _get_user(world: World) -> None:
    ann, _ = await world.people()
    expect((await world.client.users.get(ann.id)).id == ann.id, "it is another user")
    await refused(world.client.users.get(str(uuid.uuid4())), 404)


@check("Users", "list filters by external_user_id")
async def _filter(world: World) -> None:
    ann, _ = await world.people()
    page = await world.client.users.list(external_user_id=ann.external_user_id)
    expect([each.id for each in page.items] == [ann.id], "the filter is ignored")


@check("Users", "list counts pages from 1 with limit and totals")
async def _user_pages(world: World) -> None:
    await world.people()
    page = await world.client.users.list(page=1, limit=1)
    _expect_fields(page, "page", "limit", "total", "total_pages")
    expect((page.page, page.limit, len(page.items)) == (1, 1, 1), "page, limit or items do not fit")
    expect(page.total_pages == page.total, "totalPages does not fit total")


@check("Users", "limit outside 1 to 200 and page below 1 are 400")
async def _bad_pages(world: World) -> None:
    users = world.client.users
    for page, limit in ((1, 0), (1, 201), (0, 1), (-1, 1)):
        await refused(users.list(page=page, limit=limit), 400)


@check("Users", "update changes a field and keeps the rest")
async def _update_user(world: World) -> None:
    ann, _ = await world.people()
    changed = await world.client.users.update(ann.id, display_name="Ann")
    expect(changed.display_name == "Ann", "display_name did not change")
    expect(changed.username == ann.username, "username changed")


@check("Tokens", "generate_token answers with token, expiry and user")
async def _mint(world: World) -> None:
    ann, _ = await world.people()
    token = await world.client.users.generate_token(ann.id)
    _expect_fields(token, "token", "token_type", "expires_in", "expires_at")
    expect(token.user is not None and token.user.id == ann.id, "user is not the user")


@check("Tokens", "expires_in is obeyed")
async def _expires_in(world: World) -> None:
    ann, _ = await world.people()
    token = await world.client.users.generate_token(ann.id, expires_in=60)
    expect(token.expires_in == 60, f"expires_in is {token.expires_in}")


@check("Tokens", "verify says whom a token stands for")
async def _verify(world: World) -> None:
    ann, _ = await world.people()
    info = await world.client.as_user(await world.token(ann)).auth.verify()
    expect(info.valid is True, "valid is not true")
    user = info.user
    expect((user.user_id, user.external_user_id) == (ann.id, ann.external_user_id), "another user")
    expect(user.project_id == (await world.client.project()).id, "another project")


@check("Tokens", "a made-up token is 401 token_invalid")
async def _made_up(world: World) -> None:
    call = world.client.as_user("eyJhbGciOiJub25lIn0.e30.").auth.verify()
    await refused(call, 401, "token_invalid")


@check("Tokens", "a revoked token is 401 token_revoked, and a new one is good")
async def _revoked(world: World) -> None:
    _, bob = await world.people()
    old = world.client.as_user(await world.token(bob))
    receipt = await world.client.users.revoke_token(bob.id)
    new = world.client.as_user(await world.token(bob))
    await refused(old.auth.verify(), 401, "token_revoked")
    expect((await new.auth.verify()).user.user_id == bob.id, "the new token is another's")
    _expect_fields(receipt, "generation")


@check("Tokens", "a suspended user's token is 401 or 403, and none is minted")
async def _suspended(world: World) -> None:
    _, bob = await world.people()
    token = world.client.as_user(await world.token(bob))
    await world.client.users.update(bob.id, status="suspended")
    try:
        try:
            await token.auth.verify()
            expect(condition=False, otherwise="the token still works")
        except ChatError as error:
            expect(error.status in {401, 403}, f"answers {error.status}")
        try:
            await world.token(bob)
            expect(condition=False, otherwise="a token is minted")
        except ChatError as error:
            expect(error.status in {401, 403, 409}, f"minting answers {error.status}")
    finally:
        await world.client.users.update(bob.id, status="active")


@check("Rooms", "create answers with the whole room, its creator the owner")
async def _create_room(world: World) -> None:
    ann, _ = await world.people()
    room = await world.room()
    _expect_fields(
        room, "id", "project_id", "name", "created_by", "member_count", "last_seq", "created_at"
    )
    expect((await world.client.rooms.member(room.id, ann.id)).role == "owner", "role is not owner")


@check("Rooms", "get finds a room, and answers 404 for a missing one")
async def _get_room(world: World) -> None:
    room = await world.room()
    expect((await world.client.rooms.get(room.id)).name == world.run, "it is another room")
    await refused(world.client.rooms.get(str(uuid.uuid4())), 404)


@check("Rooms", "list by member_id knows what is unread")
async def _list_rooms(world: World) -> None:
    _, bob = await world.people()
    room = await world.room()
    await world.message()
    other = await world.new_room()
    found = [each async for each in world.client.rooms.iterate(member_id=bob.id)]
    mine = [each for each in found if each.id in {room.id, other.id}]
    expect([each.id for each in mine] == [room.id], "not exactly the member's rooms")
    expect(isinstance(mine[0].unread, int) and mine[0].unread >= 1, f"unread is {mine[0].unread}")


@check("Rooms", "join and leave are idempotent")
async def _join_twice(world: World) -> None:
    _, bob = await world.people()
    room = await world.room()
    rooms = world.client.rooms
    first = await rooms.join(room.id, user_id=bob.id)
    expect(await rooms.join(room.id, user_id=bob.id) == first, "joining again changes something")
    await rooms.leave(room.id, user_id=bob.id)
    await rooms.leave(room.id, user_id=bob.id)
    await refused(rooms.member(room.id, bob.id), 404)
    await rooms.join(room.id, user_id=bob.id)


@check("Rooms", "update")
async def _update_room(world: World) -> None:
    room = await world.room()
    changed = await world.client.rooms.update(room.id, description="for tests")
    expect(changed.description == "for tests", "description did not change")


@check("Rooms", "delete")
async def _delete_room(world: World) -> None:
    _ann, _ = await world.people()
    room = await world.new_room()
    await world.client.rooms.delete(room.id)
    await refused(world.client.rooms.get(room.id), 404)


@check("Rooms", "members: page, one, put, remove")
async def _members(world: World) -> None:
    ann, bob = await world.people()
    room = await world.room()
    rooms = world.client.rooms
    members = {each.user_id async for each in rooms.iterate_members(room.id)}
    expect(members == {ann.id, bob.id}, "not exactly the members")
    await rooms.remove_member(room.id, bob.id)
    await refused(rooms.member(room.id, bob.id), 404)
    member = await rooms.put_member(room.id, bob.id)
    _expect_fields(member, "user_id", "role", "joined_at")


@check("Rooms", "the read mark moves forwards only")
async def _read(world: World) -> None:
    _, bob = await world.people()
    room = await world.room()
    message = await world.message()
    mark = world.client.rooms.mark_read
    ahead = await mark(room.id, seq=message.seq or 1, user_id=bob.id)
    back = await mark(room.id, seq=0, user_id=bob.id)
    expect(back.last_read_seq == ahead.last_read_seq, "it moved back")


@check("Rooms", "a private room does not exist for others")
async def _private(world: World) -> None:
    _ann, bob = await world.people()
    room = await world.new_room(private=True)
    theirs = world.client.as_user(await world.token(bob))
    await refused(theirs.rooms.get(room.id), 404)
    await refused(theirs.rooms.join(room.id), 404)
    await refused(theirs.messages.list(room.id), 404)


@check("Messages", "create answers with the whole message")
async def _create_message(world: World) -> None:
    message = await world.message()
    _expect_fields(message, "id", "room_id", "seq", "user_id", "username", "content", "created_at")


@check("Messages", "somebody who is not a member is 403 not_a_member")
async def _not_a_member(world: World) -> None:
    _ann, bob = await world.people()
    room = await world.new_room()
    call = world.client.messages.create(room.id, content="x", user_id=bob.id)
    await refused(call, 403, "not_a_member")


@check("Messages", "content is 1 to 8,000 characters")
async def _content(world: World) -> None:
    ann, _ = await world.people()
    room = await world.room()
    create = world.client.messages.create
    await create(room.id, content="ü" * LONG, user_id=ann.id)
    for bad in ("", "x" * (LONG + 1)):
        await refused(create(room.id, content=bad, user_id=ann.id), 400)


@check("Messages", "seq counts without a gap, also for many writers at once")
async def _no_gaps(world: World) -> None:
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    await asyncio.gather(
        *(
            world.client.messages.create(
                room.id, content=str(number), user_id=(ann, bob)[number % 2].id
            )
            for number in range(20)
        )
    )
    seqs = [each.seq async for each in world.client.messages.iterate(room.id, after=0, limit=7)]
    expect(seqs == list(range(1, 21)), f"seq runs {seqs}")


@check("Messages", "list: newest first by page, cursors by seq")
async def _cursors(world: World) -> None:
    ann, _ = await world.people()
    room = await world.new_room()
    for number in range(5):
        await world.client.messages.create(room.id, content=str(number), user_id=ann.id)
    listed = world.client.messages.list
    expect(_seqs((await listed(room.id, page=1, limit=2)).items) == [5, 4], "page 1 is not 5, 4")
    expect(_seqs((await listed(room.id, page=3, limit=2)).items) == [1], "page 3 is not 1")
    before = await listed(room.id, before=4, limit=2)
    expect(_seqs(before.items) == [3, 2], f"before 4 is {_seqs(before.items)}")
    expect(before.has_more is True, "has_more is not true")
    after = await listed(room.id, after=3)
    expect(_seqs(after.items) == [4, 5], f"after 3 is {_seqs(after.items)}")
    expect(after.has_more is False, "has_more is not false")


@check("Messages", "a list by cursor ends early at 512 KiB, with has_more, and can be walked on")
async def _sizes(world: World) -> None:
    ann, _ = await world.people()
    room = await world.new_room()
    count = LARGEST_ANSWER // (4 * LONG) + 1
    for _ in range(count):
        await world.client.messages.create(room.id, content="𝄞" * LONG, user_id=ann.id)
    raw = await world.client.with_raw_response(
        world.client.messages.list, room.id, after=0, limit=200
    )
    expect(len(raw.body) <= LARGEST_ANSWER, f"the answer has {len(raw.body)} bytes")
    expect(raw.value.has_more is True, "has_more is not true")
    seqs = [each.seq async for each in world.client.messages.iterate(room.id, after=0, limit=200)]
    expect(seqs == list(range(1, count + 1)), f"seq runs {seqs}")


def _seqs(items: tuple[Message, ...]) -> list[int | None]:
    return [each.seq for each in items]


@check("Messages", "a repeated client_msg_id answers with the first message")
async def _client_msg_id(world: World) -> None:
    ann, _ = await world.people()
    room = await world.room()
    mine = uuid.uuid4().hex
    first, second = [
        await world.client.messages.create(
            room.id, content="once", user_id=ann.id, client_msg_id=mine
        )
        for _ in range(2)
    ]
    expect(first.id == second.id, "there are two messages")


@check("Messages", "Idempotency-Key: the same answer again; another body is 422")
async def _idempotency(world: World) -> None:
    ann, _ = await world.people()
    room = await world.room()
    key = uuid.uuid4().hex
    create = world.client.messages.create
    first = await create(room.id, content="once", user_id=ann.id, idempotency_key=key)
    second = await create(room.id, content="once", user_id=ann.id, idempotency_key=key)
    expect(first.id == second.id, "there are two messages")
    other = create(room.id, content="twice", user_id=ann.id, idempotency_key=key)
    await refused(other, 422, "idempotency_key_reused")


@check("Messages", "edit keeps the place and sets edited_at")
async def _edit(world: World) -> None:
    room, message = await world.room(), await world.message()
    edited = await world.client.messages.update(room.id, message.id, content="better")
    expect((edited.content, edited.seq) == ("better", message.seq), "content or seq do not fit")
    _expect_fields(edited, "edited_at")


@check("Messages", "delete keeps the place, empty")
async def _delete(world: World) -> None:
    ann, _ = await world.people()
    room = await world.room()
    message = await world.client.messages.create(room.id, content="gone", user_id=ann.id)
    await world.client.messages.delete(room.id, message.id)
    page = await world.client.messages.list(room.id, after=(message.seq or 1) - 1, limit=1)
    if not page.items:
        raise Missing("the message cannot be listed")
    expect(page.items[0].id == message.id, "the place is another's")
    expect(page.items[0].content == "", "the content is still there")
    _expect_fields(page.items[0], "deleted_at")


@check("Messages", "with a token: only as oneself, only one's own")
async def _as_oneself(world: World) -> None:
    ann, bob = await world.people()
    room, message = await world.room(), await world.message()
    mine = world.client.as_user(await world.token(bob))
    posted = await mine.messages.create(room.id, content="hi")
    expect(posted.user_id == bob.id, "it is another's")
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: mine.messages.create(room.id, content="x", user_id=ann.id),
        lambda: mine.messages.update(room.id, message.id, content="x"),
        lambda: mine.messages.delete(room.id, message.id),
    ]
    for attempt in attempts:
        try:
            await attempt()
        except ChatError as error:
            expect(error.status in {400, 403}, f"answers {error.status} where 403 is due")
        else:
            expect(condition=False, otherwise="one user acts as another")
