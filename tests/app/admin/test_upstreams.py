"""Chat APIs with fewer functions, Chat APIs that are down, and one whose key changes."""

import asyncio
import json
import signal
import time

import httpx
import pytest

from chat_broker_sdk import NetworkError, Response
from tests.app.admin.conftest import BOOTSTRAP, WHY
from tests.app.brokers import running
from tests.programs import run_command, running_broker, running_server

NOTHING = dict.fromkeys(("generation", "sockets_closed", "nodes_acked", "nodes_total", "took_ms"))
HEADERS = {"Authorization": f"Bearer {BOOTSTRAP}"}


def answering(status, body=None):
    raw = b"" if body is None else json.dumps(body).encode()
    return Response(status, [("content-type", "application/json")], raw)


@pytest.fixture
async def broker(tmp_path):
    async with running(tmp_path, admin_key=BOOTSTRAP) as one:
        one.client.headers.update(HEADERS)
        one.client.cookies.clear()
        yield one


async def token_of(broker, name):
    made = await broker.client.put(f"/admin/users/external:{name}")
    assert made.status_code in {200, 201}
    return (await broker.client.post(f"/admin/users/external:{name}/token", json=WHY)).json()[
        "token"
    ]


async def verified(broker, token):
    response = await broker.client.get("/chat/verify", headers={"Authorization": f"Bearer {token}"})
    return response.status_code


@pytest.mark.parametrize("body", [{}, {"ok": True}, None], ids=str)
async def test_a_chat_api_without_receipts_is_served(broker, body):
    await token_of(broker, "alice")
    status = 204 if body is None else 200

    def answer(request):
        return answering(status, body) if request.url.endswith("/revoke") else None

    broker.upstream.answer = answer
    response = await broker.client.post("/admin/users/external:alice/revoke", json=WHY)
    assert (response.status_code, response.json()) == (200, NOTHING)


async def test_a_chat_api_that_cannot_suspend_still_has_bans(broker):
    token = await token_of(broker, "alice")

    def answer(request):
        return answering(501, {"code": "not_implemented"}) if request.method == "PATCH" else None

    broker.upstream.answer = answer
    response = await broker.client.post("/admin/users/external:alice/ban", json=WHY)
    assert response.status_code == 200
    assert response.json()["receipt"]["generation"] == 1
    assert await verified(broker, token) == 401
    alice = await broker.sign_in("alice")
    assert (await alice.post("/token")).status_code == 403
    assert (await broker.client.delete("/admin/users/external:alice/ban")).status_code == 204
    assert (await alice.post("/token")).status_code == 200


async def test_a_chat_api_that_cannot_revoke_says_so(broker):
    await token_of(broker, "alice")

    def answer(request):
        return answering(501, {}) if request.url.endswith("/revoke") else None

    broker.upstream.answer = answer
    response = await broker.client.post("/admin/users/external:alice/revoke", json=WHY)
    assert response.status_code == 501


@pytest.mark.parametrize("status", [404, 501])
async def test_everybody_is_revoked_one_by_one_where_it_must_be(broker, status):
    tokens = [await token_of(broker, f"user-{number}") for number in range(20)]

    def answer(request):
        whole_project = request.url.endswith("/revoke") and "/users/" not in request.url
        return answering(status, {"code": "not_found"}) if whole_project else None

    broker.upstream.answer = answer
    response = await broker.client.post("/admin/revoke-all", json=WHY)
    assert response.status_code == 200
    assert (response.json()["users"], response.json()["sockets_closed"]) == (20, 0)
    assert [await verified(broker, token) for token in tokens] == [401] * 20


async def test_a_ban_holds_while_the_chat_api_is_away_and_is_told_later(broker):
    token = await token_of(broker, "alice")
    away = True

    def answer(request):
        if away and request.method in {"PATCH", "POST"}:
            raise NetworkError("gone", code="network_error")
        return

    broker.upstream.answer = answer
    response = await broker.client.post("/admin/users/external:alice/ban", json=WHY)
    assert response.status_code == 503
    assert "The ban holds" in response.json()["detail"]
    alice = await broker.sign_in("alice")
    assert (await alice.post("/token")).status_code == 403
    away = False
    bans = broker.app.state.admin.bans
    assert await bans.settle_all(grace=0) == 1
    assert await verified(broker, token) == 401
    assert (await broker.client.get("/admin/users/external:alice")).json()["status"] == "suspended"
    (record,) = (await broker.client.get("/admin/audit?action=users.ban")).json()["items"]
    assert (record["outcome"], record["detail"]["code"]) == ("failed", "upstream_unreachable")


async def test_a_ban_made_before_the_clock_was_set_back_is_settled_too(broker, monkeypatch):
    token = await token_of(broker, "alice")
    real, away = time.time, True

    def answer(request):
        if away and request.method in {"PATCH", "POST"}:
            raise NetworkError("gone", code="network_error")
        return

    broker.upstream.answer = answer
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    await broker.client.post("/admin/users/external:alice/ban", json=WHY)
    monkeypatch.setattr(time, "time", real)
    away = False
    assert await broker.app.state.admin.bans.settle_all() == 1
    assert await verified(broker, token) == 401


async def test_the_chat_api_is_never_left_with_yesterdays_word(broker):
    """A ban and its lifting run at once: afterwards the Chat API has the state of the last one."""
    await token_of(broker, "alice")
    for _ in range(15):
        await asyncio.gather(
            broker.client.post("/admin/users/external:alice/ban", json=WHY),
            broker.client.delete("/admin/users/external:alice/ban"),
            broker.client.post("/admin/users/external:alice/ban", json=WHY),
            broker.client.delete("/admin/users/external:alice/ban"),
        )
        await broker.app.state.admin.bans.settle_all(grace=0)
        user = (await broker.client.get("/admin/users/external:alice")).json()
        assert (user["status"] == "suspended") == (user["ban"] is not None), user


@pytest.mark.parametrize("way", ["next", "signal", "file"])
async def test_no_call_fails_while_the_projects_key_changes(tmp_path, way):
    """Under load a second key replaces the first: as the next key, by SIGHUP, or after a 401."""
    data, secrets = tmp_path / "chat", tmp_path / "secrets"
    for folder in (data, secrets, tmp_path / "broker"):
        folder.mkdir()
    environment = {"DATA_DIR": str(data)}

    async def chat_broker_server(*command):
        code, out, err = await run_command("chat-server", *command, environment=environment)
        assert code == 0, err
        return json.loads(out)

    project = await chat_broker_server("create-project", "--name", "p", "--json")
    (first,) = await chat_broker_server("keys", "list", project["project_id"], "--json")
    second = (await chat_broker_server("keys", "create", project["project_id"], "--json"))[
        "api_key"
    ]
    (secrets / "chat_api_key").write_text(project["api_key"])
    if way == "next":
        (secrets / "chat_api_key_next").write_text(second)
    async with (
        running_server(data) as server,
        running_broker(
            tmp_path / "broker",
            CHAT_BASE_URL=server.url,
            SECRETS_DIR=str(secrets),
            ADMIN_KEY=BOOTSTRAP,
            RATE_TOKEN="100000/minute",
        ) as broker,
        httpx.AsyncClient(base_url=broker.url) as alice,
    ):
        signed_in = await alice.post("/dev/login", json={"username": "alice"})
        alice.cookies.clear()
        alice.headers["Authorization"] = f"Bearer {signed_in.json()['token']}"
        answers, going = [], True

        async def load():
            while going:
                answers.append((await alice.post("/chat/token")).status_code)

        work = [asyncio.create_task(load()) for _ in range(4)]
        await asyncio.sleep(0.3)
        if way != "next":
            (secrets / "chat_api_key").write_text(second)
        if way == "signal":
            broker.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 5
            while "api_key.switched" not in broker.log():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        await chat_broker_server("keys", "revoke", first["id"], "--json")
        before = len(answers)
        while len(answers) < before + 50:  # noqa: ASYNC110 - answers of a program under load
            await asyncio.sleep(0.02)
        going = False
        await asyncio.gather(*work)
        assert set(answers) == {200}
        assert "api_key.switched" in broker.log()
        assert project["api_key"] not in broker.log()
        assert second not in broker.log()
