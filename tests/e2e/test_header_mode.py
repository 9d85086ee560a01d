"""The whole nginx example for header mode, as it is printed: the app says who it is, nginx passes it on, nobody else can."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.javascript import frontend
from tests.e2e.nginx import nginx_with
from tests.programs import ROOT, Program, free_port, running_broker

pytestmark = pytest.mark.services("nginx", "node")

EXAMPLE = (ROOT / "examples" / "nginx-header.conf").read_text()
SECRET = "between-nginx-and-broker-for-tests"
FORGED = {
    "x-forwarded-user": "admin",
    "x-forwarded-name": "Admin",
    "x-proxy-secret": SECRET,
    "x-user-id": "admin",
}


class App:
    """An app with a session endpoint: the cookie `sid` is somebody's name."""

    def __init__(self) -> None:
        self.answers = "well"
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        self.asked.append(head)
        line = head.partition("\r\n")[0]
        name = head.partition("cookie: sid=")[2].partition("\r\n")[0]
        status, more = "200 OK", ""
        if "/api/session" in line:
            if self.answers != "well":
                status = self.answers
            elif name:
                more = f"x-user-id: {name}\r\nx-user-name: {name.title()} \u00c5\r\n"
            else:
                status = "401 Unauthorized"
        answer = f"HTTP/1.1 {status}\r\n{more}content-length: 3\r\nconnection: close\r\n\r\napp"
        writer.write(answer.encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[tuple[str, Program, App]]:
    """The example in front of an app and a broker with the settings of the docs; only ports and folders differ."""
    app, port = App(), free_port()
    listening = await asyncio.start_server(app.serve, "127.0.0.1", 0)
    app_port = listening.sockets[0].getsockname()[1]
    front = f"http://127.0.0.1:{port}"
    async with (
        listening,
        running_broker(
            AUTH="header",
            AUTH_HEADER_USER="X-Forwarded-User",
            AUTH_HEADER_NAME="X-Forwarded-Name",
            AUTH_HEADER_EMAIL="X-Forwarded-Email",
            AUTH_HEADER_TRUSTED_PROXIES="127.0.0.1/32",
            AUTH_HEADER_SECRET=SECRET,
            TRUSTED_PROXIES="127.0.0.1/32",
            PUBLIC_URL=front,
            ADMIN_KEY="an-admin-key-for-tests-of-forty-characters",
        ) as broker,
    ):
        text = EXAMPLE.replace("127.0.0.1:3000", f"127.0.0.1:{app_port}")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{broker.port}")
        text = text.replace("listen 8080", f"listen 127.0.0.1:{port}")
        text = text.replace("/tmp/", f"{folder}/")  # noqa: S108 - what stands in the example
        text = text.replace("worker_processes auto", "daemon off; worker_processes 1")
        (folder / "chat-proxy-secret.conf").write_text(
            f'proxy_set_header X-Proxy-Secret "{SECRET}";\n'
        )
        async with nginx_with(folder, text, port):
            yield front, broker, app


async def test_the_example_signs_in_whom_the_app_names_and_nobody_else(tmp_path: Path) -> None:
    async with (
        site(tmp_path) as (front, broker, _),
        httpx.AsyncClient(trust_env=False) as http,
        frontend() as js,
    ):

        async def call(method: str, path: str, base: str = front, **headers: str) -> httpx.Response:
            answer: httpx.Response = await http.request(method, base + path, headers=headers)
            return answer

        assert (await call("GET", "/")).text == "app"
        alice = {"cookie": "sid=alice"}
        minted: dict[str, Any] = (await call("POST", "/chat/token", **alice)).json()
        user = minted["user"]
        assert (user["external_user_id"], user["display_name"]) == ("alice", "Alice \u00c5")
        assert minted["server"] == {"url": front, "socket_path": "/socket.io"}
        # What a client says of itself is overwritten: by whom the app names, or with nothing.
        forged = await call("POST", "/chat/token", **alice, **FORGED)
        assert forged.json()["user"]["external_user_id"] == "alice"
        for headers in ({}, FORGED, {"cookie": "sid="}):
            refused = await call("POST", "/chat/token", **headers)
            assert refused.status_code == 401
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["code"] == "authentication_required"
        # Past nginx nothing is believed, whatever is shown.
        for headers in (alice, {"x-forwarded-user": "admin"}):
            assert (await call("POST", "/chat/token", broker.url, **headers)).status_code == 401
        # The app's cookie is ambient: another site's page gets nothing, the app's own does.
        evil = {"origin": "https://evil.test", "sec-fetch-site": "cross-site"}
        answer = await call("POST", "/chat/token", **alice, **evil)
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
        own = {"origin": front, "sec-fetch-site": "same-origin"}
        assert (await call("POST", "/chat/token", **alice, **own)).status_code == 200
        # The chat token alone opens the socket, and says who it is.
        for transports in (["websocket"], ["polling", "websocket"]):
            connected = await js.call(
                "connect",
                name="alice",
                server=minted["server"],
                token=minted["token"],
                transports=transports,
            )
            assert connected["connected"] is True, connected
            await js.call("close", name="alice")
        bearer = {"authorization": f"Bearer {minted['token']}"}
        verified = await call("GET", "/chat/verify", **bearer, **FORGED)
        assert verified.json()["user"]["externalUserId"] == "alice"
        assert (await call("GET", "/.well-known/jwks.json")).json()["keys"]
        # The operators' side is the app's, from outside: it is not there.
        admin = {"authorization": "Bearer an-admin-key-for-tests-of-forty-characters"}
        for path in ("/admin/status", "/metrics"):
            assert (await call("GET", path, **admin)).text == "app"
        assert (await call("GET", "/_who")).status_code == 404


async def test_while_the_app_is_silent_nobody_is_told_to_sign_in_again(tmp_path: Path) -> None:
    async with (
        site(tmp_path) as (front, _, app),
        httpx.AsyncClient(base_url=front, trust_env=False) as http,
    ):
        alice = {"cookie": "sid=alice"}
        for answers in ("500 Oops", "302 Found", "404 Not Found"):
            app.answers = answers
            refused = await http.get("/chat/me", headers=alice)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert refused.json()["code"] == "identity_provider_unavailable"
        app.answers = "403 Forbidden"
        assert (await http.get("/chat/me", headers=alice)).status_code == 401
        app.answers = "well"
        assert (await http.get("/chat/me", headers=alice)).status_code == 200
        # The broker's own refusals pass as they are.
        missing = await http.get("/chat/rooms/nowhere", headers=alice)
        assert (missing.status_code, missing.json()["code"]) == (404, "room_not_found")
        assert "x-request-id" in missing.headers
        # The session endpoint gets the cookie and no body.
        question = next(head for head in app.asked if "/api/session" in head)
        assert "cookie: sid=alice" in question
        assert "content-length" not in question


def test_what_the_page_shows_is_what_the_example_does() -> None:
    """The lines of docs/authentication.md stand in the file that runs here."""
    page = (ROOT / "docs" / "authentication.md").read_text()
    shown = page.partition("```nginx\n")[2].partition("```")[0].splitlines()
    assert len(shown) >= 5
    for line in shown:
        assert f" {line}\n" in EXAMPLE, line
    for setting in ("AUTH_HEADER_TRUSTED_PROXIES", "TRUSTED_PROXIES", "AUTH_HEADER_SECRET"):
        assert f"\n{setting}=" in page
