"""The embedded Chat API mints tokens without a request; the results equal those of a request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chat_broker.main import create_app
from tests.app.api.test_token import claims
from tests.app.brokers import code_of, http, settings

POLL = "/socket.io/?EIO=4&transport=polling"
EACH_TIME_ANOTHER = {"token", "refresh_in", "expires_at", "server_time", "session_id"}


@asynccontextmanager
async def signed_in(
    tmp_path: Path, **given: Any
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """A broker with an embedded Chat API, and a client of alice."""
    app = create_app(settings(tmp_path, chat_base_url=None, chat_api_key=None, **given))
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
    """Suspended and deleted users get the errors of a request; a user created again is found."""
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


LISTED = ("https://app.example.com", "capacitor://localhost")


async def opens(client: httpx.AsyncClient, origin: str, **headers: str) -> bool:
    """Whether a handshake with that Origin is taken."""
    answer = await client.get(POLL, headers={"origin": origin, **headers})
    assert answer.status_code in {200, 403}, answer.text
    return answer.status_code == 200


async def test_an_apps_own_origin_is_listed_exactly(tmp_path: Path) -> None:
    """For HTTP and sockets alike."""
    async with signed_in(tmp_path, cors_origins=LISTED) as (_, client):
        for origin, good in (
            *((origin, True) for origin in LISTED),
            ("capacitor://localhost:80", False),
            ("Capacitor://localhost", False),
            ("ionic://localhost", False),
            ("https://app.example.com:443", False),
            ("null", False),
        ):
            assert await opens(client, origin) is good, origin
            answer = await client.get("/chat/me", headers={"origin": origin})
            assert (answer.headers.get("access-control-allow-origin") == origin) is good, origin


@pytest.mark.parametrize("public", ["https://chat.example.com", "https://chat.example.com/chatapp"])
async def test_a_native_client_names_our_address_in_any_spelling(
    tmp_path: Path, public: str
) -> None:
    """Websocket libraries send the server's own address as Origin."""
    async with signed_in(tmp_path, cors_origins=LISTED, public_url=public) as (_, client):
        for origin in (
            "https://chat.example.com",
            "wss://chat.example.com",
            "https://chat.example.com:443",
            "wss://CHAT.example.com:443/",
        ):
            assert await opens(client, origin), origin
        for origin in (
            "https://evil.test",
            "ws://chat.example.com",
            "wss://chat.example.com:8443",
            "wss://chat.example.com.evil.test",
            "http://broker",  # where the request came to, but not what is handed out
        ):
            assert not await opens(client, origin, **{"x-forwarded-host": "evil.test"}), origin


async def test_a_native_client_names_the_address_that_was_handed_out(tmp_path: Path) -> None:
    """Without PUBLIC_URL the own origin is that of the request, as a trusted proxy forwards it."""
    trusted = {"trusted_proxies": ("127.0.0.1",)}
    async with signed_in(tmp_path, cors_origins=LISTED, **trusted) as (_, client):
        for host, proto in (("broker", "http"), ("Chat.example.com:8443", "https")):
            headers = {"host": host, "x-forwarded-proto": proto}
            minted = (await client.post("/chat/token", headers=headers)).json()
            url = minted["server"]["url"]
            assert url == f"{proto}://{host.lower()}"
            assert await opens(client, url, **headers)
            assert await opens(client, url.replace("http", "ws").upper(), **headers)
            assert not await opens(client, "https://evil.test", **headers)
            assert not await opens(client, url + ".evil.test", **headers)
    async with signed_in(tmp_path, cors_origins=LISTED) as (_, client):
        # TLS ends at a proxy that sends no X-Forwarded-Proto: https of the same host is accepted.
        assert await opens(client, "https://broker")
        assert await opens(client, "wss://broker")
        assert not await opens(
            client, "https://chat.example.com", **{"x-forwarded-host": "chat.example.com"}
        )


@pytest.mark.parametrize(
    ("public", "server"),
    [
        ("https://site.example", ("https://site.example", "/socket.io")),
        ("https://site.example/", ("https://site.example", "/socket.io")),
        ("https://site.example/chatapp", ("https://site.example", "/chatapp/socket.io")),
        ("https://site.example:8443/a/b/", ("https://site.example:8443", "/a/b/socket.io")),
    ],
)
async def test_a_path_of_the_public_address_goes_into_the_socket_path(
    tmp_path: Path, public: str, server: tuple[str, str]
) -> None:
    """Socket.IO takes the path of a URL for a namespace."""
    async with signed_in(tmp_path, public_url=public) as (_, client):
        minted = (await client.post("/chat/token")).json()
        assert (minted["server"]["url"], minted["server"]["socket_path"]) == server
