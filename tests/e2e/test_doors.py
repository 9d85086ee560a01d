"""Four kinds of token against four kinds of door, and every route of the program against a bare cookie."""

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.app.auth.signing import secret_signer
from tests.e2e.nginx import nginx
from tests.programs import Program, running_broker

SECRET = "one-secret-that-only-tests-ever-use"
COOKIE = "app_session"
ADMIN = "an-admin-key-for-tests-of-forty-characters"
API_KEY = "ck_a-project-key-for-tests-of-forty-characters"
JWT = {
    "AUTH": "jwt",
    "AUTH_JWT_ISSUER": "https://app.example.com",
    "AUTH_JWT_AUDIENCE": "chat",
    "AUTH_JWT_SECRET": SECRET,
    "AUTH_JWT_COOKIE": COOKIE,
    "RATE_IP": "100000/minute",
    "RATE_AUTH_FAILURES": "100000/minute",
    "RATE_ADMIN_FAILURES": "100000/minute",
}


def app_token(sub: str = "alice") -> str:
    now = int(time.time())
    return secret_signer(SECRET).token(
        {"iss": "https://app.example.com", "aud": "chat", "sub": sub, "iat": now, "exp": now + 600}
    )


async def opens_socket(broker: Program, token: str) -> bool:
    url = broker.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    async with connect(url) as socket:
        assert str(await socket.recv()).startswith("0")
        await socket.send("40" + json.dumps({"token": token}))
        async with asyncio.timeout(10):
            return str(await socket.recv()).startswith("40")


async def test_only_the_diagonal_opens() -> None:
    settings = {**JWT, "ADMIN_KEY": ADMIN, "CHAT_API_KEY": API_KEY}
    async with (
        running_broker(**settings) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
    ):

        async def get(path: str, headers: dict[str, str]) -> bool:
            return (await http.get(path, headers=headers)).status_code == 200

        app = app_token()
        minted = await http.post("/chat/token", headers={"authorization": f"Bearer {app}"})
        tokens = {"app": app, "chat": minted.json()["token"], "admin": ADMIN, "api": API_KEY}
        opened: set[tuple[str, str]] = set()
        for kind, token in tokens.items():
            bearer = {"authorization": f"Bearer {token}"}
            if await get("/chat/me", bearer):
                opened.add((kind, "app"))
            if await get("/admin/status", bearer):
                opened.add((kind, "admin"))
            if await opens_socket(broker, token):
                opened.add((kind, "chat"))
            # The Chat API's own door is not there at all: not even its own key opens it from outside.
            for headers in (bearer, {"x-api-key": token}):
                for path in ("/api/v1/project", "/api/v1/auth/verify"):
                    assert not await get(path, headers), (kind, path)
                assert kind == "app" or not await get("/chat/me", {"x-api-key": token})
        assert opened == {("app", "app"), ("admin", "admin"), ("chat", "chat")}


ROUTE = re.compile(r"\{[^}]*\}")


async def test_no_route_is_reached_by_a_bare_cookie() -> None:
    """Read off the program itself: what a cookie can reach is refused without the signs, whatever it is."""
    async with (
        running_broker(**JWT, ADMIN_KEY=ADMIN, CORS_ORIGINS="https://app.example.com") as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
    ):
        paths = (await http.get("/openapi.json")).json()["paths"]
        cookie = {"cookie": f"{COOKIE}={app_token()}"}
        evil = {**cookie, "origin": "https://evil.test", "sec-fetch-site": "cross-site"}
        listed = {**cookie, "origin": "https://app.example.com", "x-chat-csrf": "1"}
        refused, reached = 0, set()
        for path, methods in paths.items():
            for method in methods:
                url = ROUTE.sub("01a20c71-c45b-738b-ba08-8d66392f1f74", path)
                for headers in (cookie, evil):
                    answer = await http.request(method, url, headers=headers)
                    if path.startswith("/chat") and not path.endswith("/verify"):
                        assert answer.status_code == 403, (method, path, answer.status_code)
                        assert answer.json()["code"] == "csrf_failed"
                        refused += 1
                    else:
                        public = {"/healthz", "/readyz", "/metrics"}
                        assert answer.status_code == 401 or path in public, (method, path)
                if path.startswith("/chat"):
                    answer = await http.request(method, url, headers=listed)
                    if answer.status_code != 403:
                        reached.add((method, path))
        assert refused >= 2 * 15
        assert len(reached) >= 15  # the signs are what was missing, not the credential


LOCATION = """
location / {{
  proxy_pass {broker};
  proxy_http_version 1.1;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $http_upgrade;
  proxy_set_header X-Forwarded-User $remote_user;
  proxy_set_header Authorization "";
  proxy_set_header X-Proxy-Secret "between-nginx-and-broker";
}}
"""


async def handshake(url: str, headers: dict[str, str]) -> int:
    url = url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    try:
        async with connect(url, additional_headers=headers):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


@pytest.mark.services("nginx")
async def test_nginx_says_who_it_is_and_nobody_else_can(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "AUTH": "header",
        "AUTH_HEADER_TRUSTED_PROXIES": "127.0.0.1/32",
        "AUTH_HEADER_SECRET": "between-nginx-and-broker",
    }
    polling = "/socket.io/?EIO=4&transport=polling"
    async with (
        running_broker(**settings) as broker,
        nginx(
            tmp_path, LOCATION.format(broker=broker.url), more="underscores_in_headers on;"
        ) as front,
        httpx.AsyncClient(trust_env=False) as http,
    ):

        async def me(base: str, headers: dict[str, str]) -> tuple[int, str | None]:
            answer = await http.get(f"{base}/chat/me", headers=headers)
            return answer.status_code, answer.json().get("code")

        known = await http.post(f"{front}/chat/token", auth=("alice", "known to nginx"))
        assert known.json()["user"]["external_user_id"] == "alice"
        assert (await http.get(f"{front}/chat/me", auth=("alice", "x"))).status_code == 200
        # What a client says of itself is overwritten.
        forged = {"x-forwarded-user": "admin", "x-proxy-secret": "guess"}
        assert (await me(front, forged))[0] == 401
        # A proxy that names nobody is refused; so is whoever comes without the secret.
        assert await me(front, {}) == (401, "invalid_credentials")
        assert (await me(broker.url, {"x-forwarded-user": "admin"}))[0] == 401
        assert (await me(broker.url, forged))[0] == 401
        # Look-alikes are refused through nginx and past it, on routes, polling and websocket.
        for name in ("x_forwarded_user", "X_Forwarded-User", "x_proxy_secret"):
            for base in (front, broker.url):
                assert (await me(base, {name: "admin"}))[0] == 400, name
                assert (await http.get(base + polling, headers={name: "admin"})).status_code == 400
                assert await handshake(base, {name: "admin"}) == 400
        assert (await http.get(broker.url + polling)).status_code == 200
        assert await handshake(broker.url, {}) == 101
        repeated = [("x-forwarded-user", "a"), ("x-forwarded-user", "b")]
        assert (await http.get(broker.url + "/chat/me", headers=repeated)).status_code == 400
        assert (await http.get(broker.url + polling, headers=repeated)).status_code == 400
