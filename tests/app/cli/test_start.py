"""The modules that a start loads. Loading libraries is most of a start's time, so unused ones stay unloaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, to the first answer, as `serve` goes.
PROGRAM = """
import asyncio, json, sys
from chat_broker.cli.launch import load_structlog
load_structlog()
from chat_broker.cli.serve import AppFactory
from chat_broker.settings import load_settings
from chat_broker.cli.checked_settings import more_problems

async def first_answer():
    app = AppFactory(load_settings(more_problems))()
    sent = []
    async def send(message):
        sent.append(message)
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async with app.router.lifespan_context(app):
        await app(
            {
                "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http",
                "path": "/healthz", "raw_path": b"/healthz", "query_string": b"", "root_path": "",
                "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
            },
            receive,
            send,
        )
    assert sent[0]["status"] == 200, sent

asyncio.run(first_answer())
print(json.dumps(sorted(sys.modules)))
"""

REMOTE = {
    "CHAT_BASE_URL": "https://chat.example.com",
    "CHAT_API_KEY": "ck_0123456789abcdef_secret-of-a-project",
}
UNUSED = {
    "aiohttp",
    "asyncpg",
    "httpx",
    "limits",
    "pydantic.v1",
    "redis",
    "rich",
    "socketio",
    "typer",
}


def loaded(folder: Path, **settings: str) -> set[str]:
    environment = {"ENVIRONMENT": "development", "AUTH": "dev", "DATA_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("start", ["the first", "a later one"])
def test_a_start_in_front_of_a_remote_chat_api_loads_what_it_uses(
    tmp_path: Path, start: str
) -> None:
    """A default start loads no other HTTP client, no Redis, no Postgres and no CLI libraries."""
    if start == "a later one":
        loaded(tmp_path, **REMOTE)
    assert not (UNUSED | {"chat_broker_server"}) & loaded(tmp_path, **REMOTE)


@pytest.mark.parametrize("start", ["the first", "a later one"])
def test_an_embedded_start_loads_what_it_uses(tmp_path: Path, start: str) -> None:
    """With SQLite, no module of Postgres is loaded."""
    if start == "a later one":
        loaded(tmp_path)
    unused = {"asyncpg", "httpx", "limits", "pydantic.v1", "rich", "typer"}
    assert not unused & loaded(tmp_path)


def test_who_wants_rich_gets_it_all_the_same() -> None:
    """Loading structlog without rich does not keep programs from importing rich."""
    program = (
        "from chat_broker.cli.launch import load_structlog; load_structlog(); import rich.console, structlog;"
        "structlog.dev.ConsoleRenderer(); print(rich.console.Console)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "Console" in done.stdout, done.stderr
