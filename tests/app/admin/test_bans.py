"""What a replica may remember of bans, and how it fails."""

import asyncio
import dataclasses

import pytest

from chat_broker.chat.bans import (
    CACHED_FOR,
    BanRecord,
    BanStatus,
    BanStatuses,
    MintGuard,
    revocations_before,
)
from chat_broker.chat.ports import StateUnavailable
from chat_broker.errors import Conflict, Refused


class Book:
    """Ban statuses in memory, each reading counted; it can break, or take its time."""

    def __init__(self):
        self.bans, self.marks, self.reads, self.broken = {}, {}, 0, False
        self.gate = None

    async def ban_status(self, external_id):
        self.reads += 1
        if self.broken:
            raise StateUnavailable("gone")
        found = BanStatus(self.marks.get(external_id, 0), self.bans.get(external_id))
        if self.gate is not None:
            await self.gate.wait()
        return found


class Clock:
    now = 1000.0
    date = "2026-01-01T00:00:00.000Z"


def ban(**changed):
    return BanRecord(
        "b1", "u1", "alice", "spam", "bootstrap", "2026-01-01T00:00:00.000Z", **changed
    )


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def book():
    return Book()


def ban_statuses(book, clock, **options):
    return BanStatuses(book, clock=lambda: clock.now, now=lambda: clock.date, **options)


async def test_asking_often_reads_seldom(book, clock):
    known = ban_statuses(book, clock)
    for _ in range(100):
        assert await known.active_ban("alice") is None
    assert book.reads == 1
    clock.now += CACHED_FOR + 0.01
    await known.active_ban("alice")
    assert book.reads == 2


async def test_a_ban_counts_at_once_where_it_was_made(book, clock):
    known = ban_statuses(book, clock)
    await known.active_ban("alice")
    book.bans["alice"] = ban()
    known.forget("alice")
    assert (await known.active_ban("alice")).reason == "spam"


async def test_a_ban_made_elsewhere_counts_within_a_second(book, clock):
    known = ban_statuses(book, clock)
    await known.active_ban("alice")
    book.bans["alice"] = ban()
    clock.now += CACHED_FOR + 0.01
    assert await known.active_ban("alice") is not None


async def test_a_ban_made_during_a_reading_is_not_overlooked(book, clock):
    """The answer of a query that began before the ban is not remembered after it."""
    known = ban_statuses(book, clock)
    book.gate = asyncio.Event()
    reading = asyncio.create_task(known.active_ban("alice"))
    await asyncio.sleep(0)
    book.bans["alice"] = ban()
    known.forget("alice")
    book.gate.set()
    await reading
    assert await known.active_ban("alice") is not None


async def test_a_mint_never_trusts_memory_where_others_write(book, clock):
    shared, alone = ban_statuses(book, clock), ban_statuses(book, clock, exact=True)
    for known, reads in ((shared, 3), (alone, 1)):
        book.reads = 0
        for _ in range(3):
            await known.ban_status("alice", fresh=True)
        assert book.reads == reads


async def test_a_ban_ends_by_itself_to_the_millisecond(book, clock):
    book.bans["alice"] = ban(until="2026-01-01T00:00:00.500Z")
    known = ban_statuses(book, clock)
    found = await known.active_ban("alice")
    assert found.until.isoformat() == "2026-01-01T00:00:00.500000+00:00"
    clock.date = "2026-01-01T00:00:00.499Z"
    assert await known.active_ban("alice") is not None
    clock.date = "2026-01-01T00:00:00.500Z"
    assert await known.active_ban("alice") is None
    assert book.reads == 1


async def test_what_cannot_be_read_lets_nobody_in(book, clock):
    known = ban_statuses(book, clock, exact=True)
    await known.active_ban("alice")
    book.broken = True
    clock.now += CACHED_FOR + 0.01
    with pytest.raises(StateUnavailable):
        await known.active_ban("alice")
    with pytest.raises(StateUnavailable):
        await known.active_ban("bob")


async def test_memory_is_bounded(book, clock):
    known = ban_statuses(book, clock, most=10)
    for number in range(100):
        await known.active_ban(f"user{number}")
    assert len(known._known) == 10


def test_a_ban_shows_no_inner_matters():
    shown = ban(suspended=True, pending="free").to_dict()
    assert "pending" not in shown
    assert "suspended" not in shown
    assert shown["active"] is True
    assert set(shown) < {field.name for field in dataclasses.fields(BanRecord)} | {"active"}


class TestMinting:
    """A mint that a revocation or a ban overtakes hands nothing out."""

    @pytest.fixture(params=[True, False], ids=["alone", "one of several"])
    def guard(self, request, book, clock):
        known = ban_statuses(book, clock, exact=request.param)
        told, freed = [], []

        async def tell(external_id):
            told.append(external_id)

        async def end_suspension(record):
            freed.append(record.id)
            book.bans.pop("alice")
            known.forget("alice")

        async def raise_revocation_mark(external_id):
            for name in [external_id] if external_id else ["alice", "bob"]:
                book.marks[name] = book.marks.get(name, 0) + 1

        book.raise_revocation_mark = raise_revocation_mark
        guard = MintGuard(book, known, end_suspension=end_suspension, tell=tell)
        guard.told, guard.freed = told, freed
        revocations_before.set(None)
        return guard

    @staticmethod
    async def token():
        return "token"

    async def test_nothing_happens_and_the_token_is_out(self, guard):
        assert await guard.mint("alice", self.token) == "token"

    @pytest.mark.parametrize("whose", ["alice", None])
    async def test_a_revocation_during_the_mint(self, guard, whose):
        gate, reached = asyncio.Event(), asyncio.Event()

        async def slow():
            reached.set()
            await gate.wait()
            return "token"

        minting = asyncio.create_task(guard.mint("alice", slow))
        await reached.wait()
        await guard.revoke(whose)
        gate.set()
        with pytest.raises(Conflict, match="token_revoked"):
            await minting
        assert await guard.mint("alice", self.token) == "token"
        assert guard.told == [whose]

    async def test_a_revocation_while_the_caller_was_still_being_recognised(self, guard):
        """The request came before the revocation, its credential was read after it."""
        guard._ban_statuses.note_token_request()
        await guard.revoke("alice")
        with pytest.raises(Conflict):
            await guard.mint("alice", self.token)
        assert await guard.mint("bob", self.token) == "token"
        guard._ban_statuses.note_token_request()
        assert await guard.mint("alice", self.token) == "token"

    async def test_somebody_elses_revocation_changes_nothing(self, guard):
        guard._ban_statuses.note_token_request()
        await guard.revoke("bob")
        assert await guard.mint("alice", self.token) == "token"

    async def test_a_ban_during_the_mint(self, guard, book):
        async def slow():
            book.bans["alice"] = ban()
            await guard.revoke("alice")
            return "token"

        with pytest.raises(Refused, match="user_suspended"):
            await guard.mint("alice", slow)

    async def test_a_banned_user_is_refused_before_anything_is_made(self, guard, book):
        book.bans["alice"] = ban()
        with pytest.raises(Refused, match="user_suspended"):
            await guard.mint("alice", None)

    async def test_who_was_banned_until_now_is_let_go_first(self, guard, book, clock):
        book.bans["alice"] = ban(until=clock.date, suspended=True)
        assert await guard.mint("alice", self.token) == "token"
        assert guard.freed == ["b1"]

    async def test_while_nobody_can_say_nothing_is_made(self, guard, book):
        book.broken = True
        with pytest.raises(StateUnavailable):
            await guard.mint("alice", None)


async def test_what_was_revoked_is_remembered_for_long_enough(book, clock):
    """When memory is full, the oldest revocations are taken to be everybody's: safe, not exact."""
    known = ban_statuses(book, clock, most=3)
    revocations = known.revocations
    known.note_revocation("alice")
    for number in range(10):
        known.note_revocation(f"user{number}")
    assert known.revoked_since("alice", revocations)
    assert not known.revoked_since("user9", known.revocations)
    assert not known.revoked_since("bob", known.revocations)
