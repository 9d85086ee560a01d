"""Who may what: each role, and a stranger, on each route of a room. A new route needs its row in TABLE."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from tests.app.brokers import Person, Running, code_of, running

ROLES = ("owner", "moderator", "member", "guest")
EVERYBODY = frozenset(ROLES)
MEMBERS = EVERYBODY - {"guest"}
MODERATORS = frozenset({"owner", "moderator"})
OWNER = frozenset({"owner"})


class Row(NamedTuple):
    """One route: who may, the code of the others' refusal, and the rest of the request."""

    method: str
    path: str
    """Behind `/rooms/{room_id}`, as the application names it."""
    may: frozenset[str] = EVERYBODY
    code: str = ""
    body: Any = None
    query: str = ""
    filled: Mapping[str, str] = MappingProxyType({})
    """Parameters of the path; `{message_id}` is else a message of the caller's, `{user}` another member."""

    def __str__(self) -> str:
        more = "-".join(self.filled.values())
        return f"{self.method} {self.path} {more}".strip()


TEXT = {"content": "x"}
TABLE = [
    Row("GET", ""),
    Row("PATCH", "", OWNER, "owner_only", {"name": "other"}),
    Row("PATCH", "", OWNER, "owner_only", {"settings": {"slow_mode": 1}}),
    Row("DELETE", "", OWNER, "owner_only"),
    Row("POST", "/join"),
    Row("POST", "/leave"),
    Row("GET", "/members"),
    Row("GET", "/members", query="?as=owner&q=a&cursor="),
    Row("POST", "/members", MODERATORS, "owner_only", {"users": ["external:eve"]}),
    Row("PUT", "/members/{user}", MODERATORS, "owner_only"),
    Row("PUT", "/members/{user}", MODERATORS, "owner_only", filled={"user": "external:eve"}),
    Row("DELETE", "/members/{user}", MODERATORS, "owner_only"),
    Row("DELETE", "/members/{user}", OWNER, "owner_only", filled={"user": "external:peer"}),
    Row("DELETE", "/members/{user}", OWNER, "owner_only", filled={"user": "external:first"}),
    Row("PUT", "/roles/{role}/{user}", OWNER, "owner_only", filled={"role": "guest"}),
    Row("DELETE", "/roles/{role}/{user}", OWNER, "owner_only", filled={"role": "guest"}),
    Row("GET", "/messages"),
    Row("POST", "/messages", MEMBERS, "read_only", TEXT),
    Row("POST", "/messages", MEMBERS, "read_only", {"content": "x", "mentions": ["external:peer"], "mention_room": True}),
    Row("GET", "/messages/{message_id}"),
    Row("GET", "/messages/{message_id}/receipts"),
    Row("PATCH", "/messages/{message_id}", body=TEXT),
    Row("PATCH", "/messages/{message_id}", frozenset(), "author_only", TEXT, filled={"message_id": "other"}),
    Row("DELETE", "/messages/{message_id}"),
    Row("DELETE", "/messages/{message_id}", MODERATORS, "author_only", filled={"message_id": "other"}),
    Row("DELETE", "/messages/{message_id}", MODERATORS, "author_only", filled={"message_id": "peer"}),
    Row("DELETE", "/messages/{message_id}", OWNER, "author_only", filled={"message_id": "first"}),
    Row("GET", "/messages/{message_id}/reactions"),
    Row("PUT", "/messages/{message_id}/reactions/{emoji}", MEMBERS, "read_only", filled={"emoji": ":a:"}),
    Row("DELETE", "/messages/{message_id}/reactions/{emoji}", MEMBERS, "read_only", filled={"emoji": ":a:"}),
    Row("PUT", "/messages/{message_id}/pin", MODERATORS, "owner_only"),
    Row("DELETE", "/messages/{message_id}/pin", MODERATORS, "owner_only"),
    Row("GET", "/pins"),
    Row("PUT", "/read", body={"seq": 1}),
    Row("PUT", "/delivered", body={"seq": 1}),
    Row("GET", "/changes", query="?since_rev=0"),
    Row("GET", "/mine"),
    Row("PATCH", "/mine", body={"clear_history": True}),
]  # fmt: skip


class Cast(NamedTuple):
    """A room of `first` with `peer`, a moderator, `other`, a member, and the caller; their messages by name."""

    first: Person
    room: str
    messages: dict[str, str]


async def cast(broker: Running, caller: Person, role: str) -> Cast:
    first = await broker.sign_in("first")
    people = {name: await broker.sign_in(name) for name in ("peer", "other", "eve")}
    for each in (*people.values(), caller):
        await each.get("/me")
    names = [f"external:{name}" for name in ("peer", "other", caller.name)]
    room = await first.room(member_ids=names)
    said = {"first": first, "peer": people["peer"], "other": people["other"], "own": caller}
    messages = {name: (await person.say(room))["id"] for name, person in said.items()}
    for name, given in (("peer", "moderator"), (caller.name, role)):
        answer = await first.put(f"/rooms/{room}/roles/{given}/external:{name}")
        assert answer.status_code == 200, answer.text
    return Cast(first, room, messages)


def path_of(row: Row, there: Cast) -> str:
    """The row's path, filled."""
    filled = {"user": "external:other", **row.filled}
    filled["message_id"] = there.messages[row.filled.get("message_id", "own")]
    return f"/rooms/{there.room}{row.path.format(**filled)}{row.query}"


async def test_every_route_of_a_room_has_its_row(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        there = {
            (method, context.path.partition("/rooms/{room_id}")[2].replace(":path", ""))
            for context in iter_route_contexts(broker.app.routes)
            if "/chat/rooms/{room_id}" in (context.path or "")
            for method in context.methods or ()
        }
    assert {("GET", ""), ("PUT", "/roles/{role}/{user}")} <= there
    assert there - {(row.method, row.path) for row in TABLE} == set()


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_who_may(tmp_path: Path, row: Row) -> None:
    async with running(tmp_path) as broker:
        for role in ROLES:
            caller = await broker.sign_in(f"caller-{role}")
            there = await cast(broker, caller, role)
            answer = await caller.call(row.method, path_of(row, there), row.body)
            assert_as_told(row, role, answer)
        eve = await broker.sign_in("eve")
        if row.path != "/join":
            stranger = await eve.call(row.method, path_of(row, there), row.body)
            assert (stranger.status_code, code_of(stranger)) == (404, "room_not_found")


def assert_as_told(row: Row, role: str, answer: httpx.Response) -> None:
    if role in row.may:
        assert answer.is_success, (role, answer.text)
    else:
        assert (answer.status_code, code_of(answer)) == (403, row.code), (role, answer.text)
