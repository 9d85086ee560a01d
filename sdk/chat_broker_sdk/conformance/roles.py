"""Checks of the roles of members and of the settings of rooms."""

from chat_broker_sdk._models import Room

from .checks import World, check, expect, refused

_ROLES, _SETTINGS = "Roles", "Settings of rooms"


async def _with_bob(world: World, role: str | None = None) -> Room:
    """A new room of Ann's with Bob in it."""
    _, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    if role is not None:
        await world.client.rooms.set_role(room.id, bob.id, role)
    return room


@check(_ROLES, "each role is given, and answered")
async def _roles(world: World) -> None:
    _, bob = await world.people()
    room = await _with_bob(world)
    rooms = world.client.rooms
    for role in ("owner", "moderator", "guest", "member"):
        expect((await rooms.set_role(room.id, bob.id, role)).role == role, f"{role} is not given")
        expect((await rooms.member(room.id, bob.id)).role == role, f"{role} is not kept")
    await refused(rooms.set_role(room.id, bob.id, "admin"), 400)


@check(_ROLES, "the last owner stays one: 409 last_owner")
async def _last_owner(world: World) -> None:
    ann, bob = await world.people()
    room = await _with_bob(world)
    rooms = world.client.rooms
    await refused(rooms.set_role(room.id, ann.id, "member"), 409, "last_owner")
    await rooms.set_role(room.id, bob.id, "owner")
    expect((await rooms.set_role(room.id, ann.id, "member")).role == "member", "it is refused")


@check(_ROLES, "when the last owner leaves, the longest-standing of the highest role follows")
async def _next_owner(world: World) -> None:
    ann, bob = await world.people()
    room = await _with_bob(world, "guest")
    rooms = world.client.rooms
    await rooms.leave(room.id, user_id=ann.id)
    expect((await rooms.member(room.id, bob.id)).role == "owner", "the room has no owner")
    changes = await rooms.changes(room.id, since_rev=0)
    expect(any(each.user_id == bob.id for each in changes.items), "it is no change of the room")


@check(_ROLES, "guests read and do not post: 403 read_only")
async def _guests(world: World) -> None:
    ann, bob = await world.people()
    room = await _with_bob(world, "guest")
    await world.client.messages.create(room.id, content="hello", user_id=ann.id)
    theirs = world.client.as_user(await world.token(bob))
    expect(len((await theirs.messages.list(room.id)).items) == 1, "a guest does not read")
    await refused(theirs.messages.create(room.id, content="x"), 403, "read_only")


@check(_ROLES, "moderators delete messages, but not an owner's")
async def _moderators(world: World) -> None:
    ann, bob = await world.people()
    room = await _with_bob(world, "moderator")
    hers = await world.client.messages.create(room.id, content="x", user_id=ann.id)
    theirs = world.client.as_user(await world.token(bob))
    await refused(theirs.messages.delete(room.id, hers.id), 403)
    await world.client.rooms.set_role(room.id, bob.id, "owner")
    await world.client.rooms.set_role(room.id, ann.id, "guest")
    await world.client.rooms.set_role(room.id, ann.id, "owner")
    await world.client.rooms.set_role(room.id, bob.id, "moderator")
    own = await theirs.messages.create(room.id, content="y")
    await theirs.messages.delete(room.id, own.id)


@check(_ROLES, "the key that names a member acts with their rights")
async def _by(world: World) -> None:
    ann, bob = await world.people()
    room = await _with_bob(world)
    rooms = world.client.rooms
    await refused(rooms.set_role(room.id, bob.id, "owner", by=bob.id), 403, "owner_only")
    await refused(rooms.remove_member(room.id, ann.id, by=bob.id), 403, "owner_only")
    await rooms.set_role(room.id, bob.id, "moderator", by=ann.id)
    await rooms.remove_member(room.id, bob.id, by=ann.id)
    await refused(rooms.put_member(room.id, bob.id, by=bob.id), 404)


@check(_SETTINGS, "one changes without the others; an unknown one is 400")
async def _one_by_one(world: World) -> None:
    room = await world.new_room()
    rooms = world.client.rooms
    expect(room.settings is None, "a new room has settings")
    await rooms.update(room.id, settings={"read_only": True})
    both = await rooms.update(room.id, settings={"slow_mode": 5})
    expect(both.settings == {"read_only": True, "slow_mode": 5}, f"they are {both.settings}")
    await refused(rooms.update(room.id, settings={"no_such_setting": True}), 400)
    back = await rooms.update(room.id, settings={"read_only": False, "slow_mode": 0})
    expect(back.settings is None, f"they are {back.settings}")


@check(_SETTINGS, "read_only: members only read")
async def _read_only(world: World) -> None:
    ann, bob = await world.people()
    room = await _with_bob(world)
    await world.client.rooms.update(room.id, settings={"read_only": True})
    create = world.client.messages.create
    await refused(create(room.id, content="x", user_id=bob.id), 403, "read_only")
    await create(room.id, content="x", user_id=ann.id)


@check(_SETTINGS, "history joined: newcomers see nothing from before")
async def _history(world: World) -> None:
    ann, bob = await world.people()
    room = await world.new_room()
    client = world.client
    await client.messages.create(room.id, content="before", user_id=ann.id)
    await client.rooms.update(room.id, settings={"history": "joined"})
    await client.rooms.join(room.id, user_id=bob.id)
    after = await client.messages.create(room.id, content="after", user_id=ann.id)
    theirs = client.as_user(await world.token(bob))
    seen = (await theirs.messages.list(room.id)).items
    expect([each.id for each in seen] == [after.id], f"{len(seen)} messages are seen")
    member = await client.rooms.member(room.id, bob.id)
    expect(member.from_seq == 2, f"from_seq is {member.from_seq}")
    by_key = (await client.messages.list(room.id, from_seq=2)).items
    expect([each.id for each in by_key] == [after.id], "from_seq is not obeyed")


@check(_SETTINGS, "the key edits as the user whom it names")
async def _edits(world: World) -> None:
    ann, bob = await world.people()
    room = await _with_bob(world)
    message = await world.client.messages.create(room.id, content="x", user_id=ann.id)
    update = world.client.messages.update
    await refused(update(room.id, message.id, content="y", user_id=bob.id), 403, "not_the_author")
    expect((await update(room.id, message.id, content="y", user_id=ann.id)).content == "y", "not")
