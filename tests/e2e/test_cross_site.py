"""A real Chromium, signed in by cookie, on a page of another site: nothing is read and nothing is done."""

import asyncio
import json
import shutil
import time
from typing import Any

import httpx
import pytest

from tests.app.auth.signing import secret_signer
from tests.programs import ROOT, clean_environment, free_port, running_broker

SECRET = "one-secret-that-only-tests-ever-use"
COOKIE = "app_session"


def token_of(sub: str) -> str:
    now = int(time.time())
    return secret_signer(SECRET).token(
        {"iss": "https://app.example.com", "aud": "chat", "sub": sub, "iat": now, "exp": now + 600}
    )


async def browse(**options: Any) -> dict[str, Any]:
    script = ROOT / "tests" / "e2e" / "cross-site.mjs"
    process = await asyncio.create_subprocess_exec(
        "node",
        str(script),
        json.dumps(options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment({}),
    )
    out, errors = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


@pytest.mark.services("node", "chromium")
async def test_another_site_can_neither_read_nor_do_anything() -> None:
    listed, other = free_port(), free_port()
    async with (
        running_broker(
            AUTH="jwt",
            AUTH_JWT_ISSUER="https://app.example.com",
            AUTH_JWT_AUDIENCE="chat",
            AUTH_JWT_SECRET=SECRET,
            AUTH_JWT_COOKIE=COOKIE,
            CORS_ORIGINS=f"http://localhost:{listed}",
            RATE_WRITE="1000/minute",
            RATE_IP="10000/minute",
        ) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
    ):
        bob = {"authorization": f"Bearer {token_of('bob')}"}
        alice = {"authorization": f"Bearer {token_of('alice')}"}
        made = await http.post("/chat/rooms", headers=bob, json={"name": "open"})
        room = made.json()["id"]
        assert (await http.post("/chat/token", headers=alice)).status_code == 200

        seen = await browse(
            broker=broker.url.replace("127.0.0.1", "localhost"),  # Secure works there without TLS
            room=room,
            cookie={"name": COOKIE, "value": token_of("alice")},
            listedPort=listed,
            otherPort=other,
            chromium=shutil.which("chromium") or shutil.which("chromium-browser"),
        )

        # The cookie works, for a page that is listed.
        assert seen["listed"] == {"made": 201, "minted": 200, "token": "string"}
        # From another port of the same host, and from another site altogether, the cookie comes along
        # (SameSite=None, and a browser that blocks no third party's): known (not 401), refused all the same.
        for attack in seen["attacks"]:
            assert any(line.endswith(" 403") for line in attack["statuses"]), attack
            assert not any(line.endswith(" 401") for line in attack["statuses"]), attack
            answers = {line.rpartition(" ")[2] for line in attack["statuses"]}
            assert answers & {"403"}, attack
            assert not answers & {"200", "201", "204"} - _websocket(attack["statuses"]), attack
            for name, result in attack["results"].items():
                assert not str(result).startswith(("read", "answered")), (name, result)
                if name.startswith(("img", "script")):
                    assert result == "refused", (name, result)
            assert not set(attack["results"]["websocket"]) & {"40", "42", "43"}, attack

        rooms = (await http.get("/chat/rooms", headers=alice)).json()["items"]
        assert [room["name"] for room in rooms] == ["made by the listed page"]
        members = (await http.get(f"/chat/rooms/{room}/members", headers=bob)).json()["items"]
        assert len(members) == 1
        messages = await http.get(f"/chat/rooms/{room}/messages", headers=bob)
        assert messages.json()["items"] == []


def _websocket(statuses: list[str]) -> set[str]:
    """What the handshake of a socket answers is not a route's answer."""
    return {line.rpartition(" ")[2] for line in statuses if " /socket.io" in line}
