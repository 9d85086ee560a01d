"""Storage of bans, audit records and admin keys, on SQLite and Postgres."""

import asyncio
import dataclasses

import pytest

from chat_broker.admin import audit_log as rules
from chat_broker.admin.audit_log import (
    GENESIS,
    OUTCOME_UNKNOWN,
    AuditRecord,
    AuditSearch,
    verify_chain,
)
from chat_broker.admin.keys import AdminKey, AdminScope, digest, new_key
from chat_broker.chat.bans import BanRecord
from chat_broker.chat.ports import StateUnavailable
from chat_broker.storage import admin_keys, audit, bans
from chat_broker.storage.database import open_database
from tests.app.databases import execute

DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))]
NOW, SOON, LATER = (
    "2026-01-01T00:00:00.000Z",
    "2026-01-01T00:01:00.000Z",
    "2026-01-02T00:00:00.000Z",
)


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/broker.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
async def database(url):
    async with open_database(url) as database:
        yield database


def ban(number=1, **changed):
    fields = {
        "id": f"b{number}",
        "user_id": "u1",
        "external_user_id": "alice",
        "reason": "spam",
        "by": "bootstrap",
        "created_at": f"2026-01-01T00:00:0{number}.000Z",
        "suspended": True,
        "pending": "suspend",
    }
    return BanRecord(**fields | changed)


def record(number=1, **changed):
    fields = {
        "id": f"r{number:06}",
        "at": NOW,
        "actor": "bootstrap",
        "action": "users.ban",
        "subject": "external:alice",
        "outcome": "ok",
        "reason": "spam",
        "ip": "192.0.2.1",
        "request_id": "req-1",
        "detail": {
            "user_id": "u1",
            "external_user_id": "alice",
            "n": number,
            "t": 0.1,
            "ü": "\x00",
        },
    }
    return AuditRecord(**fields | changed)


class TestBans:
    @pytest.fixture
    def book(self, database):
        return bans.SqlBans(database)

    async def test_nobody_is_banned_at_first(self, book):
        status = await book.ban_status("alice")
        assert status.ban is None
        assert status.revocation_mark == 0
        assert await book.history("alice") == []
        assert await book.lift("alice", by="x", at=SOON) is None

    async def test_a_ban_raises_the_mark_and_stands(self, book):
        await book.ban(ban())
        status = await book.ban_status("alice")
        assert status.ban == ban()
        assert status.revocation_mark == 1
        assert (await book.ban_status("bob")).revocation_mark == 0

    async def test_marks_of_one_and_of_everybody_add_up(self, book):
        await book.raise_revocation_mark("alice")
        await book.raise_revocation_mark(None)
        await book.raise_revocation_mark("*")
        assert (await book.ban_status("alice")).revocation_mark == 2
        assert (await book.ban_status("bob")).revocation_mark == 1
        assert (await book.ban_status("*")).revocation_mark == 2

    async def test_many_asked_about_at_once_hear_each_their_own(self, book):
        await book.ban(ban())
        await book.raise_revocation_mark("bob")
        await book.raise_revocation_mark("bob")
        names = ["alice", "bob", "carol", "bob", "*"]
        found = await asyncio.gather(*(book.ban_status(name) for name in names))
        assert [status.revocation_mark for status in found] == [1, 2, 0, 2, 0]
        assert [status.ban for status in found] == [ban(), None, None, None, None]

    async def test_marks_raised_at_once_all_count(self, book):
        await asyncio.gather(*(book.raise_revocation_mark("alice") for _ in range(20)))
        assert (await book.ban_status("alice")).revocation_mark == 20

    async def test_a_new_ban_takes_the_place_of_the_old_one(self, book):
        await book.ban(ban(1))
        await book.ban(ban(2, reason="worse", suspended=False))
        status = await book.ban_status("alice")
        assert (status.ban.id, status.revocation_mark) == ("b2", 2)
        assert status.ban.suspended, "what the first suspended, the second has to let go"
        assert [one.id for one in await book.history("alice")] == ["b2", "b1"]
        assert (await book.history("alice"))[1].lifted_by == "replaced"

    async def test_a_new_ban_inherits_what_the_lifted_one_has_not_let_go_yet(self, book):
        await book.ban(ban(1))
        await book.lift("alice", by="key1", at=SOON)
        await book.ban(ban(2, suspended=False))
        assert (await book.ban_status("alice")).ban.suspended
        assert [one.id for one in await book.unsettled(NOW)] == ["b2"]
        assert (await book.history("alice"))[1].lifted_by == "key1"

    async def test_lifting_leaves_the_history(self, book):
        await book.ban(ban())
        lifted = await book.lift("alice", by="key1", at=SOON)
        assert (lifted.lifted_at, lifted.lifted_by, lifted.pending) == (SOON, "key1", "free")
        assert (await book.ban_status("alice")).ban is None
        assert await book.history("alice") == [lifted]

    async def test_what_the_chat_api_has_still_to_be_told(self, book):
        await book.ban(ban(1, until=SOON))
        await book.ban(ban(2, external_user_id="bob", suspended=False, pending=None))
        assert [one.id for one in await book.unsettled(NOW)] == ["b1"]
        assert await book.settle(ban(1, until=SOON), suspended=True)
        assert await book.unsettled(NOW) == []
        assert [one.id for one in await book.unsettled(LATER)] == ["b1"], "it has ended"
        ended = (await book.unsettled(LATER))[0]
        assert await book.settle(ended, suspended=False)
        assert await book.unsettled(LATER) == []

    async def test_settling_what_has_changed_meanwhile_does_nothing(self, book):
        await book.ban(ban())
        await book.lift("alice", by="key1", at=SOON)
        assert not await book.settle(ban(), suspended=True)
        assert [one.pending for one in await book.unsettled(NOW)] == ["free"]

    async def test_count_is_of_bans_in_force(self, book):
        await book.ban(ban(1, until=SOON))
        await book.ban(ban(2, external_user_id="bob"))
        assert await book.count(NOW) == 2
        assert await book.count(LATER) == 1
        await book.lift("bob", by="x", at=NOW)
        assert await book.count(NOW) == 1

    async def test_what_cannot_be_read_is_unavailable(self, book, database):
        await execute(database, "DROP TABLE bans")
        with pytest.raises(StateUnavailable):
            await book.ban_status("alice")
        with pytest.raises(StateUnavailable):
            await book.ban(ban())


class TestAudit:
    @pytest.fixture
    def trail(self, database):
        return audit.SqlAudit(database)

    async def exported(self, trail):
        return [link.to_dict() for link in await trail.after(0, 10_000)]

    async def test_records_come_back_as_they_went_in(self, trail):
        await trail.append(record(1))
        (link,) = await trail.find(AuditSearch())
        assert link.record == record(1)
        assert (link.seq, link.previous) == (1, GENESIS)

    async def test_a_chain_written_by_many_at_once_is_sound(self, trail):
        await asyncio.gather(*(trail.append(record(n)) for n in range(1, 31)))
        links = await self.exported(trail)
        verdict = verify_chain(links)
        assert (verdict.sound, verdict.checked, verdict.head) == (True, 30, links[-1]["hash"])

    @pytest.mark.parametrize(
        ("spoil", "found"),
        [
            ("UPDATE audit SET reason = 'nothing' WHERE seq = 2", "record 2 was changed"),
            ("UPDATE audit SET detail = '{}' WHERE seq = 2", "record 2 was changed"),
            ("UPDATE audit SET detail = 'no json' WHERE seq = 3", "record 3 was changed"),
            ("UPDATE audit SET at = '2020' WHERE seq = 1", "record 1 was changed"),
            ("DELETE FROM audit WHERE seq = 2", "record 2 is missing"),
            ("DELETE FROM audit WHERE seq = 1", "record 1 is missing"),
            ("DELETE FROM audit WHERE seq = 4", "record 4 is missing"),
            ("UPDATE audit SET previous = 'x' WHERE seq = 3", "record 3 was changed"),
        ],
    )
    async def test_a_changed_or_missing_record_is_found(self, trail, database, spoil, found):
        for number in range(1, 5):
            await trail.append(record(number))
        await execute(database, spoil)
        await trail.append(record(5))
        assert verify_chain(await self.exported(trail)).problem == found

    async def test_an_exchanged_record_is_found(self, trail):
        """A changed record with a recomputed hash is detected at the next record."""
        for number in range(1, 5):
            await trail.append(record(number))
        links = await self.exported(trail)
        links[1]["reason"] = "nothing"
        links[1]["hash"] = rules.hash_of(2, links[1], links[1]["previous"])
        assert "record 3 does not follow" in verify_chain(links).problem

    async def test_searching(self, trail):
        await trail.append(record(1, at="2026-01-01T00:00:00.000Z"))
        await trail.append(
            record(
                2, actor="key1", action="tokens.revoke", subject="u1", at="2026-01-01T01:00:00.000Z"
            )
        )
        await trail.append(
            record(3, action="keys.create", subject="k2", detail={}, at="2026-01-01T02:00:00.000Z")
        )

        async def numbers(**asked):
            return [link.seq for link in await trail.find(AuditSearch(**asked))]

        assert await numbers() == [3, 2, 1]
        assert await numbers(actor="key1") == [2]
        assert await numbers(action="users.ban") == [1]
        assert await numbers(action="revoke") == await numbers(action="REVOKE") == [2]
        assert await numbers(action="Users.Ban") == [1]
        assert await numbers(action="keys") == [3]
        assert await numbers(action="key") == []
        assert await numbers(action="%") == []
        assert await numbers(subject="u1") == [2, 1], "by either name"
        assert await numbers(subject="external:alice") == [2, 1]
        assert await numbers(subject="k2") == [3]
        assert await numbers(since="2026-01-01T01:00:00.000Z") == [3, 2]
        assert await numbers(until="2026-01-01T01:00:00.000Z") == [1]
        assert await numbers(limit=1) == [3]
        assert await numbers(before=3, limit=1) == [2]

    async def test_an_open_entry_becomes_one_record(self, trail):
        await trail.open(record(1))
        assert await trail.find(AuditSearch()) == []
        await trail.close(record(1, outcome="failed"))
        await trail.close(record(1))
        assert [link.record.outcome for link in await trail.find(AuditSearch())] == ["failed"]

    async def test_what_nobody_closes_is_recorded_as_failed(self, trail):
        await trail.open(record(1, at=NOW))
        await trail.open(record(2, at=LATER))
        overdue = {"requests_before": SOON, "folds_before": NOW}
        assert await trail.close_abandoned(**overdue) == 1
        assert await trail.close_abandoned(**overdue) == 0
        (link,) = await trail.find(AuditSearch())
        assert (link.record.outcome, link.record.detail["note"]) == ("failed", OUTCOME_UNKNOWN)
        await trail.close(record(1))
        assert len(await trail.find(AuditSearch())) == 1

    async def test_a_call_that_takes_long_is_not_overdue(self, trail):
        await trail.open(record(1, at=NOW))
        await trail.touch(["r000001"], LATER)
        assert await trail.close_abandoned(requests_before=SOON, folds_before=NOW) == 0

    async def test_many_replicas_close_what_is_overdue_once(self, trail):
        for number in range(10):
            await trail.open(record(number))
        overdue = {"requests_before": SOON, "folds_before": NOW}
        closed = await asyncio.gather(*(trail.close_abandoned(**overdue) for _ in range(3)))
        assert sum(closed) == 10
        assert verify_chain(await self.exported(trail)).checked == 10

    async def test_folding_counts(self, trail):
        await trail.fold("a|1", record(1, detail={"count": 1}), 1)
        await trail.fold("a|1", record(2, detail={"count": 1}), 4)
        await trail.fold("b|1", record(3, detail={"count": 1}, at=LATER), 1)
        counts = [(one.id, one.detail["count"]) for one in await trail.folds()]
        assert counts == [("r000003", 1), ("r000001", 5)]
        assert await trail.close_abandoned(requests_before=NOW, folds_before=SOON) == 1
        (link,) = await trail.find(AuditSearch())
        assert link.record.detail == {"count": 5}

    async def test_what_cannot_be_written_is_unavailable(self, trail, database):
        await execute(database, "DROP TABLE audit_head")
        with pytest.raises(StateUnavailable):
            await trail.append(record(1))
        assert await trail.find(AuditSearch()) == []


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(AuditRecord)])
def test_every_field_of_a_record_is_bound(field):
    link = rules.chain_record(1, record(1), GENESIS).to_dict()
    assert verify_chain([link]).sound
    link[field] = "changed"
    assert not verify_chain([link]).sound


class TestKeys:
    @pytest.fixture
    def rows(self, database):
        return admin_keys.SqlAdminKeys(database)

    async def test_a_key_is_kept_as_a_hash(self, rows, database):
        key_id, secret = new_key()
        key = AdminKey(
            key_id,
            "ci",
            frozenset({AdminScope.USERS_READ, AdminScope.KEYS_WRITE}),
            NOW,
            "bootstrap",
            SOON,
        )
        await rows.add(key, digest(secret.encode()))
        assert await rows.find(key_id) == (key, digest(secret.encode()))
        assert await rows.find("-") is None
        assert await rows.all() == [key]
        (row,) = await execute(database, "SELECT * FROM admin_keys")
        assert secret[-20:] not in repr(tuple(row))

    async def test_revoking_is_for_good(self, rows):
        key_id, secret = new_key()
        await rows.add(
            AdminKey(key_id, "ci", frozenset({AdminScope.USERS_READ}), NOW, "bootstrap"),
            digest(secret.encode()),
        )
        assert (await rows.revoke(key_id, at=SOON)).revoked_at == SOON
        assert (await rows.revoke(key_id, at=LATER)).revoked_at == SOON
        assert await rows.revoke("-", at=SOON) is None
