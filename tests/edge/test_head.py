"""HEAD is GET without the body, with the same status and headers (RFC 9110 9.3.2)."""

import json
import re
from pathlib import Path

import httpx
import pytest

from tests.edge.programs import Start, both, chat_broker_server
from tests.programs import running_broker

# What differs from one answer to the next by its nature.
VARIES = {"date", "x-request-id", "ratelimit", "ratelimit-policy"}
LENGTH_VARIES = re.compile("/metrics|/readyz|/admin/")


async def compare(http: httpx.AsyncClient, path: str, **more: str) -> int:
    """The status of both; *more* are headers."""
    get = await http.get(path, headers=more)
    head = await http.head(path, headers=more)
    assert head.content == b"", path
    varies = VARIES | ({"content-length"} if LENGTH_VARIES.match(path) or get.is_error else set())
    told, expected = (
        {k: v for k, v in one.headers.items() if k not in varies} for one in (head, get)
    )
    assert (path, head.status_code, told) == (path, get.status_code, expected)
    assert "content-length" in head.headers or get.status_code == 204
    return head.status_code


@both
async def test_every_public_page_answers_to_head(start: Start, tmp_path: Path) -> None:
    """After HEAD the connection serves the next request."""
    async with (
        start(tmp_path) as edge,
        httpx.AsyncClient(base_url=edge.program.url, trust_env=False) as http,
    ):
        for path in ("/healthz", "/readyz", "/metrics", "/.well-known/jwks.json"):
            assert await compare(http, path) == 200
        assert await compare(http, "/nowhere") == 404


async def test_head_shows_what_only_the_key_may_see(tmp_path: Path) -> None:
    async with (
        chat_broker_server(tmp_path) as edge,
        httpx.AsyncClient(base_url=edge.program.url, trust_env=False) as http,
    ):
        for path in (edge.post_path, "/api/v1/project"):
            assert await compare(http, path) == 401
            assert await compare(http, path, **edge.headers) == 200


@pytest.mark.parametrize("fast_path", ["on", "off"])
async def test_every_get_of_the_broker_answers_to_head(tmp_path: Path, fast_path: str) -> None:
    """Every GET route but the token's has HEAD, which would mint a token in vain."""
    admin_key = "ak_" + "k" * 40
    async with (
        running_broker(tmp_path, FAST_PATH=fast_path, ADMIN_KEY=admin_key) as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False) as http,
    ):
        session = (await http.post("/dev/login", json={"username": "alice"})).json()["token"]
        http.cookies.clear()
        signed_in = {"authorization": f"Bearer {session}"}
        room = (await http.post("/chat/rooms", json={"name": "x"}, headers=signed_in)).json()["id"]
        paths = (await http.get("/openapi.json")).json()["paths"]
        compared = 0
        for path, methods in paths.items():
            if "get" not in methods or path == "/chat/token":
                continue
            target = path.replace("{room_id}", room).replace("{user}", "external:alice")
            operators = {"authorization": f"Bearer {admin_key}"}
            await compare(http, target, **(operators if path.startswith("/admin") else signed_in))
            await compare(http, target)
            compared += 1
        assert compared > 8
        minting = await http.head("/chat/token", headers=signed_in)
        assert minting.status_code == 405
        assert "HEAD" not in minting.headers["allow"]
        assert "HEAD" in (await http.put("/chat/rooms", headers=signed_in)).headers["allow"]
        await program.stop()
    lines = [json.loads(line) for line in program.log().splitlines() if line.startswith("{")]
    heads = [one for one in lines if one.get("method") == "HEAD"]
    assert {one["route"] for one in heads} >= {"/chat/me", "/healthz", "/chat/rooms/{room_id}"}
