"""`GET /`: a start page in development, 404 in production."""

import asyncio
import re
from html import unescape
from pathlib import Path

import httpx
import pytest

from tests.app.brokers import code_of, running
from tests.programs import running_broker


def links(page: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'<a href="([^"]+)"', page)]


async def test_every_link_leads_somewhere_and_the_lines_work(tmp_path: Path) -> None:
    """The page names the broker's addresses, with another prefix too."""
    async with (
        running_broker(tmp_path, ROUTE_PREFIX="/api/chat") as broker,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        page = await http.get(f"{broker.url}/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        own = [link for link in links(page.text) if link.startswith(broker.url)]
        assert {link.removeprefix(broker.url) for link in own} == {
            "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/.well-known/jwks.json",
        }  # fmt: skip
        for link in own:
            assert (await http.get(link)).status_code == 200, link
        assert "<code>/api/chat</code>" in page.text
        lines = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page.text, re.DOTALL)[0]
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", unescape(lines), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0
        assert out.count(b'"content":"Hello!"') == 2


async def test_nothing_on_it_runs_and_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        page = await broker.client.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script" not in policy + page.text
    assert " style=" not in page.text
    assert " on" not in re.sub(r">[^<]*<", "><", page.text)  # no handler in any tag
    assert not re.search(r"(src|@import|url\()", page.text)


@pytest.mark.parametrize("host", ['"><script>alert(1)</script>', "alice bob", "x" * 300])
async def test_a_host_that_is_none_is_not_shown(tmp_path: Path, host: str) -> None:
    async with running(tmp_path) as broker:
        page = await broker.client.get("/", headers={"host": host})
    assert host not in page.text
    assert "http://127.0.0.1:8000" in page.text


async def test_in_production_there_is_nothing(tmp_path: Path) -> None:
    """The response is that of any missing path."""
    production = {
        "environment": "production",
        "auth": ("jwt",),
        "auth_jwt_issuer": "https://app.example.com",
        "auth_jwt_audience": ("chat",),
        "auth_jwt_secret": "a1b2c3d4e5f6a7b8c9d0a1b2c3d4e5f6",
    }
    async with running(tmp_path, **production) as broker:
        answer, other = [await broker.client.get(path) for path in ("/", "/nowhere")]
    assert answer.status_code == 404
    assert code_of(answer) == code_of(other) == "not_found"


async def test_with_other_users_than_anybody_it_does_not_speak_of_dev_login(tmp_path: Path) -> None:
    own = {
        "auth": ("jwt",),
        "auth_jwt_issuer": "https://app.example.com",
        "auth_jwt_audience": ("chat",),
        "auth_jwt_secret": "a1b2c3d4e5f6a7b8c9d0a1b2c3d4e5f6",
    }
    async with running(tmp_path, **own) as broker:
        page = (await broker.client.get("/")).text
    assert "/dev/login" not in page
    assert "5173" not in page
    assert "a1b2c3" not in page


async def test_links_for_operators_go_to_their_port(tmp_path: Path) -> None:
    async with running(tmp_path, admin_port=9000, docs=False) as broker:
        page = (await broker.client.get("/", headers={"host": "127.0.0.1:8000"})).text
    found = links(page)
    assert "http://127.0.0.1:9000/metrics" in found
    assert "http://127.0.0.1:8000/healthz" in found
    assert not any(link.endswith(("/docs", "/openapi.json")) for link in found)
