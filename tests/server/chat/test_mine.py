"""What is unread, against counting it naively, over random histories."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.messages import More
from chat_broker_server.chat.models import MineChanges, RoomDraft, Totals, UserDraft
from chat_broker_server.chat.rooms import RoomFilter
from chat_broker_server.chat.service import Chat
from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.database.open import open_database
from chat_broker_server.errors import Conflict, NotFound
from tests.conftest import postgres_database

P = "default"
PAST, FAR = "2020-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))])
async def chat(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Chat]:
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'chat.db'}"
        if request.param == "postgres":
            url = await stack.enter_async_context(postgres_database())
        database = await open_database(url, pool=3)
        stack.push_async_callback(database.close)
        await ApiKeys(database).ensure_project(P, P)
        yield Chat(database, lambda _: None)


class NaiveRoom:
    """What one user should see of a room: every message is kept, and counted one by one."""

    def __init__(self, room_id: str) -> None:
        self.id = room_id
        self.authors: list[str] = []
        self.message_ids: list[str] = []
        self.deleted: set[int] = set()
        # Silent and system messages: they count for nobody.
        self.uncounted: set[int] = set()
        # Those that name the one user, or everybody.
        self.naming: set[int] = set()
        self.read = 0
        self.hidden = 0
        self.marked = False
        self.notify: str | None = None
        self.muted_until: str | None = None
        self.archived = "no"
        self.archived_at = 0

    def unread(self, ignored: set[str]) -> int:
        """Messages of everybody but *ignored*: the reader, and whom the reader blocks."""
        return len(self._countable(ignored))

    def mentions(self, ignored: set[str]) -> int:
        return len(self._countable(ignored) & self.naming)

    def _countable(self, ignored: set[str]) -> set[int]:
        return {
            seq
            for seq, author in enumerate(self.authors, 1)
            if author not in ignored
            and seq > max(self.read, self.hidden)
            and seq not in self.deleted | self.uncounted
        }

    @property
    def counts(self) -> bool:
        silenced = self.notify == "none" or (self.muted_until or "") > timestamp()
        ended = self.archived == "until_message" and len(self.authors) > self.archived_at
        return not silenced and (self.archived == "no" or ended)


class History:
    """Random acts of four users in three rooms, done to the database and to the naive rooms."""

    def __init__(self, chat: Chat, chance: random.Random) -> None:
        self.chat = chat
        self.chance = chance
        self.user_ids: list[str] = []
        self.rooms: list[NaiveRoom] = []
        self.blocked: set[str] = set()

    async def begin(self) -> None:
        for _ in range(4):
            name = f"user{self.chance.getrandbits(60)}"
            user = await self.chat.create_user(P, UserDraft(username=name, external_user_id=name))
            self.user_ids.append(user.id)
        for _ in range(3):
            draft = RoomDraft(name="r", created_by=self.me, member_ids=self.user_ids)
            self.rooms.append(NaiveRoom((await self.chat.create_room(P, draft)).id))

    @property
    def me(self) -> str:
        return self.user_ids[0]

    @property
    def ignored(self) -> set[str]:
        return {self.me, *self.blocked}

    async def act(self) -> None:
        room = self.chance.choice(self.rooms)
        act = self.chance.choice(
            [self._post] * 5
            + [self._edit, self._delete, self._read, self._read_some, self._change, self._change]
            + [self._delivered, self._clear] * (self.chance.random() < 0.3)
            + [self._block, self._unblock]
            + [self._read_all] * (self.chance.random() < 0.1)
        )
        await act(room)

    async def _post(self, room: NaiveRoom) -> None:
        author = self.chance.choice(self.user_ids)
        more = self._more() if self.chance.random() < 0.4 else None
        message = await self.chat.post(P, room.id, author, "x", more=more)
        room.authors.append(author)
        if more is not None:
            if more.silent or more.event:
                room.uncounted.add(message.seq)
            if more.mention_room or self.me in more.mentions:
                room.naming.add(message.seq)
        room.message_ids.append(message.id)
        assert message.seq == len(room.authors)

    def _more(self) -> More:
        named = self.chance.sample(self.user_ids, self.chance.randrange(3))
        event = {"name": "x"} if self.chance.random() < 0.3 else None
        everybody, silent = self.chance.random() < 0.3, self.chance.random() < 0.4
        return More(None, named, everybody, silent, event)

    async def _edit(self, room: NaiveRoom) -> None:
        """Other mentions. A message that names everybody goes on to do so."""
        named = self.chance.sample(self.user_ids, self.chance.randrange(3))
        seq = self.chance.randint(1, len(room.authors) or 1)
        try:
            edited = await self.chat.edit(
                P, room.id, (room.message_ids or ["?"])[seq - 1], mentions=named, by=None
            )
        except (Conflict, NotFound):
            return
        room.naming.discard(seq)
        if self.me in named or edited.mention_room is True:
            room.naming.add(seq)

    async def _delete(self, room: NaiveRoom) -> None:
        if room.authors:
            seq = self.chance.randint(1, len(room.authors))
            await self.chat.delete_message(P, room.id, room.message_ids[seq - 1], by=None)
            room.deleted.add(seq)

    async def _read(self, room: NaiveRoom) -> None:
        seq = self.chance.randint(0, len(room.authors) + 1)
        mark = await self.chat.mark_read(P, room.id, self.me, seq)
        room.read, room.marked = max(room.read, min(seq, len(room.authors))), False
        assert (mark.last_read_seq, mark.unread) == (room.read, room.unread(self.ignored))

    async def _read_some(self, room: NaiveRoom) -> None:
        await self.chat.mark_rooms_read(P, self.me, {room.id: len(room.authors)})
        room.read, room.marked = len(room.authors), False

    async def _read_all(self, _: NaiveRoom) -> None:
        assert await self.chat.mark_all_read(P, self.me) == Totals(0, 0, 0, 0)
        for room in self.rooms:
            room.read, room.marked = len(room.authors), False

    async def _block(self, _: NaiveRoom) -> None:
        other = self.chance.choice(self.user_ids[1:])
        await self.chat.block(P, self.me, other)
        self.blocked.add(other)

    async def _unblock(self, _: NaiveRoom) -> None:
        other = self.chance.choice(self.user_ids[1:])
        await self.chat.unblock(P, self.me, other)
        self.blocked.discard(other)

    async def _delivered(self, room: NaiveRoom) -> None:
        await self.chat.mark_delivered(P, room.id, self.me, self.chance.randint(0, 9))

    async def _clear(self, room: NaiveRoom) -> None:
        await self.chat.update_mine(P, room.id, self.me, MineChanges(clear_history=True))
        room.hidden = len(room.authors)

    async def _change(self, room: NaiveRoom) -> None:
        match self.chance.randrange(4):
            case 0:
                room.notify = self.chance.choice([None, "all", "mentions", "none"])
                changes = MineChanges(notify=room.notify)  # type: ignore[arg-type]  # one of these
            case 1:
                room.muted_until = self.chance.choice([None, PAST, FAR])
                changes = MineChanges(muted_until=room.muted_until)
            case 2:
                room.archived = self.chance.choice(["no", "until_message", "yes"])
                room.archived_at = len(room.authors)
                changes = MineChanges(archived=room.archived)  # type: ignore[arg-type]  # likewise
            case _:
                room.marked = self.chance.random() < 0.5
                changes = MineChanges(marked_unread=room.marked)
        await self.chat.update_mine(P, room.id, self.me, changes)

    async def check(self) -> None:
        expected = {room.id: room.unread(self.ignored) for room in self.rooms}
        page = await self.chat.list_rooms(P, RoomFilter(self.me))
        assert {room.id: room.unread for room in page.items} == expected
        for room in self.rooms:
            mine = await self.chat.mine(P, room.id, self.me)
            assert (mine.unread, mine.from_seq) == (expected[room.id], room.hidden + 1)
            assert mine.mentions == room.mentions(self.ignored)
        counted = [(expected[room.id], room.marked) for room in self.rooms if room.counts]
        rooms = sum(unread > 0 or marked for unread, marked in counted)
        messages = sum(unread for unread, _ in counted)
        mentions = sum(room.mentions(self.ignored) for room in self.rooms if room.counts)
        assert await self.chat.totals(P, self.me) == Totals(rooms, messages, mentions, 0)


@pytest.mark.parametrize("seed", range(6))
async def test_unread_and_totals_equal_a_naive_count(chat: Chat, seed: int) -> None:
    """Whatever is posted, deleted, read, cleared, silenced, archived and blocked in between."""
    history = History(chat, random.Random(seed))
    await history.begin()
    for _ in range(50):
        await history.act()
        await history.check()


async def test_more_rooms_than_fit_into_one_transaction_are_all_marked_as_read(
    chat: Chat,
) -> None:
    """Also where the last transaction finds nothing."""
    ids = []
    for name in ("one", "two"):
        user = await chat.create_user(P, UserDraft(username=name, external_user_id=name))
        ids.append(user.id)
    for count in (200, 201):
        while (page := await chat.list_rooms(P, RoomFilter(ids[0]), limit=1)).total < count:
            await chat.create_room(P, RoomDraft(name="r", created_by=ids[1], member_ids=ids))
        for number in (1, 2):
            for room in (
                await chat.list_rooms(P, RoomFilter(ids[0]), page=number, limit=200)
            ).items:
                await chat.post(P, room.id, ids[1], "x")
        assert (await chat.totals(P, ids[0])).rooms == count
        assert await chat.mark_all_read(P, ids[0]) == Totals(0, 0, 0, 0)
        assert page.total == count
