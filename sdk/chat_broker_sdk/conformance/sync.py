"""Checks of the optional features that keep a client's copy of its rooms right."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

from chat_broker_sdk._errors import ConflictError
from chat_broker_sdk._models import Room, SyncResult, Totals

from .checks import World, check, expect, refused

_CHANGES, _MINE, _SYNC = "Changes", "Own side of a room", "Sync"


async def _room_of_both(world: World, messages: int) -> tuple[Room, list[str]]:
    """A room of Ann and Bob with so many messages of Ann's, and their ids."""
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    posted = [
        await world.client.messages.create(room.id, content=str(number), user_id=ann.id)
        for number in range(1, messages + 1)
    ]
    return room, [message.id for message in posted]


@check(_CHANGES, "changes are present states, each object once, by rev")
async def _changes(world: World) -> None:
    await world.client.rooms.changes((await world.room()).id, since_rev=0, limit=1)
    room, (first, second) = await _room_of_both(world, 2)
    start = (await world.client.rooms.get(room.id)).rev or 0
    for text in ("x", "y"):
        await world.client.messages.update(room.id, first, content=text)
    await world.client.messages.delete(room.id, second)
    await world.client.rooms.update(room.id, description="changed")
    page = await world.client.rooms.changes(room.id, since_rev=start)
    kinds = [change.kind for change in page.items]
    expect(kinds == ["message", "message", "room"], f"the kinds are {kinds}")
    revs = [change.rev - start for change in page.items]
    expect(revs == [2, 3, 4], f"the revs after the first are {revs}")
    edited, deleted = page.items[0].message, page.items[1].message
    expect(edited is not None and (edited.id, edited.content) == (first, "y"), "not as it is now")
    expect(deleted is not None and deleted.deleted_at is not None, "a deletion is not told")
    expect((page.rev, page.has_more) == (start + 4, False), "rev or has_more do not fit")


@check(_CHANGES, "changes can be walked, and know who is gone")
async def _walk(world: World) -> None:
    await world.client.rooms.changes((await world.room()).id, since_rev=0, limit=1)
    _, bob = await world.people()
    room, messages = await _room_of_both(world, 3)
    start = (await world.client.rooms.get(room.id)).rev or 0
    for message in messages:
        await world.client.messages.delete(room.id, message)
    await world.client.rooms.leave(room.id, user_id=bob.id)
    walk = world.client.rooms.iterate_changes(room.id, since_rev=start, limit=2)
    walked = [change async for change in walk]
    expect([each.rev - start for each in walked] == [1, 2, 3, 4], "the walk has other revs")
    gone = walked[-1]
    expect(
        (gone.kind, gone.user_id, gone.member) == ("member", bob.id, None), "who left is not said"
    )
    later = await world.client.rooms.changes(room.id, since_rev=start, from_seq=3)
    seqs = [each.message.seq for each in later.items if each.message]
    expect(seqs == [3], f"with from_seq=3 come messages {seqs}")


@check(_CHANGES, "a rev beyond the room's is answered with reset")
async def _reset(world: World) -> None:
    page = await world.client.rooms.changes((await world.room()).id, since_rev=10**6)
    expect(page.reset, "reset is not true")
    expect(page.items == (), "there are items")


@check(_CHANGES, "an edit with an old if_rev is 409 changed")
async def _if_rev(world: World) -> None:
    await world.client.rooms.changes((await world.room()).id, since_rev=0, limit=1)
    room, (message,) = await _room_of_both(world, 1)
    edited = await world.client.messages.update(room.id, message, content="b", if_rev=0)
    call = world.client.messages.update(room.id, message, content="c", if_rev=0)
    error = await refused(call, 409, "changed")
    expect(isinstance(error, ConflictError) and error.rev == edited.rev, "it does not say the rev")
    again = await world.client.messages.update(room.id, message, content="c", if_rev=edited.rev)
    expect(again.content == "c", "the present rev is refused")


@check(_CHANGES, "messages around a seq, by id, and one alone")
async def _some_messages(world: World) -> None:
    await world.client.rooms.changes((await world.room()).id, since_rev=0, limit=1)
    room, messages = await _room_of_both(world, 6)
    around = await world.client.messages.list(room.id, around=4, limit=3)
    seqs = [message.seq for message in around.items]
    expect(seqs == sorted(seqs, key=lambda seq: seq or 0), f"they run {seqs}")
    expect(4 in seqs and 1 < len(seqs) <= 3, f"around 4 are {seqs}")
    expect(around.has_before is True, "has_before is not true")
    chosen = [messages[4], messages[1], str(uuid.uuid4())]
    some = [each.id for each in (await world.client.messages.list(room.id, ids=chosen)).items]
    expect(some == [messages[1], messages[4]], "by id come others, or in another order")
    expect((await world.client.messages.get(room.id, messages[2])).seq == 3, "it is another")
    await refused(world.client.messages.get(room.id, str(uuid.uuid4())), 404, "message_not_found")


@check(_CHANGES, "a newcomer starts read")
async def _newcomer(world: World) -> None:
    await world.client.rooms.changes((await world.room()).id, since_rev=0, limit=1)
    ann, bob = await world.people()
    room = await world.new_room()
    await world.client.messages.create(room.id, content="before", user_id=ann.id)
    member = await world.client.rooms.join(room.id, user_id=bob.id)
    expect(member.last_read_seq == 1, f"last_read_seq is {member.last_read_seq}")


@check(_MINE, "a member's own side is changed by itself alone")
async def _own_side(world: World) -> None:
    ann, bob = await world.people()
    rooms = world.client.rooms
    await rooms.mine((await world.room()).id, user_id=ann.id)
    room, _ = await _room_of_both(world, 1)
    before = await rooms.mine(room.id, user_id=bob.id)
    expect((before.archived, before.unread, before.from_seq) == ("no", 1, 1), "it begins otherwise")
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    changed = await rooms.update_mine(
        room.id, user_id=bob.id, notify="none", muted_until=until, pinned=True
    )
    expect(
        changed.notify == "none" and changed.muted_until == until, "what was set is not answered"
    )
    expect(changed.pinned_at is not None, "pinned_at is missing")
    expect(changed.version > before.version, "version did not grow")
    cleared = await rooms.update_mine(room.id, user_id=bob.id, clear_history=True, muted_until=None)
    expect((cleared.from_seq, cleared.unread) == (2, 0), "history is not cleared")
    expect(cleared.muted_until is None, "null does not clear")
    theirs = await rooms.mine(room.id, user_id=ann.id)
    expect((theirs.notify, theirs.from_seq) == (None, 1), "it changed for another member")
    await refused(rooms.update_mine(room.id, user_id=bob.id, no_such_field=1), 400)


@check(_MINE, "archived until the next message")
async def _archived(world: World) -> None:
    ann, bob = await world.people()
    await world.client.rooms.mine((await world.room()).id, user_id=ann.id)
    room, _ = await _room_of_both(world, 1)
    update = world.client.rooms.update_mine
    mine = await update(room.id, user_id=bob.id, archived="until_message")
    expect(mine.archived == "until_message", f"archived is {mine.archived}")
    await world.client.messages.create(room.id, content="new", user_id=ann.id)
    mine = await world.client.rooms.mine(room.id, user_id=bob.id)
    expect(mine.archived == "no", f"after a message archived is {mine.archived}")


@check(_MINE, "totals count what is unread, silenced rooms apart")
async def _totals(world: World) -> None:
    ann, bob = await world.people()
    rooms = world.client.rooms
    await rooms.mine((await world.room()).id, user_id=ann.id)
    await rooms.mark_all_read(bob.id)
    expect((await world.client.users.unread(bob.id)) == Totals(), "something is left unread")
    (one, _), (other, _) = await _room_of_both(world, 2), await _room_of_both(world, 1)
    await rooms.update_mine(other.id, user_id=bob.id, notify="none")
    found = await world.client.users.unread(bob.id)
    expect(
        (found.rooms, found.messages) == (1, 2), f"rooms, messages: {found.rooms, found.messages}"
    )
    await refused(rooms.mark_all_read(bob.id, rooms={one.id: 2, str(uuid.uuid4()): 1}), 404)
    expect((await world.client.users.unread(bob.id)).messages == 2, "a refused call marks")
    totals = await rooms.mark_all_read(bob.id, rooms={one.id: 2})
    expect(totals.messages == 0, f"{totals.messages} are left")


@check(_MINE, "the mark of delivery moves forwards only, and follows the read mark")
async def _delivered(world: World) -> None:
    ann, bob = await world.people()
    await world.client.rooms.mine((await world.room()).id, user_id=ann.id)
    room, _ = await _room_of_both(world, 3)
    deliver = world.client.rooms.mark_delivered
    seqs = [(await deliver(room.id, seq=seq, user_id=bob.id)).delivered_seq for seq in (2, 1)]
    expect(seqs == [2, 2], f"it runs {seqs}")
    await world.client.rooms.mark_read(room.id, seq=3, user_id=bob.id)
    mine = await world.client.rooms.mine(room.id, user_id=bob.id)
    expect(mine.delivered_seq == 3, f"after reading 3 it is {mine.delivered_seq}")


@check(_MINE, "rooms by activity, with a cursor and with mine")
async def _by_activity(world: World) -> None:
    ann, bob = await world.people()
    await world.client.rooms.mine((await world.room()).id, user_id=ann.id)
    rooms = [(await _room_of_both(world, 1))[0].id for _ in range(2)]
    await asyncio.sleep(0.01)  # instants have milliseconds
    await world.client.messages.create(rooms[0], content="newest", user_id=ann.id)
    listed = world.client.rooms.list
    first = await listed(member_id=bob.id, sort="activity", limit=1)
    expect([each.id for each in first.items] == [rooms[0]], "the first is another")
    expect(first.items[0].mine is not None, "mine is missing")
    last = first.items[0].last_message
    expect(last is not None and last.content == "newest", "last_message is another")
    expect(first.has_more and first.next_cursor, "it does not go on")
    second = await listed(member_id=bob.id, sort="activity", limit=1, cursor=first.next_cursor)
    expect([each.id for each in second.items] == [rooms[1]], "the second is another")


async def _have(world: World, user_id: str) -> tuple[dict[str, tuple[int, int, int]], SyncResult]:
    """All that sync says of the user's rooms, as `have`, and its last answer."""
    have: dict[str, tuple[int, int, int]] = {}
    cursor = None
    while True:
        answer = await world.client.sync(user_id=user_id, limit=200, cursor=cursor)
        for each in answer.deltas:
            version = each.mine.version if each.mine else 0
            have[each.room.id] = each.last_seq, each.rev, version
        cursor = answer.cursor
        if not answer.has_more:
            return have, answer


@check(_SYNC, "sync answers what differs, and nothing else")
async def _sync(world: World) -> None:
    await world.client._api.require("sync")
    ann, bob = await world.people()
    (one, (first, _)), (other, _) = await _room_of_both(world, 2), await _room_of_both(world, 1)
    have, last = await _have(world, bob.id)
    sync = world.client.sync
    same = await sync(user_id=bob.id, have=have, epoch=last.epoch, token=last.token)
    expect((same.deltas, same.removed) == ((), ()), "something differs that did not change")
    await world.client.messages.update(one.id, first, content="edited")
    for text in ("a", "b"):
        await world.client.messages.create(one.id, content=text, user_id=ann.id)
    await world.client.rooms.leave(other.id, user_id=bob.id)
    news = await sync(user_id=bob.id, have=have, epoch=last.epoch, token=last.token, messages=1)
    expect([each.room.id for each in news.deltas] == [one.id], "not exactly the changed room")
    delta = news.deltas[0]
    expect([each.content for each in delta.missed] == ["b"], "missed is not the newest message")
    changed = [each.message.content for each in delta.changed if each.message]
    expect(changed == ["edited"], "the edit is not told")
    expect(news.removed == (other.id,), "the left room is not removed")
    expect(news.unread == await world.client.users.unread(bob.id), "the totals are others")


@check(_SYNC, "another epoch, or numbers beyond the room's, are answered with reset")
async def _sync_reset(world: World) -> None:
    await world.client._api.require("sync")
    _, bob = await world.people()
    room, _ = await _room_of_both(world, 1)
    sync = world.client.sync
    foreign = await sync(user_id=bob.id, have={room.id: (1, 0, 0)}, epoch="no such epoch")
    expect([each.reset for each in foreign.deltas if each.room.id == room.id] == [True], "epoch")
    ahead = await sync(user_id=bob.id, have={room.id: (99, 0, 0)}, messages=20)
    found = [each for each in ahead.deltas if each.room.id == room.id]
    expect([each.reset for each in found] == [True], "a last_seq beyond the room's is believed")
    expect([each.seq for each in found[0].missed] == [1], "missed is not what there is")
