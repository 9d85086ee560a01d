"""Permissions of the key, owners, members, strangers, other projects, and without a credential."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, of_user, refused

USERS = "/api/v1/projects/{pid}/users"
ROOMS = "/api/v1/projects/{pid}/rooms"


@dataclass
class Cast:
    """A private room of owner, author and reader; a stranger outside; a token for each."""

    room: dict[str, Any]
    message: dict[str, Any]
    tokens: dict[str, str]
    users: dict[str, dict[str, Any]]


async def cast_of(api: ChatApi, *, private: bool = True) -> Cast:
    users = {name: await api.user(name) for name in ("owner", "author", "reader", "stranger")}
    room = await api.room(users["owner"], users["author"], users["reader"], private=private)
    message = await api.say(room, users["author"], "hello")
    return Cast(room, message, {name: await api.token(user) for name, user in users.items()}, users)


# Route, body, and the status for: the key, owner, author, reader, stranger, no credential.
MATRIX: list[tuple[str, str, Any, tuple[int, int, int, int, int, int]]] = [
    ("GET", "/api/v1/project", None, (200, 200, 200, 200, 200, 401)),
    ("GET", "/api/v1/auth/verify", None, (401, 200, 200, 200, 200, 401)),
    ("GET", USERS, None, (200, 403, 403, 403, 403, 401)),
    ("POST", USERS, {}, (400, 403, 403, 403, 403, 401)),
    ("GET", "{user}", None, (200, 403, 403, 403, 403, 401)),
    ("PATCH", "{user}", {}, (200, 403, 403, 403, 403, 401)),
    ("GET", "{user}/settings", None, (200, 403, 403, 403, 403, 401)),
    ("PATCH", "{user}/settings", {}, (200, 403, 403, 403, 403, 401)),
    ("GET", "{user}/blocks", None, (200, 403, 403, 403, 403, 401)),
    ("PUT", "{user}/blocks/{stranger}", None, (204, 403, 403, 403, 403, 401)),
    ("DELETE", "{user}/blocks/{stranger}", None, (204, 403, 403, 403, 403, 401)),
    ("GET", "{user}/directory?q=a", None, (200, 403, 403, 403, 403, 401)),
    ("POST", "{user}/token", {}, (200, 403, 403, 403, 403, 401)),
    ("GET", "/api/v1/projects/{pid}/presence?ids=a", None, (200, 403, 403, 403, 403, 401)),
    ("POST", "{user}/signals", {"name": "x"}, (202, 403, 403, 403, 403, 401)),
    ("POST", "{room}/signals", {"name": "x"}, (202, 403, 403, 403, 403, 401)),
    ("GET", ROOMS, None, (200, 200, 200, 200, 200, 401)),
    ("POST", ROOMS, {}, (400, 403, 403, 403, 403, 401)),
    ("GET", "{room}", None, (200, 200, 200, 200, 404, 401)),
    ("PATCH", "{room}", {}, (200, 403, 403, 403, 403, 401)),
    ("GET", "{room}/members", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "{room}/members/{uid}", None, (200, 200, 200, 200, 404, 401)),
    ("PUT", "{room}/members/{uid}", {}, (200, 403, 403, 403, 403, 401)),
    ("GET", "{room}/messages", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "{room}/messages?after=0", None, (200, 200, 200, 200, 404, 401)),
    ("POST", "{room}/messages", {"content": "x"}, (400, 201, 201, 201, 404, 401)),
    ("GET", "{room}/messages?ids={mid}", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "{room}/messages?around=1", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "{room}/messages/{mid}", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "{room}/messages/{mid}/receipts", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "{room}/changes?since_rev=0", None, (200, 200, 200, 200, 404, 401)),
    ("PATCH", "{room}/messages/{mid}", {"content": "y"}, (200, 403, 200, 403, 404, 401)),
    ("PUT", "{room}/read", {"seq": 1}, (400, 200, 200, 200, 404, 401)),
    ("POST", "{room}/join", None, (400, 200, 200, 200, 404, 401)),
    ("DELETE", "{room}/messages/{mid}", None, (204, 204, 204, 403, 404, 401)),
    ("POST", "{room}/leave", None, (400, 204, 204, 204, 404, 401)),
    ("DELETE", "{room}/members/{uid}", None, (204, 403, 403, 403, 403, 401)),
    ("POST", "{user}/revoke", {}, (200, 403, 403, 403, 403, 401)),
    ("POST", "/api/v1/projects/{pid}/revoke", None, (200, 403, 403, 403, 403, 401)),
    ("DELETE", "{room}", None, (204, 403, 403, 403, 403, 401)),
    ("DELETE", "{user}", None, (204, 403, 403, 403, 403, 401)),
]


@pytest.mark.parametrize(("method", "path", "body", "expected"), MATRIX)
async def test_every_route_opens_for_whom_it_should(
    api: ChatApi, method: str, path: str, body: Any, expected: tuple[int, ...]
) -> None:
    """One row per route, one column per client; strangers come first, before anything has changed."""
    cast = await cast_of(api)
    where = (
        path.replace("{room}", in_room(cast.room))
        .replace("{user}", of_user(cast.users["author"]))
        .replace("{uid}", cast.users["author"]["id"])
        .replace("{stranger}", cast.users["stranger"]["id"])
        .replace("{mid}", cast.message["id"])
    )
    sent = {} if body is None else {"json": body}
    found = {"nobody": await api.bare(method, where, **sent)}
    for name in ("stranger", "reader", "author", "owner"):
        found[name] = await api.as_user(cast.tokens[name], method, where, **sent)
    found["key"] = await api.send(method, where, **sent)
    names = ("key", "owner", "author", "reader", "stranger", "nobody")
    assert tuple(found[name].status_code for name in names) == expected
    for answer in found.values():
        if answer.status_code >= 400:
            refused(answer, answer.status_code)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "{room}", None),
        ("GET", "{room}/members", None),
        ("GET", "{room}/members/{uid}", None),
        ("GET", "{room}/messages", None),
        ("GET", "{room}/messages?after=0", None),
        ("GET", "{room}/messages/{mid}/receipts", None),
        ("POST", "{room}/messages", {"content": "x"}),
        ("PATCH", "{room}/messages/{mid}", {"content": "x"}),
        ("DELETE", "{room}/messages/{mid}", None),
        ("PUT", "{room}/read", {"seq": 1}),
        ("POST", "{room}/join", None),
        ("POST", "{room}/leave", None),
    ],
)
async def test_not_yours_and_missing_are_one_answer(
    api: ChatApi, method: str, path: str, body: Any
) -> None:
    """A private room responds to strangers exactly as a missing room."""
    cast = await cast_of(api)
    answers = []
    for room_id in (cast.room["id"], "0190f3a8-0000-7000-8000-000000000000"):
        where = (
            path.replace("{room}", in_room({"id": room_id}))
            .replace("{uid}", cast.users["author"]["id"])
            .replace("{mid}", cast.message["id"])
        )
        answer = await api.as_user(cast.tokens["stranger"], method, where, json=body)
        problem = refused(answer, 404, "room_not_found")
        del problem["request_id"], problem["instance"]
        answers.append((problem, sorted(answer.headers)))
    assert answers[0] == answers[1]


async def test_an_open_room_lets_users_in_and_says_why_not_before(api: ChatApi) -> None:
    """Every user may join an open room, and gets an error for posting before."""
    cast = await cast_of(api, private=False)
    path, token = in_room(cast.room), cast.tokens["stranger"]
    answer = await api.as_user(token, "POST", f"{path}/messages", json={"content": "x"})
    refused(answer, 403, "not_a_member")
    refused(await api.as_user(token, "GET", f"{path}/messages"), 404, "room_not_found")
    assert (await api.as_user(token, "POST", f"{path}/leave")).status_code == 204
    joined = await api.as_user(token, "POST", f"{path}/join")
    assert joined.json()["user_id"] == cast.users["stranger"]["id"]
    said = await api.as_user(token, "POST", f"{path}/messages", json={"content": "x"})
    assert said.json()["user_id"] == cast.users["stranger"]["id"]
    assert (await api.as_user(token, "POST", f"{path}/leave")).status_code == 204
    refused(await api.as_user(token, "GET", path), 404)


async def test_a_member_of_a_private_room_may_join_it_again(api: ChatApi) -> None:
    """Joining again changes nothing."""
    cast = await cast_of(api)
    again = await api.as_user(cast.tokens["reader"], "POST", f"{in_room(cast.room)}/join", json={})
    assert again.status_code == 200


async def test_a_token_acts_for_its_own_user_alone(api: ChatApi) -> None:
    """A token may name its own user; another user is refused, and nothing changes."""
    cast = await cast_of(api)
    path, token = in_room(cast.room), cast.tokens["reader"]
    own, other = cast.users["reader"]["id"], cast.users["author"]["id"]
    for way, where, body in (
        ("POST", f"{path}/messages", {"content": "x"}),
        ("PUT", f"{path}/read", {"seq": 1}),
        ("POST", f"{path}/join", {}),
        ("POST", f"{path}/leave", {}),
    ):
        answer = await api.as_user(token, way, where, json={**body, "user_id": other})
        refused(answer, 403, "not_your_user")
    mine = await api.as_user(
        token, "POST", f"{path}/messages", json={"content": "mine", "user_id": own}
    )
    assert mine.json()["user_id"] == own
    refused(await api.as_user(token, "GET", f"{ROOMS}?member_id={other}"), 403, "not_your_user")
    assert (await api.send("GET", f"{path}/messages")).json()["total"] == 2
    assert (await api.send("GET", path)).json()["member_count"] == 3


async def test_a_user_lists_their_own_rooms_with_unread(api: ChatApi) -> None:
    """A token sees the rooms of its user, and no other."""
    cast = await cast_of(api)
    page = (await api.as_user(cast.tokens["reader"], "GET", ROOMS)).json()
    assert [(item["id"], item["unread"]) for item in page["items"]] == [(cast.room["id"], 1)]
    assert (await api.as_user(cast.tokens["stranger"], "GET", ROOMS)).json()["total"] == 0


async def test_two_credentials_in_one_request_are_refused(api: ChatApi) -> None:
    """Key and token in one request are refused."""
    token = await api.token(await api.user())
    both = {"Authorization": f"Bearer {token}"}
    refused(await api.send("GET", ROOMS, headers=both), 400, "ambiguous_credentials")
    twice = [("X-API-Key", api.api_key), ("X-API-Key", api.api_key)]
    refused(await api.bare("GET", ROOMS, headers=twice), 400)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "ck_",
        "wrong",
        "ck_0000000000000000_" + "A" * 43,
        "ké\xff",
        "a" * 5000,
        "{good}x",
        "{good-1}",
    ],
)
async def test_a_bad_key_opens_nothing(api: ChatApi, key: str) -> None:
    """A malformed key is 401, without details."""
    sent = key.replace("{good}", api.api_key).replace("{good-1}", api.api_key[:-1])
    answer = await api.bare("GET", "/api/v1/project", headers=[(b"X-API-Key", sent.encode())])
    refused(answer, 401, "api_key_invalid")
    assert api.api_key not in answer.text


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Basic dTpw", "Bearer a.b.c", "Bearer ...", "Token x", "Bearer é"],
)
async def test_a_bad_authorization_is_401(api: ChatApi, authorization: str) -> None:
    """A missing or malformed credential gets a challenge."""
    raw = [(b"Authorization", authorization.encode())]
    refused(await api.bare("GET", "/api/v1/auth/verify", headers=raw), 401)


async def test_another_projects_key_and_token_open_nothing_here(api: ChatApi) -> None:
    """An id of another project does not exist, nor does the project itself."""
    cast = await cast_of(api)
    for pid in ("default2", "0190f3a8-0000-7000-8000-000000000000"):
        for path in (f"/api/v1/projects/{pid}/users", f"/api/v1/projects/{pid}/rooms"):
            refused(await api.send("GET", path), 404, "project_not_found")
        answer = await api.as_user(
            cast.tokens["owner"], "GET", f"/api/v1/projects/{pid}/rooms/{cast.room['id']}"
        )
        refused(answer, 404, "project_not_found")


async def test_a_token_says_what_the_contract_says(api: ChatApi) -> None:
    """A token's header, claims and lifetime; verify returns its user."""
    user = await api.user("claims", display_name="Clara")
    answer = await api.send("POST", f"{of_user(user)}/token", json={"expires_in": 60})
    minted = answer.json()
    assert set(minted) == {"token", "token_type", "expires_in", "expires_at", "user"}
    assert (minted["token_type"], minted["expires_in"]) == ("Bearer", 60)
    assert minted["user"] == user
    header, claims = [
        json.loads(base64.urlsafe_b64decode(part + "==")) for part in minted["token"].split(".")[:2]
    ]
    assert (header["typ"], header["alg"]) == ("chat+jwt", "EdDSA")
    assert set(claims) == {
        "iss", "aud", "sub", "pid", "ext", "name", "sid", "jti", "iat", "exp", "gen",
    }  # fmt: skip
    assert (claims["aud"], claims["sub"], claims["pid"]) == ("chat", user["id"], api.pid)
    assert (claims["ext"], claims["name"]) == (user["external_user_id"], user["username"])
    assert claims["exp"] - claims["iat"] == 60
    keys = (await api.bare("GET", "/.well-known/jwks.json")).json()["keys"]
    assert header["kid"] in [key["kid"] for key in keys]
    assert all("d" not in key for key in keys)
    verified = await api.as_user(minted["token"], "GET", "/api/v1/auth/verify")
    assert verified.json() == {
        "valid": True,
        "user": {
            "userId": user["id"],
            "username": user["username"],
            "externalUserId": user["external_user_id"],
            "projectId": api.pid,
        },
        "expires_at": minted["expires_at"],
    }


async def test_two_tokens_are_never_the_same(api: ChatApi) -> None:
    """Every mint creates a new token and session, for 900 seconds by default."""
    user = await api.user()
    answers = [(await api.send("POST", f"{of_user(user)}/token")).json() for _ in range(3)]
    assert len({answer["token"] for answer in answers}) == 3
    assert {answer["expires_in"] for answer in answers} == {900}


@pytest.mark.parametrize("expires_in", [0, -1, 3601, 10**9, 1.5, "60", True])
async def test_a_token_lives_from_one_second_to_an_hour(api: ChatApi, expires_in: Any) -> None:
    """Anything else is 400."""
    user = await api.user()
    answer = await api.send("POST", f"{of_user(user)}/token", json={"expires_in": expires_in})
    assert refused(answer, 400)["errors"][0]["field"] == "expires_in"


async def test_revoking_kills_every_token_and_no_later_one(api: ChatApi) -> None:
    """The generation rises, old tokens are refused as revoked, and a new one is valid."""
    user = await api.user()
    old = [await api.token(user) for _ in range(2)]
    receipt = await api.send("POST", f"{of_user(user)}/revoke")
    assert receipt.status_code == 200
    assert {"generation", "sockets_closed", "nodes_acked", "took_ms"} <= set(receipt.json())
    for token in old:
        refused(await api.as_user(token, "GET", ROOMS), 401, "token_revoked")
    fresh = await api.token(user)
    assert (await api.as_user(fresh, "GET", ROOMS)).status_code == 200
    second = (await api.send("POST", f"{of_user(user)}/revoke", json={})).json()
    assert second["generation"] == receipt.json()["generation"] + 1


async def test_one_session_can_be_revoked_alone(api: ChatApi) -> None:
    """Tokens of the user's other session stay valid."""
    user = await api.user()
    one, two = await api.token(user), await api.token(user)
    sid = json.loads(base64.urlsafe_b64decode(one.split(".")[1] + "=="))["sid"]
    answer = await api.send("POST", f"{of_user(user)}/revoke", json={"session_id": sid})
    assert answer.status_code == 200
    refused(await api.as_user(one, "GET", ROOMS), 401, "token_revoked")
    assert (await api.as_user(two, "GET", ROOMS)).status_code == 200


async def test_a_suspended_user_gets_no_token_and_has_none(api: ChatApi) -> None:
    """Minting is 403 and tokens are refused as suspended; old tokens stay invalid afterwards."""
    user = await api.user()
    token = await api.token(user)
    await api.send("PATCH", of_user(user), json={"status": "suspended"})
    refused(await api.send("POST", f"{of_user(user)}/token"), 403, "user_suspended")
    refused(await api.as_user(token, "GET", "/api/v1/auth/verify"), 401, "user_suspended")
    await api.send("PATCH", of_user(user), json={"status": "active"})
    refused(await api.as_user(token, "GET", "/api/v1/auth/verify"), 401, "token_revoked")
    assert await api.token(user)


async def test_a_deleted_users_token_says_so(api: ChatApi) -> None:
    """Tokens of a deleted user get 401 `user_deleted`."""
    user = await api.user()
    token = await api.token(user)
    await api.send("DELETE", of_user(user))
    refused(await api.as_user(token, "GET", "/api/v1/auth/verify"), 401, "user_deleted")


async def test_the_whole_project_can_be_revoked(api: ChatApi) -> None:
    """Every token of every user is revoked; new ones are valid."""
    users = [await api.user(), await api.user()]
    tokens = [await api.token(user) for user in users]
    answer = await api.send("POST", "/api/v1/projects/{pid}/revoke")
    assert answer.status_code == 200
    for token in tokens:
        refused(await api.as_user(token, "GET", ROOMS), 401, "token_revoked")
    assert (await api.as_user(await api.token(users[0]), "GET", ROOMS)).status_code == 200


async def test_a_changed_name_is_seen_through_an_old_token(api: ChatApi) -> None:
    """verify returns the user's present name."""
    user = await api.user()
    token = await api.token(user)
    fresh = f"{user['username']}-x"
    await api.send("PATCH", of_user(user), json={"username": fresh})
    verified = await api.as_user(token, "GET", "/api/v1/auth/verify")
    assert verified.json()["user"]["username"] == fresh
