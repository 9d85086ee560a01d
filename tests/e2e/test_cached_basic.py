"""A real Chromium that keeps somebody's Basic credential for a site: the site's page may use it, another site's may not."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.nginx import nginx
from tests.programs import ROOT, clean_environment, free_port, running_broker

BASIC = "Basic YWxpY2U6c2VjcmV0"
LOCATIONS = """
location / {{ proxy_pass http://127.0.0.1:{app}; proxy_set_header Connection close; }}
location /chat/ {{ proxy_pass {broker}; proxy_set_header Host $http_host; }}
"""


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks for Basic on every page; whoever sends it is alice, also at the session endpoint."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    if f"authorization: {BASIC}".lower() in head.lower():
        body, kind = (b'{"sub": "alice"}', "application/json")
        if " /session" not in head:
            body, kind = (b"<!doctype html>", "text/html")
        lines = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    else:
        body = b""
        lines = 'HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm="app"\r\ncontent-length: 0\r\n'
    writer.write(lines.encode() + b"connection: close\r\n\r\n" + body)
    await writer.drain()
    writer.close()


@pytest.mark.services("node", "chromium", "nginx")
async def test_another_sites_form_cannot_use_a_credential_that_the_browser_keeps(
    tmp_path: Path,
) -> None:
    listening = await asyncio.start_server(app, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with (
        listening,
        running_broker(
            AUTH="forward",
            AUTH_FORWARD_URL=f"http://127.0.0.1:{port}/session",
            AUTH_FORWARD_HEADERS="Authorization",
        ) as broker,
        nginx(tmp_path, LOCATIONS.format(app=port, broker=broker.url)) as site,
    ):
        options = {
            "site": site.replace("127.0.0.1", "localhost"),
            "otherPort": free_port(),
            "chromium": shutil.which("chromium") or shutil.which("chromium-browser"),
        }
        process = await asyncio.create_subprocess_exec(
            "node",
            str(ROOT / "tests" / "e2e" / "cached-basic.mjs"),
            json.dumps(options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment({}),
        )
        out, errors = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 0, errors.decode()
    seen = json.loads(out)
    assert seen["own"] == 200
    for attack in seen["attacks"]:
        assert attack["authorization"] == BASIC, attack  # or nothing is shown here
        assert attack["site"] == "cross-site", attack
        assert attack["status"] == 403, attack
