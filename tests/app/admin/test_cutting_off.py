"""Revocations and bans end tokens and sockets, and the response says so."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.app.admin.conftest import BOOTSTRAP, WHY, minted, open_office
from tests.programs import running_broker

RECEIPT = {"generation", "sockets_closed", "nodes_acked", "nodes_total", "took_ms"}


async def until(ask, status, *, within=5.0):
    """The first response with *status*."""
    deadline = time.monotonic() + within
    while (answer := await ask()).status_code != status:
        assert time.monotonic() < deadline, answer.text
    return answer


async def test_revoking_kills_tokens_and_closes_sockets_and_says_so(office):
    alice = await office.as_("revoked-alice")
    (token,) = await minted(alice)
    live = await office.socket(token)
    response = await office.admin.post("/admin/users/external:revoked-alice/revoke", json=WHY)
    assert response.status_code == 200
    receipt = response.json()
    assert set(receipt) == RECEIPT
    assert receipt["generation"] >= 1
    assert (receipt["sockets_closed"], receipt["nodes_acked"], receipt["nodes_total"]) == (1, 1, 1)
    async with asyncio.timeout(1):
        await live.closed.wait()
    assert [error["code"] for error in live.errors] == ["token_revoked"]
    assert await office.verify(token) == "token_revoked"
    (fresh,) = await minted(alice)
    assert await office.verify(fresh) == "ok"


async def test_one_session_can_be_revoked_alone(office):
    alice = await office.as_("session-alice")
    answers = [(await alice.post("/chat/token")).json() for _ in range(2)]
    lives = [await office.socket(answer["token"]) for answer in answers]
    body = WHY | {"session_id": answers[0]["session_id"]}
    response = await office.admin.post("/admin/users/external:session-alice/revoke", json=body)
    assert response.json()["sockets_closed"] == 1
    assert [await office.verify(one["token"]) for one in answers] == ["token_revoked", "ok"]
    async with asyncio.timeout(1):
        await lives[0].closed.wait()
    assert lives[1].client.connected


async def test_everybody_can_be_revoked_at_once(office):
    people = [await office.as_(f"all-{number}") for number in range(3)]
    tokens = await minted(*people)
    lives = [await office.socket(token) for token in tokens]
    response = await office.admin.post("/admin/revoke-all", json=WHY)
    assert response.status_code == 200
    assert response.json()["sockets_closed"] >= 3
    assert [await office.verify(token) for token in tokens] == ["token_revoked"] * 3
    async with asyncio.timeout(2):
        for live in lives:
            await live.closed.wait()
            assert live.errors[0]["code"] == "token_revoked"
    assert await office.verify((await minted(people[0]))[0]) == "ok"


async def test_a_ban_shuts_every_route_and_socket(office):
    alice = await office.as_("banned-alice")
    (token,) = await minted(alice)
    room = (await alice.post("/chat/rooms", json={"name": "r"})).json()["id"]
    live = await office.socket(token)
    response = await office.admin.post(
        "/admin/users/external:banned-alice/ban", json={"reason": "spam"}
    )
    assert response.status_code == 200
    answer = response.json()
    assert set(answer["receipt"]) == RECEIPT
    assert answer["receipt"]["sockets_closed"] == 1
    assert (answer["ban"]["reason"], answer["ban"]["until"]) == ("spam", None)
    async with asyncio.timeout(1):
        await live.closed.wait()
    assert live.errors[0]["code"] == "user_suspended"
    assert await office.verify(token) in {"user_suspended", "token_revoked"}
    for method, path in [
        ("POST", "/chat/token"),
        ("GET", "/chat/token"),
        ("DELETE", "/chat/token"),
        ("GET", "/chat/me"),
        ("GET", "/chat/rooms"),
        ("GET", f"/chat/rooms/{room}/messages"),
    ]:
        refused = await alice.request(method, path)
        assert (refused.status_code, refused.json()["code"]) == (403, "user_suspended"), path
    with pytest.raises(Exception, match=r"(?i)suspended|connect"):
        await office.socket(token)

    assert (await office.admin.delete("/admin/users/external:banned-alice/ban")).status_code == 204
    (fresh,) = await minted(alice)
    assert await office.verify(fresh) == "ok"
    assert (await office.socket(fresh)).client.connected
    assert await office.verify(token) == "token_revoked", "what was revoked does not come back"
    history = (await office.admin.get("/admin/users/external:banned-alice/bans")).json()["items"]
    assert [(ban["reason"], ban["active"], ban["lifted_by"]) for ban in history] == [
        ("spam", False, "bootstrap")
    ]
    assert (await office.admin.delete("/admin/users/external:banned-alice/ban")).status_code == 204


async def test_a_ban_ends_by_itself(office):
    alice = await office.as_("briefly-alice")
    await minted(alice)
    ends = datetime.now(UTC) + timedelta(seconds=1.5)
    body = {"reason": "cool down", "until": ends.isoformat()}
    assert (
        await office.admin.post("/admin/users/external:briefly-alice/ban", json=body)
    ).status_code == 200
    assert (await alice.post("/chat/token")).status_code == 403
    again = await until(lambda: alice.post("/chat/token"), 200)
    assert ends <= datetime.now(UTC) < ends + timedelta(seconds=1)
    assert await office.verify(again.json()["token"]) == "ok"
    user = (await office.admin.get("/admin/users/external:briefly-alice")).json()
    assert (user["status"], user["ban"]) == ("active", None)


async def test_who_was_suspended_before_the_ban_stays_suspended_after_it(office):
    await office.admin.put("/admin/users/external:twice")
    await office.admin.patch("/admin/users/external:twice", json={"status": "suspended"})
    await office.admin.post("/admin/users/external:twice/ban", json=WHY)
    refused = await office.admin.patch("/admin/users/external:twice", json={"status": "active"})
    assert (refused.status_code, refused.json()["code"]) == (409, "user_banned")
    await office.admin.delete("/admin/users/external:twice/ban")
    assert (await office.admin.get("/admin/users/external:twice")).json()["status"] == "suspended"
    minting = await office.admin.post("/admin/users/external:twice/token", json=WHY)
    assert (minting.status_code, minting.json()["code"]) == (403, "user_suspended")


async def test_suspending_and_deleting_close_sockets(office):
    for name, code in (("gone-alice", "user_suspended"), ("gone-bob", "user_deleted")):
        person = await office.as_(name)
        (token,) = await minted(person)
        live = await office.socket(token)
        if code == "user_suspended":
            await office.admin.patch(f"/admin/users/external:{name}", json={"status": "suspended"})
        else:
            assert (await office.admin.delete(f"/admin/users/external:{name}")).status_code == 204
        async with asyncio.timeout(1):
            await live.closed.wait()
        assert live.errors[0]["code"] == code
        refused = await person.post("/chat/token")
        assert (refused.status_code, refused.json()["code"]) == (403, code)
        assert await office.verify(token) == code


async def test_no_token_of_a_mint_that_began_before_a_revocation_lives(office):
    """A mint that is under way during a revocation hands out no valid token."""
    alice = await office.as_("racing-alice")
    await asyncio.gather(*(alice.post("/chat/token") for _ in range(8)))  # open the connections
    for _ in range(20):
        sent = asyncio.Queue()

        async def trace(event, _, sent=sent):
            if event == "http11.send_request_body.complete":
                sent.put_nowait(event)

        extensions = {"trace": trace}
        mints = [
            asyncio.create_task(alice.post("/chat/token", extensions=extensions)) for _ in range(8)
        ]
        for _ in mints:
            await sent.get()
        revoke = await office.admin.post("/admin/users/external:racing-alice/revoke", json=WHY)
        assert revoke.status_code == 200
        answers = await asyncio.gather(*mints)
        assert {answer.status_code for answer in answers} <= {200, 409}
        for answer in answers:
            if answer.status_code == 200:
                assert await office.verify(answer.json()["token"]) == "token_revoked"
            else:
                assert answer.json()["code"] == "token_revoked"
        (fresh,) = await minted(alice)
        assert await office.verify(fresh) == "ok"


async def test_a_revocation_is_on_disk_before_it_is_answered(tmp_path):
    """A broker that is killed right after its response still refuses the user after a restart."""
    settings = {"ADMIN_KEY": BOOTSTRAP, "CHAT_API_KEY": "ck_test_0123456789abcdef0123456789"}
    headers = {"Authorization": f"Bearer {BOOTSTRAP}"}
    async with running_broker(tmp_path, **settings) as first:
        async with httpx.AsyncClient(base_url=first.url, headers=headers) as admin:
            await admin.put("/admin/users/external:alice")
            await admin.put("/admin/users/external:bob")
            alice = (await admin.post("/admin/users/external:alice/token", json=WHY)).json()[
                "token"
            ]
            assert (
                await admin.post("/admin/users/external:alice/revoke", json=WHY)
            ).status_code == 200
            assert (await admin.post("/admin/users/external:bob/ban", json=WHY)).status_code == 200
        await first.kill()
    async with (
        running_broker(tmp_path, **settings) as second,
        httpx.AsyncClient(base_url=second.url) as client,
    ):
        response = await client.get("/chat/verify", headers={"Authorization": f"Bearer {alice}"})
        assert (response.status_code, response.json()["code"]) == (401, "token_revoked")
        minting = await client.post("/admin/users/external:bob/token", json=WHY, headers=headers)
        assert (minting.status_code, minting.json()["code"]) == (403, "user_suspended")
        found = await client.get("/admin/audit?action=users.ban", headers=headers)
        assert [one["subject"] for one in found.json()["items"]] == ["external:bob"]


async def test_while_bans_cannot_be_read_nobody_gets_in():
    async with open_office() as office:
        alice = await office.as_("alice")
        await minted(alice)
        with office.state() as database:
            database.execute("ALTER TABLE bans RENAME TO lost")
        answer = await until(lambda: alice.get("/chat/rooms"), 503)
        assert answer.json()["code"] == "state_unavailable"
        assert answer.headers["Retry-After"]
        assert (await alice.post("/chat/token")).status_code == 503
        with office.state() as database:
            database.execute("ALTER TABLE lost RENAME TO bans")
        assert (await alice.post("/chat/token")).status_code == 200


async def test_what_cannot_be_recorded_is_not_done():
    async with open_office() as office:
        await office.admin.put("/admin/users/external:alice")
        with office.state() as database:
            database.execute("ALTER TABLE audit_open RENAME TO lost")
        refused = await office.admin.post("/admin/users/external:alice/ban", json=WHY)
        assert (refused.status_code, refused.json()["code"]) == (503, "state_unavailable")
        with office.state() as database:
            database.execute("ALTER TABLE lost RENAME TO audit_open")
            database.execute("ALTER TABLE audit RENAME TO lost")
        looked = await office.admin.get("/admin/users/external:alice")
        assert looked.status_code == 503, "not even looked at"
        with office.state() as database:
            database.execute("ALTER TABLE lost RENAME TO audit")
        assert (await office.admin.get("/admin/users/external:alice")).json()["ban"] is None


@pytest.mark.services("postgres", "redis")
async def test_on_several_replicas(postgres_url, redis_url, tmp_path):
    """Two brokers on Postgres and Redis: a revocation or ban at one holds at the other."""
    shared = {
        "DATABASE_URL": postgres_url,
        "CHAT_DATABASE_URL": postgres_url,
        "REDIS_URL": redis_url,
        "CHAT_API_KEY": "ck_test_0123456789abcdef0123456789",
    }
    async with open_office(**shared) as one, open_office(**shared) as two:
        alice = await two.as_("alice")
        (token,) = await minted(alice)
        live = await two.socket(token)
        receipt = (await one.admin.post("/admin/users/external:alice/revoke", json=WHY)).json()
        assert (receipt["sockets_closed"], receipt["nodes_acked"], receipt["nodes_total"]) == (
            1,
            2,
            2,
        )
        async with asyncio.timeout(1):
            await live.closed.wait()
        assert await two.verify(token) == "token_revoked"
        (token,) = await minted(alice)
        live = await two.socket(token)

        assert (
            await one.admin.post("/admin/users/external:alice/ban", json=WHY)
        ).status_code == 200
        began = time.monotonic()
        assert (await alice.post("/chat/token")).status_code == 403, "a mint never trusts memory"
        while (await alice.get("/chat/rooms")).status_code != 403:
            assert time.monotonic() < began + 1
        async with asyncio.timeout(1):
            await live.closed.wait()
        assert live.errors[0]["code"] == "user_suspended"
        await one.admin.delete("/admin/users/external:alice/ban")
        await until(lambda: alice.get("/chat/rooms"), 200)

        # keys, counts and the audit are shared, and the chain of both is one
        everywhere = await one.key("users:read", "audit:read")
        everywhere.base_url = two.program.url
        assert (await everywhere.get("/admin/users")).status_code == 200
        assert {record["action"] for record in await two.records()} >= {"users.ban", "users.unban"}
        code, out, err = await two.run("admin", "audit", "verify")
        assert code == 0, out + err
