"""Checks of what users set about themselves, whom they block, and how they find each other."""

import asyncio
import uuid

from chat_broker_sdk._models import ChatUser, PublicUser

from .checks import World, check, expect, refused

_BLOCKS, _SETTINGS, _DIRECTORY = "Blocks", "Settings of users", "Directory"


@check(_SETTINGS, "what is set stays set, and the rest as it was")
async def _settings(world: World) -> None:
    _, bob = await world.people()
    users = world.client.users
    before = await users.settings(bob.id)
    changed = await users.update_settings(bob.id, presence="hidden", notify="mentions")
    try:
        expect(changed == await users.settings(bob.id), "the answer and what is stored differ")
        expect((changed.presence, changed.notify) == ("hidden", "mentions"), "it is not set")
        rest = (before.receipts, before.push_preview)
        expect((changed.receipts, changed.push_preview) == rest, "more is set")
        await refused(users.update_settings(bob.id, no_such_setting=True), 400)
    finally:
        back = await users.update_settings(bob.id, presence="visible", notify=None)
    expect((back.presence, back.notify) == ("visible", None), "null does not clear")


@check(_BLOCKS, "who is blocked is listed, once, as others see them")
async def _blocks(world: World) -> None:
    ann, bob = await world.people()
    users = world.client.users
    for _ in range(2):
        await users.block(bob.id, ann.id)
    try:
        found = [each async for each in users.iterate_blocks(bob.id)]
        expect(found == [_public(ann)], f"{len(found)} users are listed, or with other fields")
        expect((await users.blocks(ann.id)).items == (), "the blocked user has a block")
        await refused(users.block(bob.id, bob.id), 400)
        await refused(users.block(bob.id, str(uuid.uuid4())), 404)
    finally:
        for _ in range(2):
            await users.unblock(bob.id, ann.id)
    expect((await users.blocks(bob.id)).items == (), "a block does not end")


@check(_BLOCKS, "messages of the blocked are not unread, and clients are told to reload")
async def _unread(world: World) -> None:
    ann, bob = await world.people()
    users, rooms = world.client.users, world.client.rooms
    await users.blocks(bob.id)
    await rooms.mark_all_read(bob.id)
    room = await world.new_room(member_ids=[bob.id])
    await world.client.messages.create(room.id, content="hello", user_id=ann.id)
    version = (await world.client.sync(user_id=bob.id)).version or 0
    await users.block(bob.id, ann.id)
    try:
        mine = await rooms.mine(room.id, user_id=bob.id)
        expect(mine.unread == 0, f"unread is {mine.unread}")
        expect((await users.unread(bob.id)).messages == 0, "the totals count it")
        if await world.client.supports("sync"):
            news = await world.client.sync(user_id=bob.id, have_version=version)
            expect(news.reload, "sync does not say reload")
            expect((news.version or 0) > version, "version does not grow")
    finally:
        await users.unblock(bob.id, ann.id)
    mine = await rooms.mine(room.id, user_id=bob.id)
    await rooms.delete(room.id)
    expect(mine.unread == 1, f"unblocked, unread is {mine.unread}")


@check(_BLOCKS, "no direct room of the two is made or posted to")
async def _direct(world: World) -> None:
    ann, bob = await world.people()
    users, rooms = world.client.users, world.client.rooms
    await users.blocks(bob.id)
    room = world.delete_later(await rooms.ensure_direct([ann.id, bob.id]))
    post = world.client.messages.create
    await users.block(bob.id, ann.id)
    try:
        for user in (ann, bob):
            await refused(post(room.id, content="x", user_id=user.id), 403, "blocked")
        expect((await rooms.ensure_direct([ann.id, bob.id])).id == room.id, "it is gone")
        await rooms.delete(room.id)
        await refused(rooms.ensure_direct([ann.id, bob.id]), 403, "blocked")
    finally:
        await users.unblock(bob.id, ann.id)


@check(_DIRECTORY, "users are found by what their names begin with, not by who blocks")
async def _directory(world: World) -> None:
    ann, bob = await world.people()
    users = world.client.users

    async def found(q: str) -> set[str]:
        return {each.id for each in await users.directory(bob.id, q)}

    both = {ann.id, bob.id}
    expect(await found(ann.username[:-3].upper()) == both, "the beginning of a username")
    expect(await found(ann.username) == {ann.id}, "the whole username")
    expect(await found(ann.username[1:]) == set(), "the middle of a username is enough")
    await users.block(ann.id, bob.id)
    try:
        expect(await found(ann.username) == set(), "who blocks is found")
    finally:
        await users.unblock(ann.id, bob.id)
    await refused(users.directory(bob.id, ""), 400)
    await refused(users.directory(bob.id, "a", limit=21), 400)


@check("Socket.IO", "a new name is told to those who share a small room, a block to who blocks")
async def _told(world: World) -> None:
    ann, bob = await world.people()
    room = await world.new_room(member_ids=[bob.id])
    await world.client.users.blocks(bob.id)
    told: list[PublicUser] = []
    reloads: list[bool] = []
    heard = asyncio.Event()
    client = world.client.as_user(await world.token(bob))
    try:
        await client.socket.connect()

        @client.socket.on_user_updated
        def _(user: PublicUser) -> None:
            told.append(user)
            heard.set()

        client.socket.on_mine(lambda event: reloads.append(event.reload))

        await client.socket.join_room(room.id, since_seq=0, since_rev=0)
        await world.client.users.block(bob.id, ann.id)
        await world.client.users.unblock(bob.id, ann.id)
        name = f"Ann {uuid.uuid4().hex[:6]}"
        await world.client.users.update(ann.id, display_name=name)
        try:
            async with asyncio.timeout(3):
                await heard.wait()
        except TimeoutError:
            expect(condition=False, otherwise="userUpdated does not come within 3 s")
    finally:
        await client.aclose()
        await world.client.rooms.delete(room.id)
        await world.client.users.update(ann.id, display_name=ann.display_name)
    expect((told[0].id, told[0].display_name) == (ann.id, name), "it is another user or name")
    expect(reloads == [True, True], f"a block and its end are told as {reloads}")


def _public(user: ChatUser) -> PublicUser:
    return PublicUser(
        id=user.id,
        username=user.username,
        display_name=user.display_name,
        avatar_url=user.avatar_url,
    )
