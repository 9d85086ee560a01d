"""Features that keep a client's copy of its rooms right, over the Chat API in memory; and a server without them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from chat_broker_sdk import (
    AsyncChatClient,
    AuthenticationError,
    ChatUser,
    ConflictError,
    Dialect,
    NotFoundError,
    Room,
    Totals,
    UnsupportedOperationError,
    ValidationError,
)
from chat_broker_sdk._emulation import sync_plan
from chat_broker_sdk._errors import from_problem
from chat_broker_sdk.testing import FakeChatApi


@pytest.fixture
async def old_chat() -> FakeChatApi:
    """A server that knows nothing of features."""
    return FakeChatApi(features=())


@pytest.fixture
async def old(old_chat: FakeChatApi) -> AsyncIterator[AsyncChatClient]:
    async with old_chat.client() as client:
        yield client


async def cast(client: AsyncChatClient) -> tuple[ChatUser, ChatUser, Room]:
    """Ann, Bob, and Ann's room with both in it."""
    ann = await client.users.create(username="ann", external_user_id="1")
    bob = await client.users.create(username="bob", external_user_id="2")
    room = await client.rooms.create(name="Room", created_by=ann.id, member_ids=[bob.id])
    return ann, bob, room


# -- what a server offers -------------------------------------------------------------------------


async def test_features_are_asked_for_once_and_shared_by_copies(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    assert await client.supports("changes")
    assert not await client.supports("threads")
    project = await client.project()
    assert project.epoch
    assert project.limits["content"] == 8000
    ann = await client.users.create(username="ann", external_user_id="1")
    token = await client.users.generate_token(ann.id)
    assert await client.as_user(token.token).supports("sync")
    assert fake_chat.count("GET /api/v1/project$") == 1
    fake_chat.store.epoch = "restored"
    assert (await client.project()).epoch == project.epoch
    assert (await client.project(refresh=True)).epoch == "restored"


async def test_a_token_alone_learns_features_too(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    ann, _, _ = await cast(client)
    token = await client.users.generate_token(ann.id)
    async with fake_chat.client(jwt_token=token.token) as mine:
        assert await mine.supports("mine")
        assert (await mine.rooms.list()).total == 1
    assert fake_chat.count("GET /api/v1/auth/verify$") == 0


async def test_a_dead_token_teaches_nobody_that_there_are_no_features(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    ann, _, _ = await cast(client)
    token = (await client.users.generate_token(ann.id)).token
    await client.users.revoke_token(ann.id)
    async with fake_chat.client(jwt_token=token) as mine:
        with pytest.raises(AuthenticationError):
            await mine.supports("mine")
        mine.set_jwt_token((await client.users.generate_token(ann.id)).token)
        assert await mine.supports("mine")


async def test_a_server_that_names_no_features_has_none(
    old: AsyncChatClient, old_chat: FakeChatApi
) -> None:
    ann, _, room = await cast(old)
    assert (await old.project()).features == ()
    message = await old.messages.create(room.id, content="a", user_id=ann.id)
    before = len(old_chat.seen)
    calls = [
        ("changes", old.rooms.changes(room.id, since_rev=0)),
        ("changes", old.messages.get(room.id, message.id)),
        ("changes", old.messages.list(room.id, ids=[message.id])),
        ("changes", old.messages.list(room.id, around=1)),
        ("changes", old.messages.update(room.id, message.id, content="b", if_rev=0)),
        ("mine", old.rooms.mine(room.id, user_id=ann.id)),
        ("mine", old.rooms.update_mine(room.id, user_id=ann.id, pinned=True)),
        ("mine", old.rooms.mark_delivered(room.id, seq=1, user_id=ann.id)),
        ("mine", old.rooms.mark_all_read(ann.id)),
        ("mine", old.rooms.list(member_id=ann.id, sort="activity")),
        ("mine", old.rooms.list(member_id=ann.id, archived=False)),
    ]
    for feature, call in calls:
        with pytest.raises(UnsupportedOperationError) as caught:
            await call
        assert (caught.value.code, caught.value.feature) == ("unsupported", feature)
        assert caught.value.status is None
    assert len(old_chat.seen) == before, "nothing was sent"
    assert (await old.messages.update(room.id, message.id, content="b")).content == "b"


async def test_an_old_server_is_asked_whom_a_token_is_for(
    old: AsyncChatClient, old_chat: FakeChatApi
) -> None:
    ann, _, _ = await cast(old)
    token = await old.users.generate_token(ann.id)
    async with old_chat.client(jwt_token=token.token) as mine:
        assert not await mine.supports("mine")
        assert (await mine.project()).id == "fake-project"


async def test_the_dialect_overrides_what_a_server_says(fake_chat: FakeChatApi) -> None:
    dialect = Dialect(features=frozenset({"changes"}))
    async with fake_chat.client(dialect=dialect) as client:
        ann, _, room = await cast(client)
        assert (await client.rooms.changes(room.id, since_rev=0)).items == ()
        with pytest.raises(UnsupportedOperationError):
            await client.rooms.mine(room.id, user_id=ann.id)


def test_what_an_error_carries_is_read_in_its_expected_shape_alone() -> None:
    def error(status: int, **fields: object) -> object:
        return from_problem(status, fields, request_id=None, retry_after=None)

    assert error(409, code="changed", rev=7).rev == 7  # type: ignore[attr-defined]
    assert error(409, code="changed", rev="7").rev is None  # type: ignore[attr-defined]
    assert error(409, code="changed", rev=True).rev is None  # type: ignore[attr-defined]
    assert error(501, code="unsupported", feature="pins").feature == "pins"  # type: ignore[attr-defined]
    assert error(501, code="unsupported", feature="<b>").feature is None  # type: ignore[attr-defined]


# -- changes --------------------------------------------------------------------------------------


async def test_changes_are_present_states_each_object_once(client: AsyncChatClient) -> None:
    ann, bob, room = await cast(client)
    assert (room.rev, room.small) == (None, True)
    first, second = [
        await client.messages.create(room.id, content=text, user_id=ann.id) for text in "ab"
    ]
    assert first.rev is None
    assert (await client.messages.update(room.id, first.id, content="x")).rev == 1
    assert (await client.messages.update(room.id, first.id, content="y")).rev == 2
    await client.messages.delete(room.id, second.id)
    await client.messages.delete(room.id, second.id)
    await client.rooms.update(room.id, name="New")
    await client.rooms.leave(room.id, user_id=bob.id)
    page = await client.rooms.changes(room.id, since_rev=0)
    assert [(each.rev, each.kind) for each in page.items] == [
        (2, "message"),
        (3, "message"),
        (4, "room"),
        (5, "member"),
    ]
    edited, deleted, renamed, gone = page.items
    assert edited.message
    assert deleted.message
    assert renamed.room
    assert (edited.message.content, deleted.message.content) == ("y", "")
    assert (renamed.room.name, renamed.room.rev) == ("New", 5)
    assert (gone.member, gone.user_id) == (None, bob.id)
    assert (page.rev, page.has_more, page.reset) == (5, False, False)
    below = await client.rooms.changes(room.id, since_rev=2, from_seq=3)
    assert [each.kind for each in below.items] == ["room", "member"]


async def test_changes_are_walked_to_their_end(client: AsyncChatClient) -> None:
    ann, _, room = await cast(client)
    for number in range(5):
        message = await client.messages.create(room.id, content="a", user_id=ann.id)
        await client.messages.update(room.id, message.id, content=str(number))
    walked = [
        each.message.content
        async for each in client.rooms.iterate_changes(room.id, since_rev=1, limit=2)
        if each.message
    ]
    assert walked == ["1", "2", "3", "4"]
    assert (await client.rooms.changes(room.id, since_rev=99)).reset
    with pytest.raises(ConflictError) as caught:
        _ = [each async for each in client.rooms.iterate_changes(room.id, since_rev=99)]
    assert caught.value.code == "reset"


async def test_messages_by_id_and_around_one(client: AsyncChatClient) -> None:
    ann, _, room = await cast(client)
    posted = [
        await client.messages.create(room.id, content=str(number), user_id=ann.id)
        for number in range(1, 10)
    ]
    assert await client.messages.get(room.id, posted[3].id) == posted[3]
    some = await client.messages.list(room.id, ids=[posted[6].id, posted[1].id, "nobody"])
    assert [each.seq for each in some.items] == [2, 7]
    around = await client.messages.list(room.id, around=5, limit=4)
    assert [each.seq for each in around.items] == [3, 4, 5, 6]
    assert (around.has_before, around.has_after) == (True, True)
    first = await client.messages.list(room.id, around=1, limit=4)
    assert [each.seq for each in first.items] == [1, 2, 3, 4]
    assert (first.has_before, first.has_after) == (False, True)
    with pytest.raises(NotFoundError) as caught:
        await client.messages.get(room.id, "nobody")
    assert caught.value.code == "message_not_found"
    with pytest.raises(ValidationError):
        await client.messages.list(room.id, ids=["a,b"])


async def test_an_edit_of_what_was_changed_meanwhile_is_refused(client: AsyncChatClient) -> None:
    ann, _, room = await cast(client)
    message = await client.messages.create(room.id, content="a", user_id=ann.id)
    edited = await client.messages.update(room.id, message.id, content="b", if_rev=0)
    with pytest.raises(ConflictError) as caught:
        await client.messages.update(room.id, message.id, content="c", if_rev=0)
    assert (caught.value.code, caught.value.rev) == ("changed", edited.rev)
    await client.messages.update(room.id, message.id, content="c", if_rev=edited.rev)


# -- a member's own side --------------------------------------------------------------------------


async def test_ones_own_side_of_a_room(client: AsyncChatClient) -> None:
    ann, bob, room = await cast(client)
    for text in ("one", "two"):
        await client.messages.create(room.id, content=text, user_id=ann.id)
    mine = await client.rooms.mine(room.id, user_id=bob.id)
    assert (mine.role, mine.unread, mine.from_seq, mine.version) == ("member", 2, 1, 0)
    later = datetime.now(UTC) + timedelta(hours=1)
    changed = await client.rooms.update_mine(
        room.id, user_id=bob.id, muted_until=later, pinned=True, notify="mentions"
    )
    assert changed.muted_until == later
    assert changed.pinned_at is not None
    assert (changed.notify, changed.version) == ("mentions", 1)
    cleared = await client.rooms.update_mine(
        room.id, user_id=bob.id, muted_until=None, notify=None, pinned=False, clear_history=True
    )
    assert (cleared.muted_until, cleared.notify, cleared.pinned_at) == (None, None, None)
    assert (cleared.from_seq, cleared.unread) == (3, 0)
    token = await client.users.generate_token(bob.id)
    own = client.as_user(token.token)
    assert await own.rooms.mine(room.id) == cleared
    assert (await own.messages.list(room.id)).items == ()
    assert (await client.messages.list(room.id)).total == 2
    with pytest.raises(ValidationError):
        await client.rooms.update_mine(room.id, user_id=bob.id, no_such_field=1)


async def test_an_archived_room_comes_back_with_its_next_message(client: AsyncChatClient) -> None:
    ann, bob, room = await cast(client)
    other = await client.rooms.create(name="Other", created_by=bob.id)
    archived = await client.rooms.update_mine(room.id, user_id=bob.id, archived="until_message")
    assert archived.archived == "until_message"

    async def listed(*, archived: bool) -> list[str]:
        page = await client.rooms.list(member_id=bob.id, sort="activity", archived=archived)
        return [each.id for each in page.items]

    assert (await listed(archived=True), await listed(archived=False)) == ([room.id], [other.id])
    await client.messages.create(room.id, content="a", user_id=ann.id)
    assert (await listed(archived=True), await listed(archived=False)) == ([], [room.id, other.id])


async def test_marks_and_totals(client: AsyncChatClient) -> None:
    ann, bob, room = await cast(client)
    second = await client.rooms.create(name="Second", created_by=ann.id, member_ids=[bob.id])
    for each in (room, room, second):
        await client.messages.create(each.id, content="a", user_id=ann.id)
    assert await client.users.unread(bob.id) == Totals(rooms=2, messages=3)
    assert (await client.rooms.mark_delivered(room.id, seq=2, user_id=bob.id)).delivered_seq == 2
    assert (await client.rooms.mark_delivered(room.id, seq=1, user_id=bob.id)).delivered_seq == 2
    await client.rooms.update_mine(second.id, user_id=bob.id, notify="none")
    assert await client.users.unread(bob.id) == Totals(rooms=1, messages=2)
    with pytest.raises(NotFoundError):
        await client.rooms.mark_all_read(bob.id, rooms={room.id: 2, "nobody": 1})
    assert (await client.users.unread(bob.id)).messages == 2
    assert await client.rooms.mark_all_read(bob.id, rooms={room.id: 1}) == Totals(
        rooms=1, messages=1
    )
    assert await client.rooms.mark_all_read(bob.id) == Totals()
    with pytest.raises(ValidationError):
        await client.rooms.mark_all_read(bob.id, rooms={})
    await client.rooms.update_mine(room.id, user_id=bob.id, marked_unread=True)
    assert await client.users.unread(bob.id) == Totals(rooms=1)
    await client.rooms.mark_read(room.id, seq=1, user_id=bob.id)
    assert await client.users.unread(bob.id) == Totals()


async def test_a_newcomer_starts_read(client: AsyncChatClient) -> None:
    ann, _, room = await cast(client)
    await client.messages.create(room.id, content="a", user_id=ann.id)
    eve = await client.users.create(username="eve", external_user_id="3")
    await client.rooms.join(room.id, user_id=eve.id)
    assert (await client.rooms.mine(room.id, user_id=eve.id)).unread == 0


async def test_rooms_by_activity(client: AsyncChatClient) -> None:
    ann = await client.users.create(username="ann", external_user_id="1")
    rooms = [await client.rooms.create(name=str(n), created_by=ann.id) for n in range(5)]
    await asyncio.sleep(0.002)  # activity is told apart by the millisecond
    await client.messages.create(rooms[2].id, content="a", user_id=ann.id)
    first = await client.rooms.list(member_id=ann.id, sort="activity", limit=3)
    assert first.items[0].name == "2"
    assert first.items[0].last_message is not None
    assert first.items[0].mine is not None
    assert first.has_more
    rest = await client.rooms.list(member_id=ann.id, sort="activity", cursor=first.next_cursor)
    assert {each.name for each in first.items + rest.items} == set("01234")
    assert (rest.has_more, rest.next_cursor) == (False, None)


# -- sync -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["with_sync", "without"])
async def test_sync_answers_what_differs_and_no_more(server: str) -> None:
    """With the feature and without it, as far as new messages go."""
    fake = FakeChatApi(features=("changes", "mine", "sync") if server == "with_sync" else ())
    async with fake.client() as client:
        ann, bob, room = await cast(client)
        quiet = await client.rooms.create(name="Quiet", created_by=ann.id, member_ids=[bob.id])
        for text in "abc":
            await client.messages.create(room.id, content=text, user_id=ann.id)
        everything = await client.sync(user_id=bob.id, messages=2)
        assert [each.room.id for each in everything.deltas] == [room.id, quiet.id]
        assert [each.content for each in everything.deltas[0].missed] == ["b", "c"]
        assert everything.deltas[0].partial is (server == "without")
        assert everything.unread == Totals(rooms=1, messages=3)
        have = {
            each.room.id: (each.last_seq, each.rev, each.mine.version if each.mine else 0)
            for each in everything.deltas
        }
        assert (await client.sync(user_id=bob.id, have=have)).deltas == ()
        await client.messages.create(room.id, content="d", user_id=ann.id)
        await client.rooms.remove_member(quiet.id, bob.id)
        news = await client.sync(user_id=bob.id, have=have)
        assert [(each.room.id, each.reset) for each in news.deltas] == [(room.id, False)]
        assert [each.content for each in news.deltas[0].missed] == ["d"]
        assert news.removed == (quiet.id,)
        ahead = await client.sync(user_id=bob.id, have={room.id: (99, 0, 0)}, messages=20)
        assert [each.reset for each in ahead.deltas] == [True]
        assert [each.content for each in ahead.deltas[0].missed] == ["a", "b", "c", "d"]
        none = await client.sync(user_id=bob.id, messages=0)
        assert none.deltas[0].missed == ()
        token = await client.users.generate_token(bob.id)
        own = await client.as_user(token.token).sync(have=have)
        assert [each.content for each in own.deltas[0].missed] == ["d"]
        with pytest.raises(ValidationError):
            await client.sync(user_id=bob.id, messages=21)
        with pytest.raises(ValidationError):
            await client.sync()


@pytest.mark.parametrize("server", ["with_sync", "without"])
async def test_sync_goes_page_by_page(server: str) -> None:
    fake = FakeChatApi(features=("changes", "mine", "sync") if server == "with_sync" else ())
    async with fake.client() as client:
        ann = await client.users.create(username="ann", external_user_id="1")
        for number in range(5):
            await client.rooms.create(name=str(number), created_by=ann.id)
        names: list[str] = []
        cursor = None
        while True:
            answer = await client.sync(user_id=ann.id, limit=2, cursor=cursor)
            names += [each.room.name for each in answer.deltas]
            cursor = answer.cursor
            if not answer.has_more:
                break
        assert sorted(names) == list("01234")


async def test_sync_tells_changes_of_ones_own_side_and_of_old_messages(
    client: AsyncChatClient,
) -> None:
    ann, bob, room = await cast(client)
    message = await client.messages.create(room.id, content="a", user_id=ann.id)
    have = {room.id: (1, 0, 0)}
    await client.messages.update(room.id, message.id, content="b")
    (delta,) = (await client.sync(user_id=bob.id, have=have)).deltas
    assert [each.message.content for each in delta.changed if each.message] == ["b"]
    assert delta.missed == ()
    have = {room.id: (1, delta.rev, 0)}
    assert (await client.sync(user_id=bob.id, have=have)).deltas == ()
    await client.rooms.update_mine(room.id, user_id=bob.id, pinned=True)
    (delta,) = (await client.sync(user_id=bob.id, have=have)).deltas
    assert delta.mine
    assert delta.mine.pinned_at is not None


async def test_a_room_joined_since_is_answered_whatever_its_activity(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    ann, bob, _ = await cast(client)
    old = await client.rooms.create(name="Old", created_by=ann.id)
    fake_chat.skew(60)
    new = await client.rooms.create(name="New", created_by=bob.id)
    first = await client.sync(user_id=bob.id)
    await client.rooms.join(old.id, user_id=bob.id)
    have = {new.id: (0, 0, 0)}
    assert (await client.sync(user_id=bob.id, have=have)).deltas == ()
    later = await client.sync(user_id=bob.id, have=have, token=first.token)
    assert [each.room.id for each in later.deltas] == [old.id]


async def test_another_epoch_makes_everything_known_worthless(client: AsyncChatClient) -> None:
    _, bob, room = await cast(client)
    answer = await client.sync(user_id=bob.id, have={room.id: (0, 0, 0)}, epoch="another")
    assert [each.reset for each in answer.deltas] == [True]


async def test_the_totals_of_a_server_without_them_are_summed(old: AsyncChatClient) -> None:
    ann, bob, room = await cast(old)
    await old.messages.create(room.id, content="a", user_id=ann.id)
    assert await old.users.unread(bob.id) == Totals(rooms=1, messages=1)
    assert await old.users.unread(ann.id) == Totals()


def test_emulated_sync_answers_rooms_as_active_as_the_least_active_known_one() -> None:
    """A client of many rooms keeps the newest; the others are not told again each time."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rooms = [
        Room(id=f"r{n}", name="", last_seq=1, last_message_at=start + timedelta(days=n))
        for n in range(4)
    ]
    plan = sync_plan(rooms, have={"r2": (1, 0, 0)})
    assert [each.id for each in plan.rooms] == ["r3"]
    assert plan.after(rooms[3]) == 0
    assert sync_plan(rooms, have={"r0": (1, 0, 0)}, limit=2).cursor is not None
    under_epoch = sync_plan(rooms, have={"r2": (1, 0, 0)}, epoch="e")
    assert [each.id for each in under_epoch.rooms] == ["r3", "r2"]
    assert under_epoch.reset == {"r2"}
