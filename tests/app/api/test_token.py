"""Chat tokens: who gets one, its lifetime, and one chat user per identity."""

import asyncio
import base64
import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from chat_broker_sdk import Request, Response
from tests.app.brokers import Running, code_of, running


def claims(token: str) -> dict[str, object]:
    part = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_token_comes_with_all_a_client_needs(broker: Running, method: str) -> None:
    """`token` at the top, both methods, no-store, and the shape of the contract."""
    alice = await broker.sign_in("alice")
    answer = await alice.call(method, "/token")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {
        "token", "token_type", "expires_in", "refresh_in", "expires_at", "server_time", "session_id", "user", "server",
    }  # fmt: skip
    says = claims(body["token"])
    assert body["session_id"] == says["sid"]
    assert body["expires_in"] == 900
    assert 540 <= body["refresh_in"] <= 720
    assert set(body["user"]) == {"id", "external_user_id", "username", "display_name"}
    assert (body["user"]["id"], body["user"]["external_user_id"]) == (says["sub"], "alice")
    assert body["server"] == {"url": "http://chat", "socket_path": "/socket.io"}
    ends, now = (datetime.fromisoformat(body[name]) for name in ("expires_at", "server_time"))
    assert 898 <= (ends - now).total_seconds() <= 901
    assert body["expires_at"].endswith("Z")


async def test_every_call_mints_and_the_times_to_return_are_spread(broker: Running) -> None:
    """Every request mints a new token; `refresh_in` is spread; a new token does not revoke another."""
    alice = await broker.sign_in("alice")
    answers = await asyncio.gather(*(alice.get("/token") for _ in range(20)))
    bodies = [answer.json() for answer in answers]
    assert len({body["token"] for body in bodies}) == 20
    assert len({body["refresh_in"] for body in bodies}) > 5
    for body in bodies:
        headers = {"authorization": f"Bearer {body['token']}"}
        assert (await broker.client.get("/chat/verify", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("asked", "granted"), [(60, 60), (900, 900), (901, 900), (10**9, 900), (1, 1)]
)
async def test_expires_in_shortens_and_never_lengthens(
    broker: Running, asked: int, granted: int
) -> None:
    """`expires_in` is limited by TOKEN_TTL."""
    alice = await broker.sign_in("alice")
    body = (await alice.post("/token", {"expires_in": asked})).json()
    assert body["expires_in"] == granted
    life = int(claims(body["token"])["exp"]) - int(claims(body["token"])["iat"])  # type: ignore[call-overload]
    assert life == granted


@pytest.mark.parametrize("bad", [0, -1, 1.5, "60", True, [60], {}])
async def test_a_wish_that_is_no_number_of_seconds_is_refused(broker: Running, bad: object) -> None:
    alice = await broker.sign_in("alice")
    answer = await alice.post("/token", {"expires_in": bad})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "expires_in"


async def test_a_token_never_outlives_the_apps_own_credential(broker: Running) -> None:
    """A chat token does not outlive the app's session, here of 100 s."""
    from chat_broker.chat.principal import Principal

    me = Principal("iss", "sub", "sub", username="sub", expires_at=int(time.time()) + 100)
    token = await broker.app.broker.tokens.mint(me)
    assert 98 <= token.expires_in <= 100
    assert token.token not in repr(token)
    over = Principal("iss", "sub", "sub", username="sub", expires_at=int(time.time()))
    with pytest.raises(Exception, match="invalid_credentials"):
        await broker.app.broker.tokens.mint(over)


async def test_fifty_first_logins_at_once_make_one_chat_user(broker: Running) -> None:
    """50 concurrent first requests get 200 and one user id, and create one user."""
    alice = await broker.sign_in("alice")
    answers = await asyncio.gather(*(alice.post("/token") for _ in range(50)))
    assert [answer.status_code for answer in answers] == [200] * 50
    assert len({answer.json()["user"]["id"] for answer in answers}) == 1
    created = [
        path
        for path in broker.upstream.paths()
        if path.endswith("/users") and path.startswith("POST")
    ]
    assert len(created) == 1


async def test_two_brokers_racing_make_one_chat_user(tmp_path: Path) -> None:
    """Each process creates at most one user; after a 409 the second uses the first one's user."""
    from chat_broker.chat.identities import Identities
    from chat_broker.chat.principal import Principal
    from chat_broker.chat.tokens import ChatTokens
    from chat_broker.storage.sql import SqlLinks

    async with running(tmp_path) as one:
        state, upstream = one.app.state.storage, one.app.state.upstream
        brokers = [
            ChatTokens(
                upstream.chat,
                Identities(upstream.chat, SqlLinks(state.database)),
                generate=upstream.mint,
                longest_life=900,
            )
            for _ in range(5)
        ]
        me = Principal("iss", "carol", "carol", username="carol")
        tokens = await asyncio.gather(*(each.mint(me) for each in brokers for _ in range(10)))
        assert len({token.user.id for token in tokens if token.user}) == 1


async def test_the_link_survives_a_restart_and_a_lost_database(tmp_path: Path) -> None:
    """An identity keeps its chat user after a restart, also without broker.db."""
    ids = []
    for lose in (False, False, True):
        if lose:
            for path in tmp_path.glob("broker.db*"):  # noqa: ASYNC240 - three small files
                path.unlink()
        async with running(tmp_path) as one:
            ids.append(await (await one.sign_in("alice")).id())
    assert len(set(ids)) == 1


async def test_without_the_chat_apis_database_everybody_begins_anew(tmp_path: Path) -> None:
    """Users the broker has stored are created again if chat.db is lost; they do not count as deleted."""
    ids = []
    for _ in range(2):
        async with running(tmp_path) as one:
            alice = await one.sign_in("alice")
            answer = await alice.post("/token")
            assert answer.status_code == 200, answer.text
            ids.append(await alice.id())
            await alice.room()
        for path in tmp_path.glob("chat.db*"):  # noqa: ASYNC240 - three small files
            path.unlink()
    assert ids[0] != ids[1]


async def test_a_taken_username_gets_a_suffix_and_joins_nobody(broker: Running) -> None:
    """If another user has the username alice, the new user gets another one."""
    other = await broker.app.state.upstream.chat.users.create(
        username="alice", external_user_id="somebody-else"
    )
    me = (await (await broker.sign_in("alice")).get("/me")).json()
    assert me["id"] != other.id
    assert me["username"].startswith("alice-")
    assert me["external_user_id"] == "alice"


async def test_usernames_that_differ_in_case_alone_are_one(broker: Running) -> None:
    """Three subjects are three users with different usernames; the first keeps its spelling."""
    people = [await broker.sign_in(name) for name in ("Alice", "alice", "ALICE")]
    users = [(await one.get("/me")).json() for one in people]
    names = [user["username"] for user in users]
    assert names[0] == "Alice"
    assert names[1].startswith("alice-")
    assert names[2].startswith("ALICE-")
    assert [user["external_user_id"] for user in users] == ["Alice", "alice", "ALICE"]
    assert len({user["id"] for user in users}) == len({name.lower() for name in names}) == 3
    again = await broker.sign_in("alice")
    assert await again.id() == users[1]["id"]


async def test_the_same_subject_of_two_issuers_is_two_people(broker: Running) -> None:
    """Also where the operator gave two issuers no aliases."""
    from chat_broker.chat.principal import Principal

    rules = broker.app.broker
    ids = {
        (await rules.whoami(Principal(issuer, "7", "7", username="seven"))).id
        for issuer in ("https://a", "https://b")
    }
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ("Alice Smith", "Alice-Smith"),
        ("José", "Jose"),
        ("a" * 80, "a" * 64),
        ("../../etc", "etc"),
        ("x\u202ey", "x-y"),
        ("alice@example.com", None),
        ("алиса", None),
        ("", None),
        (None, None),
        ("...", None),
    ],
)
async def test_usernames_are_made_from_the_claim_or_from_a_hash(
    broker: Running, claim: str | None, expected: str | None
) -> None:
    """Usernames are never made from an e-mail address, nor with non-ASCII letters."""
    from chat_broker.chat.principal import Principal

    me = Principal(
        "iss", f"sub-{claim}"[:200], f"ext-{claim}"[:200], username=claim, email="me@example.com"
    )
    user = await broker.app.broker.whoami(me)
    if expected is None:
        assert user.username.startswith("user-")
        assert len(user.username) == len("user-") + 8
    else:
        assert user.username == expected


async def test_a_changed_name_and_address_reach_the_chat_user(broker: Running) -> None:
    """A changed name is written at the next token, once."""
    from chat_broker.chat.principal import Principal

    rules = broker.app.broker
    await rules.tokens.mint(
        Principal("iss", "d", "d", username="dora", name="Dora", email="d@example.com")
    )
    new = Principal("iss", "d", "d", username="dora", name="Dora Müller", email="dora@example.com")
    await rules.tokens.mint(new)
    user = await rules.whoami(new)
    assert (user.display_name, user.email) == ("Dora Müller", "dora@example.com")
    broker.upstream.seen.clear()
    await rules.tokens.mint(new)
    await rules.tokens.mint(Principal("iss", "d", "d", username="dora"))
    assert not [path for path in broker.upstream.paths() if path.startswith("PATCH")]


async def test_signing_out_kills_every_token_of_the_caller_alone(broker: Running) -> None:
    """204 also for an unknown user, who is not created."""
    alice, bob, carol = [await broker.sign_in(name) for name in ("alice", "bob", "carol")]
    tokens = [(await person.get("/token")).json()["token"] for person in (alice, alice, bob)]
    assert (await alice.delete("/token")).status_code == 204
    seen = [
        await broker.client.get("/chat/verify", headers={"authorization": f"Bearer {token}"})
        for token in tokens
    ]
    assert [answer.status_code for answer in seen] == [401, 401, 200]
    assert code_of(seen[0]) == "token_revoked"
    broker.upstream.seen.clear()
    assert (await carol.delete("/token")).status_code == 204
    assert not [path for path in broker.upstream.paths() if path.startswith("POST")]
    assert (await alice.get("/token")).status_code == 200


async def test_verify_says_what_the_chat_api_says_and_takes_chat_tokens_alone(
    broker: Running,
) -> None:
    """The app's credential, junk, an admin key and no credential are refused as chat tokens."""
    alice = await broker.sign_in("alice")
    token = (await alice.get("/token")).json()
    good = await broker.client.get(
        "/chat/verify", headers={"authorization": f"Bearer {token['token']}"}
    )
    assert good.status_code == 200
    assert good.json()["valid"] is True
    assert good.json()["user"] == {
        "userId": token["user"]["id"],
        "username": "alice",
        "externalUserId": "alice",
        "projectId": broker.server.project_id,
    }
    app_credential = alice.client.headers["authorization"]
    for header in (app_credential, "Bearer x.y.z", "Bearer", "Basic eDp5", "Bearer a b", ""):
        answer = await broker.client.get("/chat/verify", headers={"authorization": header})
        assert answer.status_code == 401, header
        assert "www-authenticate" in answer.headers
    answer = await broker.client.get("/chat/verify")
    assert answer.status_code == 401


async def test_suspended_and_deleted_users_are_stopped_everywhere(tmp_path: Path) -> None:
    """403 with the reason's code: at once when minting, elsewhere when the cache entry expires."""
    async with running(tmp_path) as broker:
        alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
        room = await alice.room()
        users = broker.app.state.upstream.chat.users
        ids = [await alice.id(), await bob.id()]
        await users.update(ids[0], status="suspended")
        await users.delete(ids[1])
    async with running(tmp_path) as broker:
        alice, bob = await broker.sign_in("alice"), await broker.sign_in("bob")
        for path in ("/token", "/me", "/rooms", f"/rooms/{room}", f"/rooms/{room}/messages"):
            answers = [await alice.get(path), await bob.get(path)]
            assert [answer.status_code for answer in answers] == [403, 403], path
            assert [code_of(answer) for answer in answers] == ["user_suspended", "user_deleted"]
        # An operator creates the deleted one anew: welcome back.
        again = await broker.app.state.upstream.chat.users.create(
            username="bob", external_user_id="bob"
        )
        assert (await bob.get("/me")).json()["id"] == again.id != ids[1]
        assert (await bob.get("/token")).json()["user"]["id"] == again.id


async def test_a_chat_api_that_speaks_no_jwt_still_gives_tokens(broker: Running) -> None:
    """A chat token without a `sid` gives a response without a session id."""
    alice = await broker.sign_in("alice")
    await alice.get("/me")
    user = {"id": "u1", "username": "alice"}
    body = json.dumps({"token": "opaque", "expires_in": 60, "user": user}).encode()

    def answer(request: Request) -> Response | None:
        return Response(200, [], body) if request.url.endswith("/token") else None

    broker.upstream.answer = answer
    found = (await alice.get("/token")).json()
    assert (found["token"], found["session_id"], found["expires_in"]) == ("opaque", None, 60)
