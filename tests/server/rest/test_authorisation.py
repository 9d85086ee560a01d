"""Who may what with a chat token: each role, and a stranger, on each route of a room. A new route needs its row in TABLE.

Routes for the API key alone refuse every token.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chat_broker_server.rest.router import ROUTES, Credential
from tests.contract.servers import ChatApi, in_room, refused
from tests.server.opening import opened

ROLES = ("owner", "moderator", "member", "guest")
EVERYBODY = frozenset(ROLES)
MEMBERS = EVERYBODY - {"guest"}
MODERATORS = frozenset({"owner", "moderator"})
OWNER = frozenset({"owner"})
_ROOM = "/rooms/{room_id}"


class Row(NamedTuple):
    """One route: who may, the code of the others' refusal, and the rest of the request."""

    method: str
    path: str
    """Behind the room, as the table of routes names it."""
    may: frozenset[str] = EVERYBODY
    code: str = ""
    body: Any = None
    query: str = ""
    message: str = "own"
    """Whose message it is about: the caller's, or that of `first` (an owner), `peer` (a moderator) or `other` (a member)."""

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.message}"


TEXT = {"content": "x"}
_M = "/messages/{message_id}"
TABLE = [
    Row("GET", ""),
    Row("POST", "/join"),
    Row("POST", "/leave"),
    Row("PUT", "/read", body={"seq": 1}),
    Row("PUT", "/delivered", body={"seq": 1}),
    Row("GET", "/changes", query="?since_rev=0"),
    Row("GET", "/mine"),
    Row("PATCH", "/mine", body={"pinned": True}),
    Row("GET", "/members"),
    Row("GET", "/members/{user_id}"),
    Row("GET", "/messages"),
    Row("POST", "/messages", MEMBERS, "read_only", TEXT),
    Row("GET", _M),
    Row("PATCH", _M, body=TEXT),
    *(
        Row("PATCH", _M, frozenset(), "not_the_author", TEXT, message=message)
        for message in ("first", "peer", "other")
    ),
    Row("DELETE", _M),
    Row("DELETE", _M, MODERATORS, "not_the_author", message="other"),
    Row("DELETE", _M, MODERATORS, "not_the_author", message="peer"),
    Row("DELETE", _M, OWNER, "not_the_author", message="first"),
    Row("GET", f"{_M}/receipts"),
    Row("GET", f"{_M}/reactions"),
    Row("PUT", f"{_M}/reactions/{{emoji}}", MEMBERS, "read_only"),
    Row("DELETE", f"{_M}/reactions/{{emoji}}", MEMBERS, "read_only"),
    Row("PUT", f"{_M}/pin", MODERATORS, "owner_only"),
    Row("DELETE", f"{_M}/pin", MODERATORS, "owner_only"),
    Row("GET", "/pins"),
]


def routes(*credentials: Credential) -> set[tuple[str, str]]:
    return {
        (method, path.partition(_ROOM)[2])
        for method, path, credential, _ in ROUTES
        if _ROOM in path and credential in credentials
    }


def test_every_route_for_tokens_has_its_row() -> None:
    rows = {(row.method, row.path) for row in TABLE}
    assert rows == routes(Credential.EITHER, Credential.USER)


STRANGERS_OF_OPEN_ROOMS = {("PUT", "/read"), ("PUT", "/delivered")}
"""An open room is no secret: there, a stranger is told that they are no member."""


class Cast(NamedTuple):
    """A room with an owner, a moderator, a member and the caller; their messages by name."""

    room: dict[str, Any]
    caller: dict[str, Any]
    messages: dict[str, dict[str, Any]]


async def cast(api: ChatApi, role: str) -> Cast:
    people = {name: await api.user(name) for name in ("first", "peer", "other", "own")}
    room = await api.room(*people.values())
    messages = {name: await api.say(room, user, "hello") for name, user in people.items()}
    for name, given in (("peer", "moderator"), ("own", role)):
        path = f"{in_room(room)}/members/{people[name]['id']}"
        assert (await api.send("PUT", path, json={"role": given})).is_success
    return Cast(room, people["own"], messages)


def path_of(there: Cast, row: Row) -> str:
    filled = row.path.format(
        user_id=there.caller["id"],
        emoji="%F0%9F%91%8D",
        message_id=there.messages[row.message]["id"],
    )
    return f"{in_room(there.room)}{filled}{row.query}"


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_who_may(tmp_path: Path, row: Row) -> None:
    async with opened(tmp_path) as (_, api):
        for role in ROLES:
            there = await cast(api, role)
            token = await api.token(there.caller)
            answer = await api.as_user(token, row.method, path_of(there, row), json=row.body)
            if role in row.may:
                assert answer.is_success, (role, answer.text)
            else:
                refused(answer, 403, row.code)
        if row.path in {"/join", "/leave"}:
            return
        token = await api.token(await api.user())
        answer = await api.as_user(token, row.method, path_of(there, row), json=row.body)
        if row.method == "POST":
            refused(answer, 403, "not_a_member")
        elif (row.method, row.path) in STRANGERS_OF_OPEN_ROOMS:
            refused(answer, 403)
        else:
            refused(answer, 404, "room_not_found")


@pytest.mark.parametrize(("method", "path"), sorted(routes(Credential.KEY)))
async def test_no_role_does_what_is_the_keys(tmp_path: Path, method: str, path: str) -> None:
    async with opened(tmp_path) as (_, api):
        there = await cast(api, "owner")
        token = await api.token(there.caller)
        by_own_id = (method, path) == ("PUT", "")  # to an id of ours, the path does not answer PUT
        room = {**there.room, "id": "external:shop-7"} if by_own_id else there.room
        url = path_of(there._replace(room=room), Row(method, path))
        refused(await api.as_user(token, method, url), 403, "api_key_required")
