"""The embedded Chat API makes tokens by a shorter way than a call; nobody can tell which way it was."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from tests.app.brokers import code_of, http, settings
from tests.app.test_token import claims

EACH_TIME_ANOTHER = {"token", "refresh_in", "expires_at", "server_time", "session_id"}


@asynccontextmanager
async def signed_in(tmp_path: Path) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """A broker with its Chat API inside, and alice."""
    app = create_app(settings(tmp_path, chat_base_url=None, chat_api_key=None))
    async with app.router.lifespan_context(app), http(app) as client:
        signed_in = await client.post("/dev/login", json={"username": "alice"})
        client.headers["authorization"] = f"Bearer {signed_in.json()['token']}"
        yield app, client


async def test_a_token_is_the_same_by_the_short_way_and_by_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer's fields and the token's claims; each token is a new one."""
    async with signed_in(tmp_path) as (app, client):
        await client.post("/chat/token")
        answers = []
        for at_once in (True, False):
            if not at_once:
                monkeypatch.setattr(app.state.upstream.server, "mint", lambda *_: None)
            answer = (await client.post("/chat/token", json={"expires_in": 77})).json()
            says = claims(answer["token"])
            assert answer["session_id"] == says["sid"]
            ours = {name: answer[name] for name in answer.keys() - EACH_TIME_ANOTHER}
            theirs = {name: says[name] for name in says.keys() - {"sid", "jti", "iat", "exp"}}
            answers.append((list(answer), ours, theirs, answer["token"].split(".")[0]))
        assert answers[0] == answers[1]


async def test_what_the_short_way_refuses_is_said_as_a_call_says_it(tmp_path: Path) -> None:
    """A suspended user is told so; one who was deleted and made anew is found again."""
    async with signed_in(tmp_path) as (app, client):
        old = (await client.post("/chat/token")).json()["user"]["id"]
        users = app.state.upstream.chat.users
        await users.update(old, status="suspended")
        refused = await client.post("/chat/token")
        assert (refused.status_code, code_of(refused)) == (403, "user_suspended")
        await users.delete(old)
        refused = await client.post("/chat/token")
        assert (refused.status_code, code_of(refused)) == (403, "user_deleted")
        new = await users.create(username="alice", external_user_id="alice")
        assert (await client.post("/chat/token")).json()["user"]["id"] == new.id != old


async def test_every_token_goes_the_short_way_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the first of somebody, and those of somebody whose credential is read anew each time."""
    async with signed_in(tmp_path) as (app, client):
        server = app.state.upstream.server
        made: list[str] = []
        real = server.mint

        def seen(user_id: str, expires_in: int) -> Any:
            made.append(user_id)
            return real(user_id, expires_in)

        monkeypatch.setattr(server, "mint", seen)
        ids = [(await client.post("/chat/token")).json()["user"]["id"] for _ in range(3)]
        assert made == ids


async def test_a_bug_on_the_short_way_costs_nobody_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call comes after it, and is repeated and reported as calls are."""
    async with signed_in(tmp_path) as (app, client):
        await client.post("/chat/token")

        def broken(*_: Any) -> None:
            raise RuntimeError("bug")

        monkeypatch.setattr(app.state.upstream.server, "mint", broken)
        assert (await client.post("/chat/token")).status_code == 200
