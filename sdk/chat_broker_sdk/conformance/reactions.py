"""Checks of reactions to messages, and of pinned messages."""

import uuid

from chat_broker_sdk._models import Message, Room

from .checks import World, check, expect, refused

_REACTIONS, _PINS = "Reactions", "Pins"
_THUMB, _FAMILY = "👍", "👨‍👩‍👧‍👦"


async def _said(world: World, count: int = 1) -> tuple[Room, list[Message]]:
    """A room of both users, to be deleted, and messages of Ann's."""
    ann, bob = await world.people()
    room = await world.new_room()
    await world.client.rooms.join(room.id, user_id=bob.id)
    create = world.client.messages.create
    said = [await create(room.id, content=str(n), user_id=ann.id) for n in range(count)]
    return room, said


@check(_REACTIONS, "a reaction is one a user and emoji, shown by first use")
async def _one_each(world: World) -> None:
    await world.client._api.require("reactions")
    ann, bob = await world.people()
    room, (message,) = await _said(world)
    messages = world.client.messages
    before = (await world.client.rooms.get(room.id)).rev or 0
    for user, emoji in ((ann, _THUMB), (ann, ":wave:"), (bob, _THUMB), (bob, _THUMB)):
        shown = await messages.react(room.id, message.id, emoji, user_id=user.id)
    found = [(each.emoji, each.count, each.user_ids) for each in shown]
    expected = [(_THUMB, 2, (bob.id, ann.id)), (":wave:", 1, (ann.id,))]
    expect(found == expected, f"they are {[each[:2] for each in found]}, or of others")
    read = await messages.get(room.id, message.id)
    expect(read.reactions == shown, "the message shows others")
    expect(read.rev == before + 3, "a reaction that was there takes a rev")
    await world.client.rooms.delete(room.id)


@check(_REACTIONS, "a reaction that is taken back is gone, and one that is not there is no error")
async def _taken_back(world: World) -> None:
    await world.client._api.require("reactions")
    ann, _ = await world.people()
    room, (message,) = await _said(world)
    messages = world.client.messages
    before = (await world.client.rooms.get(room.id)).rev or 0
    await messages.react(room.id, message.id, _FAMILY, user_id=ann.id)
    for _ in range(2):
        left = await messages.unreact(room.id, message.id, _FAMILY, user_id=ann.id)
        expect(left == (), f"{len(left)} are left")
    after = (await messages.get(room.id, message.id)).rev
    expect(after == before + 2, "it took another number of revs")
    await world.client.rooms.delete(room.id)


@check(_REACTIONS, "a user reacts with a chat token")
async def _with_token(world: World) -> None:
    await world.client._api.require("reactions")
    _, bob = await world.people()
    room, (message,) = await _said(world)
    client = world.client.as_user(await world.token(bob))
    shown = await client.messages.react(room.id, message.id, _THUMB)
    expect([each.user_ids for each in shown] == [(bob.id,)], "it is another user's")
    expect(await client.messages.unreact(room.id, message.id, _THUMB) == (), "one is left")
    await world.client.rooms.delete(room.id)


@check(_REACTIONS, "what is neither one emoji nor :name: is refused")
async def _no_emoji(world: World) -> None:
    await world.client._api.require("reactions")
    ann, _ = await world.people()
    room, (message,) = await _said(world)
    for text in (":::", "é", "名前"):
        call = world.client.messages.react(room.id, message.id, text, user_id=ann.id)
        await refused(call, 400)
    await world.client.rooms.delete(room.id)


@check(_REACTIONS, "a message takes twenty different reactions, and loses them when it is deleted")
async def _limits(world: World) -> None:
    await world.client._api.require("reactions")
    ann, bob = await world.people()
    room, (message,) = await _said(world)
    messages = world.client.messages
    for number in range(20):
        await messages.react(room.id, message.id, f":{number}:", user_id=ann.id)
    call = messages.react(room.id, message.id, _THUMB, user_id=ann.id)
    await refused(call, 409, "too_many_reactions")
    await messages.react(room.id, message.id, ":3:", user_id=bob.id)
    await messages.delete(room.id, message.id)
    expect((await messages.get(room.id, message.id)).reactions == (), "it shows some")
    call = messages.react(room.id, message.id, _THUMB, user_id=ann.id)
    await refused(call, 409, "message_deleted")
    await world.client.rooms.delete(room.id)


@check(_REACTIONS, "who reacted is listed page by page")
async def _listed(world: World) -> None:
    await world.client._api.require("reactions")
    ann, bob = await world.people()
    room, (message,) = await _said(world)
    messages = world.client.messages
    for user, emoji in ((ann, _THUMB), (bob, _THUMB), (bob, _FAMILY)):
        await messages.react(room.id, message.id, emoji, user_id=user.id)
    found, cursor = [], None
    for _ in range(5):
        page = await messages.reactions(room.id, message.id, cursor=cursor, limit=1)
        found += [(each.emoji, each.user_id) for each in page.items]
        cursor = page.next_cursor
        if not page.has_more:
            break
    expected = [(_THUMB, bob.id), (_THUMB, ann.id), (_FAMILY, bob.id)]
    expect(found == expected, "they are others, or in another order")
    one = await messages.reactions(room.id, message.id, emoji=_FAMILY)
    expect([each.user_id for each in one.items] == [bob.id], "of one emoji there are others")
    await world.client.rooms.delete(room.id)


@check(_REACTIONS, "nobody reacts in a room that is not theirs")
async def _strangers(world: World) -> None:
    await world.client._api.require("reactions")
    ann, bob = await world.people()
    room = await world.new_room()
    message = await world.client.messages.create(room.id, content="x", user_id=ann.id)
    call = world.client.messages.react(room.id, message.id, _THUMB, user_id=bob.id)
    await refused(call, 403, "not_a_member")
    client = world.client.as_user(await world.token(bob))
    await refused(client.messages.react(room.id, message.id, _THUMB), 404)


@check(_PINS, "pins are listed newest pin first, and end with the message or when they are ended")
async def _pins(world: World) -> None:
    await world.client._api.require("pins")
    ann, _ = await world.people()
    room, said = await _said(world, 3)
    messages, rooms = world.client.messages, world.client.rooms
    for number in (1, 2, 0, 2):
        pinned = await messages.pin(room.id, said[number].id, user_id=ann.id)
        expect(pinned.pinned_at is not None, "pinned_at is missing")
        expect(pinned.pinned_by == ann.id, "pinned_by is another")
    ids = [each.id for each in (await rooms.pins(room.id)).items]
    expect(ids == [said[n].id for n in (0, 2, 1)], "they are others, or in another order")
    unpinned = await messages.unpin(room.id, said[2].id)
    expect(unpinned.pinned_at is None, "it is still pinned")
    await messages.delete(room.id, said[0].id)
    ids = [each.id for each in (await rooms.pins(room.id)).items]
    expect(ids == [said[1].id], "others are left")
    await refused(messages.pin(room.id, said[0].id), 409, "message_deleted")
    await refused(messages.pin(room.id, str(uuid.uuid4())), 404, "message_not_found")
    await world.client.rooms.delete(room.id)


@check(_PINS, "a member without a role sees pins and does not pin")
async def _who_pins(world: World) -> None:
    await world.client._api.require("pins")
    _, bob = await world.people()
    room, (message,) = await _said(world)
    client = world.client.as_user(await world.token(bob))
    await refused(client.messages.pin(room.id, message.id), 403)
    expect((await client.rooms.pins(room.id)).items == (), "something is pinned")
    await world.client.rooms.delete(room.id)
