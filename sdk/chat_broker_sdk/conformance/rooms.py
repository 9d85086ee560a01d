"""Checks of direct rooms, rooms by the app's own id, and several members at once."""

import asyncio
import uuid

from chat_broker_sdk._models import Room

from .checks import World, check, expect, refused

_DIRECT, _EXTERNAL, _MEMBERS = "Direct rooms", "Rooms by own id", "Several members"


async def _ann_and_bob(world: World) -> Room:
    ann, bob = await world.people()
    return world.delete_later(await world.client.rooms.ensure_direct([ann.id, bob.id]))


@check(_DIRECT, "one room for a set of users, for callers at once and in any order")
async def _one_room(world: World) -> None:
    first = await _ann_and_bob(world)
    ann, bob = await world.people()
    pairs = [[ann.id, bob.id], [bob.id, ann.id]] * 3
    rooms = await asyncio.gather(*(world.client.rooms.ensure_direct(pair) for pair in pairs))
    expect({room.id for room in rooms} == {first.id}, "there are several rooms")
    notes = world.delete_later(await world.client.rooms.ensure_direct([ann.id]))
    expect(notes.id != first.id and notes.member_count == 1, "one user alone has no room of notes")


@check(_DIRECT, "a direct room is private, without a name or owner, and has its members")
async def _shape(world: World) -> None:
    room = await _ann_and_bob(world)
    people = await world.people()
    expect((room.kind, room.private, room.name) == ("direct", True, ""), "kind, private or name")
    expect({user.id for user in room.members} == {user.id for user in people}, "other members")
    members = (await world.client.rooms.members(room.id)).items
    expect({member.role for member in members} == {"member"}, "a member has another role")
    listed = await world.client.rooms.list(member_id=people[0].id, kind="direct", limit=200)
    expect(room.id in {each.id for each in listed.items}, "kind=direct does not list it")


@check(_DIRECT, "its members stay as they are: 409 direct_room")
async def _fixed(world: World) -> None:
    room = await _ann_and_bob(world)
    ann, bob = await world.people()
    rooms = world.client.rooms
    await refused(rooms.remove_member(room.id, bob.id), 409, "direct_room")
    await refused(rooms.put_member(room.id, ann.id, role="owner"), 409, "direct_room")
    await refused(rooms.leave(room.id, user_id=ann.id), 409, "direct_room")
    await refused(rooms.update(room.id, name="x"), 409, "direct_room")
    changed = await rooms.update(room.id, metadata={"k": "v"})
    expect(changed.metadata == {"k": "v"}, "its metadata does not change")


@check(_EXTERNAL, "one room for an id of the app's own; who is named later is added")
async def _ensure(world: World) -> None:
    ann, bob = await world.people()
    own_id = f"{world.run}:order.1@x~y"
    ensured = await asyncio.gather(
        *(world.client.rooms.ensure(own_id, name="Order", created_by=ann.id) for _ in range(4))
    )
    room = world.delete_later(ensured[0])
    expect({each.id for each in ensured} == {room.id}, "there are several rooms")
    expect((room.external_id, room.kind) == (own_id, "room"), "external_id or kind")
    again = await world.client.rooms.ensure(
        own_id, name="Other", created_by=ann.id, member_ids=[bob.id]
    )
    expect((again.id, again.name) == (room.id, "Order"), "it is another room, or was renamed")
    expect(again.member_count == 2, "the member who was named is not in it")
    taken = world.client.rooms.create(name="x", created_by=ann.id, external_id=own_id)
    await refused(taken, 409, "external_id_taken")


@check(_EXTERNAL, "external: stands for the id of a room")
async def _named(world: World) -> None:
    ann, _ = await world.people()
    own_id = f"{world.run}-named"
    room = world.delete_later(
        await world.client.rooms.ensure(own_id, name="Order", created_by=ann.id)
    )
    name = f"external:{own_id}"
    said = await world.client.messages.create(name, content="hello", user_id=ann.id)
    expect(said.room_id == room.id, "a message is of another room")
    expect((await world.client.rooms.get(name)).id == room.id, "it is another room")
    expect((await world.client.rooms.member(name, ann.id)).role == "owner", "another membership")
    missing = world.client.rooms.get(f"external:{world.run}-never")
    await refused(missing, 404)


@check(_MEMBERS, "all are added, or none")
async def _add(world: World) -> None:
    await _ann_and_bob(world)  # a server that offers direct rooms has these calls, too
    ann, bob = await world.people()
    room = await world.new_room()
    nobody = str(uuid.uuid4())
    rooms = world.client.rooms
    await refused(rooms.add_members(room.id, [bob.id, nobody]), 404, "user_not_found")
    expect((await rooms.get(room.id)).member_count == 1, "some were added")
    result = await rooms.add_members(room.id, [bob.id, ann.id])
    expect([member.user_id for member in result.added] == [bob.id], "others were added")
    expect(result.there == (ann.id,), "who was there is not said")


@check(_MEMBERS, "members by id, role and name, and page after page by cursor")
async def _some(world: World) -> None:
    await _ann_and_bob(world)  # likewise
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    rooms = world.client.rooms
    by_id = await rooms.members(room.id, ids=[bob.id, str(uuid.uuid4())])
    expect([member.user_id for member in by_id.items] == [bob.id], "by id come others")
    owners = await rooms.members(room.id, role="owner")
    expect([member.user_id for member in owners.items] == [ann.id], "by role come others")
    named = await rooms.members(room.id, q=bob.username)
    expect([member.user_id for member in named.items] == [bob.id], "by name come others")
    first = await rooms.members(room.id, cursor="", limit=1)
    expect(first.has_more and first.next_cursor, "it does not go on")
    rest = await rooms.members(room.id, cursor=first.next_cursor, limit=1)
    found = {member.user_id for member in (*first.items, *rest.items)}
    expect(found == {ann.id, bob.id}, "a member is missing")
    expect(not rest.has_more, "it has no end")
