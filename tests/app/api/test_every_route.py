"""Every route of the application, as it lists them: mounted, hidden, documents and sockets."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from chat_broker.main import create_app
from tests.app.brokers import code_of, http, settings

WITHOUT_COOKIE = {
    # These routes need no credential, and their responses hold nothing about a user.
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/.well-known/jwks.json"),
    ("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/"),
    # Makes a session and asks for none; development only.
    ("POST", "/dev/login"),
    # Asks for a chat token, which no browser sends by itself.
    ("GET", "/chat/verify"),
    # Asks for a chat token within the connection.
    ("*", "/socket.io"),
}  # fmt: skip
SOMEBODY = "01a20c71-c45b-738b-ba08-8d66392f1f74"


def ways_in(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of every route; `*` for a mounted application."""
    for one in iter_route_contexts(app.routes):
        methods = getattr(one, "methods", None)
        for method in sorted(methods or {"*"}):
            if method != "HEAD" or "GET" not in (methods or ()):
                yield method, str(one.path)


@asynccontextmanager
async def embedded(tmp_path: Path) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """A broker with every optional route, sockets included."""
    app = create_app(
        settings(
            tmp_path,
            chat_base_url=None,
            chat_api_key=None,
            admin_key="k" * 40,
            cors_origins=("https://app.example",),
            rate_admin_failures="1000/minute",
        )
    )
    async with app.router.lifespan_context(app), http(app) as client:
        yield app, client


@pytest.mark.parametrize("hot", ["on", "off"])
async def test_no_way_in_takes_a_cookie_without_the_signs_of_our_own_page(
    tmp_path: Path, hot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every route, also with HEAD, refuses a cookie without an origin, unless it is listed above."""
    monkeypatch.setenv("FAST_PATH", hot)
    async with embedded(tmp_path) as (app, client):
        there = set(ways_in(app))
        assert there >= WITHOUT_COOKIE, WITHOUT_COOKIE - there
        assert len(there) > 40
        signed_in = await client.post("/dev/login", json={"username": "alice"})
        cookie = signed_in.headers["set-cookie"].partition(";")[0]
        client.cookies.clear()
        bare = {"cookie": cookie}
        cross_site = {**bare, "origin": "https://evil.test", "sec-fetch-site": "cross-site"}
        ours = {**bare, "origin": "https://app.example", "x-chat-csrf": "1"}
        refused = 0
        for method, path in sorted(there - WITHOUT_COOKIE):
            url = re.sub(r"\{[^}]*\}", SOMEBODY, path)
            for asked in (method, "HEAD") if method == "GET" else (method,):
                for headers in (bare, cross_site):
                    answer = await client.request(asked, url, headers=headers)
                    if asked == "HEAD" and answer.status_code == 405:
                        continue
                    if path.startswith("/admin/"):
                        assert answer.status_code == 401, (asked, path, answer.status_code)
                        continue
                    assert answer.status_code == 403, (asked, path, answer.status_code)
                    if asked != "HEAD":
                        assert code_of(answer) == "csrf_failed", (asked, path)
                    refused += 1
            if not path.startswith("/admin/"):  # the signs are what was missing, not the credential
                answer = await client.request(method, url, headers=ours)
                assert answer.status_code != 401, (method, path)
                assert "csrf_failed" not in answer.text, (method, path)
        assert refused >= 2 * 18
        rooms = await client.get("/chat/rooms", headers=ours)
        assert rooms.json()["items"] == []


async def test_what_takes_no_cookie_tells_nothing_to_one(tmp_path: Path) -> None:
    """These routes respond alike with and without a cookie."""
    async with embedded(tmp_path) as (_, client):
        signed_in = await client.post("/dev/login", json={"username": "frederica"})
        cookie = {"cookie": signed_in.headers["set-cookie"].partition(";")[0]}
        client.cookies.clear()
        for method, path in sorted(
            WITHOUT_COOKIE - {("*", "/socket.io"), ("POST", "/dev/login"), ("GET", "/metrics")}
        ):
            with_it = await client.request(method, path, headers=cookie)
            without = await client.request(method, path)
            assert with_it.status_code == without.status_code, path
            if without.status_code == 200:
                assert with_it.content == without.content, path
                assert "frederica" not in with_it.text


async def test_a_cookie_opens_no_socket(tmp_path: Path) -> None:
    """Another site's page can start polling without a preflight, but its connection belongs to no user."""
    async with embedded(tmp_path) as (_, client):
        signed_in = await client.post("/dev/login", json={"username": "alice"})
        cookie = {"cookie": signed_in.headers["set-cookie"].partition(";")[0]}
        client.cookies.clear()
        polling = "/socket.io/?EIO=4&transport=polling"
        opened = await client.get(polling, headers=cookie)
        assert opened.text.startswith("0{")
        where = f"{polling}&sid={json.loads(opened.text[1:])['sid']}"
        await client.post(where, content="40", headers=cookie)
        answer = await client.get(where, headers=cookie)
        assert answer.text.startswith("44"), answer.text
