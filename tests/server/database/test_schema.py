"""The schema: every hot query has its index, on both databases."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chat_broker_kit.database.sqlite import SqliteDatabase
from chat_broker_kit.database.sqlite_connections import dialect
from chat_broker_kit.database.transactions import Query, Steps, all_rows
from chat_broker_server.chat import (
    blocks,
    delta,
    direct,
    directory,
    ensure,
    idempotency,
    lookups,
    member_lists,
    members,
    mentions,
    message_parts,
    messages,
    mine,
    pins,
    presence,
    reactions,
    receipts,
    rooms,
    signals,
    sync,
    system_messages,
    user_settings,
    users,
    watched,
)
from chat_broker_server.chat.cursors import encoded
from chat_broker_server.chat.message_lock import Actor
from chat_broker_server.chat.models import (
    IdempotencyKey,
    Message,
    MineChanges,
    Reaction,
    RoomChanges,
    RoomDraft,
    UserSettingsChanges,
)
from chat_broker_server.chat.room_settings import RoomSettings
from chat_broker_server.credentials import api_keys, tokens
from chat_broker_server.credentials.tokens import Claims
from chat_broker_server.database import housekeeping
from chat_broker_server.database.open import open_database
from chat_broker_server.realtime import recheck

P, R, U = "project", "room", "user"
CLAIMS = Claims("i", "chat", U, P, "e", "n", "s", "j", 0, 1, 0)
LOCKED = members.LockedRoom(False, "room", 5, RoomSettings())

DIRECT_ROOM = (R, P, "", None, True, U, 2, 5, None, "{}", "", "", "direct", 1, None, None, None, 5)
DRAFT = RoomDraft(name="n", created_by=U, external_id="e")
ACTOR = Actor(U, by_token=True)
CROWDED = Message(
    *("m", R, 5, U, "n", None, "x", None, {}, "", None, None),
    reactions=[Reaction("👍", 12, [U])],
)

HOT: dict[str, Callable[[], Steps[Any]]] = {
    "user": partial(users.get, P, U),
    "users, page": partial(users.page, P, users.UserFilter(), 1, 50),
    "users, by external id": partial(users.page, P, users.UserFilter("e"), 1, 50),
    "users, by username": partial(users.page, P, users.UserFilter(None, "n"), 1, 50),
    "users, active": partial(users.page, P, users.UserFilter(status="active"), 1, 50),
    "users, suspended": partial(users.page, P, users.UserFilter(status="suspended"), 1, 50),
    "directory": partial(directory.find, P, U, "ann", 20),
    "profile": partial(users.profile, P, U),
    "settings of a user": partial(user_settings.get, P, U),
    "change settings of a user": partial(
        user_settings.update, P, U, UserSettingsChanges(presence="hidden")
    ),
    "block": partial(blocks.block, P, U, "other"),
    "unblock": partial(blocks.unblock, P, U, "other"),
    "blocks": partial(blocks.page, P, U, 1, 50),
    "blocks in a direct room": partial(blocks.in_direct_room, P, R, U),
    "many blocks": partial(blocks.are_many, P, U),
    "blocks between two": partial(blocks.between, P, U, "other"),
    "blocks of a deleted user": partial(blocks.end_all, P, U),
    "room": partial(rooms.get, P, R),
    "rooms, page": partial(rooms.page, P, rooms.RoomFilter(), 1, 50),
    "rooms, open": partial(rooms.page, P, rooms.RoomFilter(private=False), 1, 50),
    "rooms of a member": partial(rooms.page, P, rooms.RoomFilter(U), 1, 50),
    "rooms of a member, archived": partial(
        rooms.page, P, rooms.RoomFilter(U, archived=True), 1, 50
    ),
    "rooms of a member, by activity": partial(rooms.by_activity, P, rooms.RoomFilter(U), None, 50),
    "rooms of a member, by activity, later": partial(
        rooms.by_activity,
        P,
        rooms.RoomFilter(U, archived=False),
        encoded(["2026-01-01T00:00:00.000Z", R]),
        50,
    ),
    "direct rooms": partial(rooms.page, P, rooms.RoomFilter(kind="direct"), 1, 50),
    "direct rooms of a member": partial(rooms.page, P, rooms.RoomFilter(U, kind="direct"), 1, 50),
    "members of direct rooms": partial(direct.with_members, P, [rooms.from_row(DIRECT_ROOM)]),
    "direct room": partial(ensure.direct_room, P, [U, "v"], U),
    "direct room that is there": partial(ensure.existing, P, ("direct_key", "k"), [U, "v"]),
    "room by external id": partial(ensure.id_of, P, "e"),
    "room that is there": partial(ensure.existing, P, ("external_id", "e"), [U]),
    "room by external id, made": partial(ensure.external_room, P, DRAFT),
    "room that is made": partial(rooms.create, P, DRAFT, None),
    "member": partial(members.get, P, R, U),
    "some members": partial(member_lists.some, P, R, [U, "v"]),
    "members, by cursor": partial(
        member_lists.after, P, R, member_lists.MemberFilter(), encoded(U), 50
    ),
    "members of a role": partial(
        member_lists.page, P, R, member_lists.MemberFilter(role="owner"), 1, 50
    ),
    "members by name": partial(
        member_lists.after, P, R, member_lists.MemberFilter(q="n"), encoded(U), 50
    ),
    "several members": partial(members.add_many, P, R, members.NewMembers(["v", "w"], by=U), None),
    "members": partial(members.page, P, R, 1, 50),
    "messages, page": partial(messages.page, P, R, 3, 50),
    "messages, before": partial(messages.between, P, R, 100, None, 50),
    "messages, after": partial(messages.between, P, R, None, 5, 50),
    "messages, missed": partial(messages.after, P, R, 5, 50),
    "post": partial(
        messages.post, P, R, messages.Draft(U, "x", "c", {}), False, IdempotencyKey("s", "k", "f")
    ),
    "edit": partial(messages.edit, P, R, "m", messages.Edit("x"), U),
    "delete": partial(messages.delete, P, R, "m", U),
    "join": partial(members._add, P, R, U, "member", LOCKED),
    "leave": partial(members.leave, P, R, U, hide_private=False),
    "remove": partial(members.leave, P, R, U, hide_private=False, by="other"),
    "role": partial(members.put, P, R, U, "guest"),
    "settings": partial(rooms.update, P, R, RoomChanges(settings={"slow_mode": 5})),
    "room fields": partial(rooms.update, P, R, RoomChanges(name="n")),
    "message": partial(lookups.one, P, R, "m", 1),
    "messages, by id": partial(lookups.some, P, R, ["m", "n"], 1),
    "messages, around": partial(lookups.around, P, R, 5, 50, 1),
    "post, with all there is": partial(
        messages.post,
        P,
        R,
        messages.Draft(U, "x", None, {}, messages.More("m", [U], True, True)),
        False,
        None,
    ),
    "mentions": partial(mentions.page, P, U, None, 50),
    "system message": partial(
        system_messages.post, P, R, {"name": "member_joined", "user_id": U}, U
    ),
    "purge": partial(messages.delete, P, R, "m", None, purge=True),
    "what flags tell": partial(message_parts.complete, P, [], {(R, 5): 0xFFFF}),
    "changes": partial(delta.page, P, R, 5, delta.Seen(), 50),
    "delta": partial(delta.delta, P, R, delta.Reader(U, delta.Known(5, 5, "e", 1)), "e"),
    "delta, reset": partial(delta.delta, P, R, delta.Reader(U, delta.Known(5, 5, "e", 1)), "f"),
    "lost changes": partial(delta.after, P, R, 5, 20),
    "old changes": partial(housekeeping._old_changes, 1),
    "react": partial(reactions.add, P, R, "m", ":a:", ACTOR),
    "take a reaction back": partial(reactions.remove, P, R, "m", "👍", ACTOR),
    "reactions": partial(reactions.page, P, R, "m", reactions.Wanted(), 1),
    "own reactions": partial(reactions.own, P, U, [CROWDED]),
    "pin": partial(pins.pin, P, R, "m", ACTOR),
    "unpin": partial(pins.unpin, P, R, "m", ACTOR),
    "pins": partial(pins.listed, P, R, 1),
    "mark read": partial(mine.mark_read, P, R, U, 5, False),
    "presence": partial(presence.seen, P, [U], None),
    "presence for a user": partial(presence.seen, P, ["other"], U),
    "last seen": partial(presence.note_seen, P, {U: "now"}),
    "signal": partial(signals.require, P, R, U),
    "receipts of a room": partial(receipts.of_room, P, R, U),
    "receipts of a message": partial(receipts.of_message, P, R, "m", U, 1),
    "mark delivered": partial(mine.mark_delivered, P, R, U, 5, False),
    "mark some read": partial(mine.mark_rooms_read, P, U, {R: 5}),
    "mark all read": partial(mine.mark_next_rooms_read, P, U, ""),
    "mine": partial(mine.get, P, R, U),
    "change mine": partial(
        mine.update, P, R, U, MineChanges(archived="until_message", pinned=True, clear_history=True)
    ),
    "mine of a room": partial(mine.of_rooms, P, U, [R]),
    "mine of rooms": partial(mine.of_rooms, P, U, [R, "other"]),
    "first visible message": partial(mine.role_and_from_seq, P, R, U),
    "totals": partial(mine.totals, P, U),
    "sync": partial(sync.sync, P, U, sync.SyncQuery({R: sync.Had(5, 5, 0)}, "e", 20), "e"),
    "watched rooms": partial(watched.rooms_of, P, U, 500),
    "activity": partial(watched.activities, P, {R: [U]}),
    "room added": partial(sync.added, P, U, R, 20, "e"),
    "recheck of members": partial(all_rows, Query(recheck._MEMBERSHIPS, P, *[U] * 50)),
    "recheck of rooms": partial(all_rows, Query(recheck._ROOMS, P, *[R] * 50)),
    "recheck of users": partial(all_rows, Query(recheck._VERSIONS, P, *[U] * 50)),
    "mint": partial(tokens._user_and_generation, P, U),
    "check": partial(tokens._token_state, CLAIMS),
    "revoke": partial(tokens._revoke, P, U, "s"),
    "api key": partial(api_keys._find, "k"),
    "idempotency": partial(idempotency.claim, P, IdempotencyKey("s", "k", "f")),
}

ROOM = (R, P, "n", None, False, U, 5, 500, None, "{}", "", "", "room", 1, 500, None, None, 500)
# Rows that let a rule go on to its next query, by its beginning and, behind "…", its end.
ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "UPDATE rooms SET member_count = member_count +": [(500,)],
    "UPDATE rooms SET member_count": [(False, "room", 5, None, True)],
    "UPDATE rooms SET updated_at": [ROOM],
    "UPDATE rooms SET rev…kind": [(500, None, None)],
    "UPDATE rooms SET rev": [(500,)],
    "SELECT m.role, coalesce(m.from_seq, 1), w.status": [
        (
            *("owner", 1, "active"),
            *("m", 5, U, "n", None, "x", None, "{}", "", None, None, None, None, None, 3),
        )
    ],
    "SELECT c.first_rev": [(7, R, 5, "👍", 12, f'["{U}"]')],
    "INSERT INTO reactions": [(1,)],
    "DELETE FROM reactions…RETURNING 1": [(1,)],
    "SELECT user_id FROM reactions": [(U,)],
    "SELECT g.seq FROM rooms": [(5,)],
    "SELECT first_rev": [(7, "👍")],
    "SELECT count(*), max(pinned_at)": [(3, "2026-01-01T00:00:00.000Z")],
    "SELECT r.id…r.deleted_at IS NULL": [(*ROOM, 0)],
    "SELECT r.id…r.id = $2": [
        (*ROOM, "m", 500, U, "n", None, "x", None, "{}", "", None, None, None, None, None, None)
    ],
    "SELECT r.id…m.user_id = $3": [
        (
            *ROOM,
            *("member", "", 0, 0, 1, 0, 0, None, None, "no", None, None, None, 0, None),
        )
    ],
    "SELECT r.id…$52)": [
        (
            *ROOM,
            *("member", "", 0, 0, 1, 0, 0, None, None, "no", None, None, None),
            *("m", 500, U, "n", None, "x", None, "{}", "", None, None, None, None, None, None, 0),
        )
    ],
    "WITH s AS": [(0, 0, 0, 0)],
    "SELECT m.room_id, r.last_seq, coalesce": [(R, 500, 500, 0, "", "", "")],
    "SELECT min(g.created_at)": [("",)],
    "SELECT c.rev, c.kind": [(7, "member", U, *[None] * 15)],
    "INSERT INTO rooms": [ROOM],
    "SELECT id FROM users": [(U,), ("v",)],
    "SELECT id FROM rooms": [(R,)],
    "SELECT user_id FROM members": [(U,), ("v",)],
    "SELECT m.room_id, u.id": [(R, U, "n", None, None)],
    "SELECT 1 FROM rooms": [(1,)],
    "SELECT count(*) FROM": [(500,)],
    "INSERT INTO members": [(1,)],
    "DELETE FROM members": [("member",)],
    "DELETE FROM changes": [(1,)],
    "SELECT rev FROM changes": [(7,)],
    "SELECT project_id, room_id FROM changes": [(P, R)],
    "SELECT g.id…g.id = $2 AND g.room_id = $3": [
        ("m", 5, U, "n", None, "x", None, "{}", "", None, None, None, None, None, 1)
    ],
    "SELECT r.last_seq, r.last_message_at…m.user_id = $3": [
        (500, "now", None, "n", None, None, "active", "member", None, None, 0, None, None)
    ],
    "SELECT r.last_seq, r.last_message_at…u.id = $3": [(500, "now", None, "n", None, None)],
    "SELECT q.id": [("m", 5, U, "n", None, "x")],
    "SELECT coalesce(r.light": [(True, "owner")],
    "WITH p AS": [(R, 5, "", 1)],
    "SELECT m.room_id": [(R, U, "n", None, "owner", "now", 0, None, None)],
    "SELECT m.role, coalesce(m.from_seq, 1) FROM": [("owner", 1)],
    "SELECT m.role, r.settings": [("owner", None)],
    "SELECT role FROM members": [("owner",)],
    "SELECT room_id FROM members": [(R,)],
    "SELECT r.last_seq, m.notify": [(500, None, None, "no", None, None)],
    "SELECT 1 FROM members": [(1,)],
    "SELECT 1 FROM users": [(1,)],
    "SELECT coalesce(version": [(0,)],
    "SELECT count(*) FROM blocks": [(0,)],
    "INSERT INTO blocks": [(1,)],
    "DELETE FROM blocks": [(1,)],
    "UPDATE users SET presence": [("hidden", None, None, None)],
    "SELECT presence": [(None, None, None, None)],
    "SELECT last_seq": [(500,)],
    "SELECT member_count": [(5,)],
    "INSERT INTO idempotency": [(1,)],
    "UPDATE members": [(R,)],
    "UPDATE users": [(5,)],
    "SELECT m.last_read_seq": [(1, 2, True, 5)],
    "SELECT g.seq, g.user_id": [(5, U, True)],
    "SELECT m.user_id": [(U, 5, 5)],
}


# What is a list in the query or worked out by it, such as the rooms of a user, is not a table.
LISTED = re.compile(r"SCAN (s|v|[0-9]+ CONSTANT ROWS?|[0-9]+-ROW VALUES CLAUSE)")


def fits(sql: str, text: str) -> bool:
    begin, _, end = text.partition("…")
    return sql.startswith(begin) and sql.endswith(end)


def queries_of(rule: Callable[[], Steps[Any]]) -> list[Query]:
    """Every query a rule makes on its ordinary way."""
    steps, found = rule(), []
    try:
        query = next(steps)
        while True:
            found.append(query)
            rows = next((rows for text, rows in ANSWERS.items() if fits(query.sql, text)), [])
            query = steps.send(rows)
    except StopIteration:
        return found
    except Exception:  # noqa: BLE001 – a rule that finds nothing ends there, as it should
        return found


def test_a_post_is_looked_at_from_beginning_to_end() -> None:
    """Answers that do not fit would end it early, and hide the rest from the tests below."""
    begins = [query.sql.split(" (")[0] for query in queries_of(HOT["post"])]
    assert begins[-2:] == ["INSERT INTO messages", "INSERT INTO idempotency"]


def test_a_delta_is_looked_at_from_beginning_to_end() -> None:
    """Room, receipts, messages, changes, and members among them."""
    begins = [query.sql.split(",")[0] for query in queries_of(HOT["delta"])]
    assert begins == [
        "SELECT r.id",
        "SELECT m.user_id",
        "SELECT g.id",
        "SELECT c.rev",
        "SELECT c.rev",
    ]


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("react", "UPDATE messages SET rev = $4, flags"),
        ("take a reaction back", "UPDATE messages SET rev = $4, flags"),
        ("reactions", "SELECT e.rev, e.user_id"),
        ("own reactions", "SELECT e.room_id, e.seq"),
        ("pins", "SELECT g.id"),
    ],
)
def test_reactions_are_looked_at_from_beginning_to_end(name: str, last: str) -> None:
    """The 500th change of a room, which also removes the oldest."""
    found = [query.sql for query in queries_of(HOT[name])]
    assert found[-1].startswith(last), found
    assert len(found) <= 12, found


@pytest.mark.parametrize(
    "name", ["edit", "delete", "join", "leave", "role", "room fields", "settings"]
)
def test_a_change_is_looked_at_from_beginning_to_end(name: str) -> None:
    """The 500th of a room, which also removes the oldest."""
    begins = [query.sql.split(" (")[0] for query in queries_of(HOT[name])]
    assert "INSERT INTO changes" in begins
    assert any(query.startswith("DELETE FROM changes") for query in begins)


def test_a_sync_is_looked_at_from_beginning_to_end() -> None:
    begins = [query.sql.split(" (")[0] for query in queries_of(HOT["sync"])]
    assert any("SELECT c.rev, c.kind, c.object, " in query for query in begins[-3:])
    assert begins[-1].startswith("SELECT m.user_id, m.last_read_seq")
    assert any(query.startswith("SELECT min") for query in begins)


def test_an_activity_is_looked_at_from_beginning_to_end() -> None:
    assert len(queries_of(HOT["activity"])) == 2


@pytest.mark.parametrize("archived", [None, True, False])
async def test_rooms_by_activity_begin_with_the_users_memberships(
    tmp_path: Path, archived: bool | None
) -> None:
    """What is sorted is the user's own, and the rooms of the page alone are looked at whole."""
    database = await open_database(f"sqlite:///{tmp_path / 'chat.db'}")
    await database.close()
    where = rooms.RoomFilter(U, archived=archived)
    (query,) = queries_of(partial(rooms.by_activity, P, where, None, 50))
    with closing(sqlite3.connect(tmp_path / "chat.db")) as raw:
        rows = raw.execute(f"EXPLAIN QUERY PLAN {dialect(query.sql)}", query.parameters)
        plan = [row[3] for row in rows]
    before, behind = plan[: plan.index("SCAN p")], plan[plan.index("SCAN p") :]
    assert any(
        line.startswith("SEARCH m ") and "(project_id=? AND user_id=?)" in line for line in before
    ), plan
    assert "SEARCH m USING PRIMARY KEY (project_id=? AND room_id=? AND user_id=?)" in behind, plan


# The indexes in which the directory reads nothing but what begins with the prefix.
OF_NAMES = ["uq_users_username", "ix_users_display_name"]


async def test_the_directory_reads_what_begins_with_the_prefix_alone_on_sqlite(
    tmp_path: Path,
) -> None:
    database = await open_database(f"sqlite:///{tmp_path / 'chat.db'}")
    await database.close()
    with closing(sqlite3.connect(tmp_path / "chat.db")) as raw:
        for query, index in zip(queries_of(HOT["directory"])[1:], OF_NAMES, strict=True):
            rows = raw.execute(f"EXPLAIN QUERY PLAN {dialect(query.sql)}", query.parameters)
            plan = [row[3] for row in rows]
            begin = f"SEARCH users USING INDEX {index} (project_id=? AND <expr>>? AND <expr><?)"
            assert plan[0] == begin, plan


@pytest.mark.services("postgres")
async def test_the_directory_reads_what_begins_with_the_prefix_alone_on_postgres(
    postgres_url: str,
) -> None:
    import asyncpg

    database = await open_database(postgres_url, pool=2)
    await database.close()
    raw = await asyncpg.connect(postgres_url)
    await raw.execute("SET enable_seqscan = off")
    await raw.execute("SET enable_bitmapscan = off")
    try:
        for query, index in zip(queries_of(HOT["directory"])[1:], OF_NAMES, strict=True):
            rows = await raw.fetch(f"EXPLAIN {query.sql}", *query.parameters)
            plan = [row[0].strip() for row in rows]
            at = next(n for n, line in enumerate(plan) if f"Index Scan using {index}" in line)
            assert plan[at + 1].startswith("Index Cond: ((project_id ="), plan
            assert plan[at + 1].count("COALESCE") == 2, plan
    finally:
        await raw.close()


@pytest.mark.parametrize("name", HOT)
async def test_sqlite_finds_everything_hot_by_an_index(tmp_path: Path, name: str) -> None:
    """No scan of a table, and no sorting of what was found."""
    database = await open_database(f"sqlite:///{tmp_path / 'chat.db'}")
    await database.close()
    found = queries_of(HOT[name])
    assert found
    with closing(sqlite3.connect(tmp_path / "chat.db")) as raw:
        for query in found:
            sql = dialect(query.sql)
            explained = raw.execute(f"EXPLAIN QUERY PLAN {sql}", query.parameters)
            assert_finds_by_an_index(query.sql, [row[3] for row in explained])


def assert_finds_by_an_index(sql: str, plan: list[str]) -> None:
    for line in plan:
        # What is a table of its own is a page, cut before anything else is looked at: kept
        # before SQLite 3.46, handed over row by row since.
        # By activity, the user's memberships have to be sorted for it: nothing else is in `p`.
        page = any(
            not {f"MATERIALIZE {name}", f"CO-ROUTINE {name}"}.isdisjoint(plan)
            and line in {f"SCAN {name}", "USE TEMP B-TREE FOR ORDER BY"}
            for name in "mp"
        )
        assert not line.startswith("SCAN") or LISTED.fullmatch(line) or page, (sql, plan)
        # An index of which only the project is used reads all members or messages there are.
        if re.match(r"SEARCH (b|blocks|c|changes|m|members|n|x|y|messages) ", line):
            assert not line.endswith("(project_id=?)"), (sql, plan)
        if line.startswith("SEARCH x "):
            assert "user_id=?" in line, (sql, plan)
        assert "TEMP B-TREE" not in line or page, (sql, plan)
        assert "AUTOMATIC" not in line, (sql, plan)


@pytest.mark.services("postgres")
async def test_postgres_finds_everything_hot_by_an_index(postgres_url: str) -> None:
    """Likewise, where sequential scans are dear: none is left."""
    import asyncpg

    database = await open_database(postgres_url, pool=2)
    await database.close()
    raw = await asyncpg.connect(postgres_url)
    await raw.execute("SET enable_seqscan = off")
    await raw.execute("SET enable_bitmapscan = off")
    try:
        for rule in HOT.values():
            for query in queries_of(rule):
                plan = "\n".join(
                    row[0] for row in await raw.fetch(f"EXPLAIN {query.sql}", *query.parameters)
                )
                assert "Seq Scan" not in plan, (query.sql, plan)
    finally:
        await raw.close()


async def seeded(path: Path, size: int) -> SqliteDatabase:
    """A room of *size* messages by two users, written past the rules because there are many."""
    database = await open_database(f"sqlite:///{path}")
    assert isinstance(database, SqliteDatabase)
    await api_keys.ApiKeys(database).ensure_project(P, P)
    raw = sqlite3.connect(path)
    raw.execute(
        "INSERT INTO users (project_id, id, external_user_id, username, created_at, updated_at)"
        " VALUES (?, 'a', 'a', 'a', '', ''), (?, 'b', 'b', 'b', '', '')",
        (P, P),
    )
    raw.execute(
        "INSERT INTO rooms (project_id, id, name, private, created_by, created_at, updated_at,"
        " member_count, last_seq) VALUES (?, ?, 'r', 0, 'a', '', '', 2, ?)",
        (P, R, size),
    )
    raw.execute(
        "INSERT INTO members (project_id, room_id, user_id, role, joined_at)"
        " VALUES (?, ?, 'a', 'owner', ''), (?, ?, 'b', 'member', '')",
        (P, R, P, R),
    )
    raw.executemany(
        "INSERT INTO messages (project_id, room_id, seq, id, user_id, author_seq, content,"
        " created_at) VALUES (?, ?, ?, ?, ?, ?, 'hello', '2026-01-01T00:00:00.000Z')",
        ((P, R, n, f"m{n}", "ab"[n % 2], (n + 1) // 2) for n in range(1, size + 1)),
    )
    raw.executemany(
        "INSERT INTO changes (project_id, room_id, rev, kind, object, seq, changed_at)"
        " VALUES (?, ?, ?, 'message', ?, ?, 1)",
        ((P, R, n, f"m{n}", n) for n in range(1, size + 1)),
    )
    raw.commit()
    raw.close()
    return database


async def test_a_large_room_costs_no_more_steps_than_a_small_one(tmp_path: Path) -> None:
    """Pages, cursors, the list with unread, a read mark, changes, a delta: counted in steps
    of SQLite's machine, which no busy test machine can blur. Every message has changed."""
    small = await seeded(tmp_path / "small.db", 1_000)
    large = await seeded(tmp_path / "large.db", 100_000)

    def steps_of(database: SqliteDatabase, rule: Callable[[], Steps[Any]]) -> int:
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return 0

        raw = database._reader
        raw.set_progress_handler(tick, 1)
        for query in queries_of(rule):
            if query.sql.startswith("SELECT"):
                sql = dialect(query.sql)
                raw.execute(sql, query.parameters).fetchall()
        raw.set_progress_handler(None, 1)
        return count

    for name, rule in (
        ("page 1", lambda n: partial(page_of, n, 1)),
        ("middle", lambda n: partial(page_of, n, n // 100)),
        ("cursor", lambda n: partial(messages.between, P, R, n // 2, None, 50)),
        ("unread", lambda _: partial(rooms.page, P, rooms.RoomFilter("a"), 1, 50)),
        ("around", lambda n: partial(around_of, n, n // 2)),
        ("by id", lambda n: partial(lookups.some, P, R, [f"m{n // 2}", f"m{n}"], 1)),
        ("changes", lambda n: partial(changes_of, n, n - 20)),
        ("delta", lambda n: partial(delta_of, n, n - 20)),
    ):
        few, many = steps_of(small, rule(1_000)), steps_of(large, rule(100_000))
        assert many <= few * 1.1, (name, few, many)
    for database in (small, large):
        mark = (await database.write(partial(mine.mark_read, P, R, "a", 10, False))).answer
        last = 1_000 if database is small else 100_000
        assert mark.unread == (last - 10) // 2
        await database.close()


def around_of(last: int, seq: int) -> Steps[Any]:
    ANSWERS["SELECT last_seq"] = [(last,)]
    return lookups.around(P, R, seq, 50, 1)


def of_room(last: int) -> None:
    """Answer that the room has so many messages and changes."""
    for text, rows in ANSWERS.items():
        if text.startswith("SELECT r.id") and rows:
            row = list(rows[0])
            row[7] = row[13] = last
            ANSWERS[text] = [tuple(row)]


def changes_of(last: int, since: int) -> Steps[Any]:
    of_room(last)
    return delta.page(P, R, since, 1, 50)


def delta_of(last: int, since: int) -> Steps[Any]:
    of_room(last)
    return delta.delta(P, R, delta.Reader("a", delta.Known(since, since)), "e")


def page_of(last: int, number: int) -> Steps[Any]:
    """`messages.page`, told how many there are."""
    ANSWERS["SELECT last_seq"] = [(last,)]
    return messages.page(P, R, number, 50)
