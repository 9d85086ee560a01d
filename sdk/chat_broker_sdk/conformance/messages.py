"""Checks of what messages may have: replies, mentions, silence, and what happened in a room."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from chat_broker_sdk._errors import ChatError
from chat_broker_sdk._models import Room

from .checks import World, check, expect, refused

_REPLIES, _MENTIONS, _OTHERS = "Replies", "Mentions", "Silent and system messages"


@asynccontextmanager
async def _own_room(world: World, *member_ids: str) -> AsyncIterator[Room]:
    """A room that is deleted at the end: other checks count the rooms of a user."""
    room = await world.new_room(member_ids=list(member_ids))
    try:
        yield room
    finally:
        with suppress(ChatError):
            await world.client.rooms.delete(room.id)


@check(_REPLIES, "a reply shows what it answers, as it is now")
async def _replies(world: World) -> None:
    ann, bob = await world.people()
    async with _own_room(world, bob.id) as room:
        messages = world.client.messages
        question = await messages.create(room.id, content="q" * 300, user_id=ann.id)
        reply = await messages.create(room.id, content="a", user_id=bob.id, reply_to=question.id)
        quote = reply.reply_to
        expect(quote is not None, "it has no reply_to")
        if quote is None:
            return
        expect(
            (quote.id, quote.seq, quote.user_id) == (question.id, question.seq, ann.id), "another"
        )
        expect(quote.content == "q" * 200, f"{len(quote.content)} characters are quoted, not 200")
        page = await messages.list(room.id)
        expect(page.items[0].reply_to == quote, "the list shows another quote")
        await messages.update(room.id, question.id, content="other")
        again = (await messages.list(room.id)).items[0].reply_to
        expect(again is not None and again.content == "other", "it does not follow an edit")
        await messages.delete(room.id, question.id)
        again = (await messages.list(room.id)).items[0].reply_to
        expect(again is not None and again.content == "", "it does not follow a deletion")


@check(_REPLIES, "a message of another room cannot be answered")
async def _replies_elsewhere(world: World) -> None:
    ann, _ = await world.people()
    async with _own_room(world) as room, _own_room(world) as other:
        messages = world.client.messages
        elsewhere = await messages.create(other.id, content="x", user_id=ann.id)
        for reply_to in (elsewhere.id, str(uuid.uuid4())):
            call = messages.create(room.id, content="y", user_id=ann.id, reply_to=reply_to)
            await refused(call, 404)


@check(_MENTIONS, "mentions are counted for whom they name, and listed newest first")
async def _mentions(world: World) -> None:
    ann, bob = await world.people()
    async with _own_room(world, bob.id) as room:
        client = world.client
        before = await client.users.unread(bob.id)
        one = await client.messages.create(room.id, content="1", user_id=ann.id, mentions=[bob.id])
        expect(one.mentions == (bob.id,), "the answer does not name whom it names")
        two = await client.messages.create(room.id, content="2", user_id=ann.id, mention_room=True)
        expect(two.mention_room, "the answer does not say that it names everybody")
        await client.messages.create(room.id, content="3", user_id=ann.id)
        mine = await client.rooms.mine(room.id, user_id=bob.id)
        expect(
            (mine.unread, mine.mentions) == (3, 2),
            f"unread, mentions: {mine.unread, mine.mentions}",
        )
        own = await client.rooms.mine(room.id, user_id=ann.id)
        expect(own.mentions == 0, "the author is named")
        after = await client.users.unread(bob.id)
        expect(after.mentions == before.mentions + 2, "the totals count them otherwise")
        found = [each.id async for each in client.users.iterate_mentions(bob.id, limit=1)]
        expect(found[:2] == [two.id, one.id], "they are not listed, or in another order")
        await client.rooms.leave(room.id, user_id=bob.id)
        left = [each.id async for each in client.users.iterate_mentions(bob.id)]
        expect(not {one.id, two.id} & set(left), "those of a room that was left are listed")


@check(_MENTIONS, "who is no member cannot be named; an edit names others")
async def _mentions_edited(world: World) -> None:
    ann, bob = await world.people()
    async with _own_room(world) as room:
        messages = world.client.messages
        call = messages.create(room.id, content="x", user_id=ann.id, mentions=[ann.id, bob.id])
        error = await refused(call, 400)
        expect(
            [each.field for each in error.errors] == ["mentions[1]"],
            "the error names another field",
        )
        await world.client.rooms.join(room.id, user_id=bob.id)
        message = await messages.create(room.id, content="x", user_id=ann.id)
        await messages.update(room.id, message.id, mentions=[bob.id])
        mine = await world.client.rooms.mine(room.id, user_id=bob.id)
        expect(mine.mentions == 1, "an edit names nobody")
        edited = await messages.update(room.id, message.id, mentions=[])
        expect((edited.mentions, edited.content) == ((), "x"), "an edit to no mentions")


@check(_OTHERS, "silent and system messages are unread for nobody")
async def _uncounted(world: World) -> None:
    ann, bob = await world.people()
    await world.client.project()
    if not await world.client.supports("replies"):
        return
    async with _own_room(world, bob.id) as room:
        messages = world.client.messages
        silent = await messages.create(room.id, content="x", user_id=ann.id, silent=True)
        expect(silent.silent, "the answer does not say that it is silent")
        told = await messages.create(
            room.id, content="It was sent.", user_id=ann.id, event={"name": "order.sent"}
        )
        expect(
            (told.type, told.event) == ("system", {"name": "order.sent"}), "another type or event"
        )
        await messages.create(room.id, content="y", user_id=ann.id)
        mark = await world.client.rooms.mark_read(room.id, user_id=bob.id, seq=0)
        expect(mark.unread == 1, f"unread is {mark.unread}")
        await refused(messages.update(room.id, told.id, content="z"), 409)
