"""Runs the README's curl lines against a real broker."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from chat_broker.main import create_app
from tests.app.brokers import settings
from tests.programs import ROOT, clean_environment, free_port, running_broker

README = (ROOT / "README.md").read_text()


def shell_blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


async def test_the_minute_of_curl_works_as_printed() -> None:
    """With another port only: a chat token, a room, a join, two messages."""
    block = next(block for block in shell_blocks() if "/dev/login" in block)
    async with running_broker() as broker:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euc",
            block.replace("localhost:8000", broker.url.removeprefix("http://")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment({}),
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    decoder, values, rest = json.JSONDecoder(), [], out.decode().strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:].strip()
    token, joined, posted, page = values
    assert token["user"]["username"] == "alice"
    assert joined["username"] == "bob"
    assert posted["content"] == "Hello!"
    assert page["items"] == [posted]


@pytest.mark.parametrize("command", ["run", "test"])
def test_the_two_commands_are_targets_of_the_makefile(command: str) -> None:
    assert f"make {command}" in shell_blocks()[0]
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_page_of_the_docs_is_in_the_table() -> None:
    table = README.partition("| page | for whom |")[2]
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert set(re.findall(r"^\| \[[^\]]*\]\((docs/[^)]*)\) \|", table, re.MULTILINE)) == pages


def test_every_value_of_the_dialect_is_in_the_table() -> None:
    """The SDK's README names every field of `Dialect`."""
    from dataclasses import fields

    from chat_broker_sdk import Dialect

    missing = [one.name for one in fields(Dialect) if f"`{one.name}`" not in README]
    assert missing == []


def reachable() -> dict[str, tuple[str, str]]:
    """The README's table: for each path when it is there, and on which port it stands with ADMIN_PORT."""
    table = README.partition("| path | there is |")[2].partition("\n\n")[0]
    found = {}
    for line in table.splitlines()[2:]:
        paths, there, port = (cell.strip() for cell in line.strip("|").split("|"))
        for path in re.findall(r"`(/[^`]*)`", paths):
            found[path.removesuffix("/…")] = there, port
    return found


@pytest.mark.parametrize("chat_api", ["embedded", "remote"])
@pytest.mark.parametrize("environment", ["development", "production"])
async def test_what_can_be_reached_is_in_the_table_and_nothing_else(
    tmp_path: Path, chat_api: str, environment: str
) -> None:
    """Against the routes of the application, mounted ones and hidden ones too."""
    given: dict[str, Any] = {"auth": ("dev",)} if environment == "development" else {
        "auth": ("forward",), "auth_forward_url": "https://app.example.com/session",
        "auth_forward_cookies": ("sid",), "auth_jwt_issuer": "https://app.example.com",
    }  # fmt: skip
    if chat_api == "embedded":
        given |= {"chat_base_url": None, "chat_api_key": None}
    else:
        given |= {"chat_base_url": "https://chat.example.com"}
    app = create_app(settings(tmp_path, environment=environment, **given))
    async with app.router.lifespan_context(app):  # what is mounted is mounted at the start
        paths = {str(one.path) for one in iter_route_contexts(app.routes)}
    table = reachable()
    expected = {
        path
        for path, (there, _) in table.items()
        if there.startswith("always") or chat_api in there or f"in {environment}" in there
    }
    found = {next((known for known in table if is_below(path, known)), path) for path in paths}
    assert found == expected


def is_below(path: str, known: str) -> bool:
    return path == known or (known != "/" and path.startswith(known + "/"))


async def test_with_a_port_for_operators_the_table_says_what_is_where() -> None:
    admin = free_port()
    one_of = {
        "/chat": "/chat/me",
        "/admin": "/admin/status",
        "/socket.io": "/socket.io/?EIO=4&transport=polling",
    }
    async with running_broker(ADMIN_PORT=str(admin), ADMIN_KEY="k" * 40) as broker:
        ports = {"`PORT`": broker.port, "`ADMIN_PORT`": admin}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            for path, (_, where) in reachable().items():
                asked = one_of.get(path, path)
                for name, port in ports.items():
                    answer = await http.get(f"http://127.0.0.1:{port}{asked}")
                    there = answer.status_code != 404
                    assert there == (where in {f"on {name}", "on both"}), (path, name, answer.text)
