"""A full disk refuses writes only; with free space writes succeed again without a restart."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from chat_broker.chat.identities import NOT_STORED
from chat_broker_sdk import Request, Response
from tests.app.brokers import Person, running
from tests.programs import BIN, Program, free_port, running_broker
from tests.programs import running as program

PLENTY = dict.fromkeys(("RATE_IP", "RATE_WRITE", "RATE_READ", "RATE_TOKEN"), "100000/minute")


@asynccontextmanager
async def signed_in(broker: Program, name: str) -> AsyncIterator[Person]:
    async with httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=20) as client:
        answer = await client.post("/dev/login", json={"username": name})
        client.headers["authorization"] = f"Bearer {answer.json()['token']}"
        yield Person(client, name, "/chat")


def fill(disk: Path) -> Path:
    """Fill the disk; returns the file to remove."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


async def test_a_full_disk_refuses_writes_and_nothing_else(tiny_disk: Path) -> None:
    """Both databases on a full disk: known users still read and get tokens."""
    async with (
        running_broker(tiny_disk, **PLENTY) as broker,
        signed_in(broker, "alice") as alice,
        signed_in(broker, "bob") as bob,
        signed_in(broker, "stranger") as stranger,
    ):
        room = await alice.room(name="before")
        assert (await bob.post(f"/rooms/{room}/join")).status_code == 200
        said = await alice.say(room, "before")
        filler = fill(tiny_disk)
        for _ in range(12):
            refused = await alice.post(f"/rooms/{room}/messages", {"content": "x" * 8000})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) <= 5
        for person in (alice, bob):
            page = await person.get(f"/rooms/{room}/messages")
            assert (page.status_code, page.json()["items"]) == (200, [said]), page.text
            for path in ("/rooms", f"/rooms/{room}", f"/rooms/{room}/members", "/me"):
                assert (await person.get(path)).status_code == 200
            assert (await person.post("/token")).status_code == 200
        assert (await stranger.post("/token")).status_code == 503  # to be created is a write
        filler.unlink()
        await alice.say(room, "room again")
        assert (await stranger.post("/token")).status_code == 200


def refuse_updates(request: Request) -> Response | None:
    """Responds as the Chat API does on a full disk."""
    if request.method != "PATCH":
        return None
    problem = f'{{"status": 503, "code": "{NOT_STORED}", "message": "x"}}'
    headers = [("content-type", "application/problem+json"), ("retry-after", "1")]
    return Response(503, headers, problem.encode())


@pytest.mark.parametrize("full", ["the Chat API's disk", "the broker's disk"])
async def test_a_new_name_that_cannot_be_stored_keeps_nobody_out(tmp_path: Path, full: str) -> None:
    """A token is minted although the write of a changed name fails."""
    by_proxy = {
        "auth": ("header",),
        "auth_header_trusted_proxies": ("127.0.0.1/32",),
        "auth_header_secret": "a-secret-of-the-proxy-0123456789abcdef",
        "auth_header_name": "X-Name",
    }
    async with running(tmp_path, **by_proxy) as broker:

        async def minted(name: str) -> str:
            headers = {
                "x-forwarded-user": "alice",
                "x-name": name,
                "x-proxy-secret": by_proxy["auth_header_secret"],
                "origin": "http://127.0.0.1:8000",
            }
            answer = await broker.client.post("/chat/token", headers=headers)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["user"]["display_name"])

        assert await minted("Alice") == "Alice"
        if full == "the Chat API's disk":
            broker.upstream.answer = refuse_updates
            assert [await minted("Alice II") for _ in range(8)] == ["Alice"] * 8
        else:
            with sqlite3.connect(tmp_path / "broker.db", isolation_level=None) as other:
                other.execute("CREATE TRIGGER full BEFORE UPDATE ON links BEGIN SELECT x(); END")
            assert await minted("Alice II") == "Alice II"
        broker.upstream.answer = None
        assert await minted("Alice II") == "Alice II"


async def test_a_log_that_cannot_be_written_fails_no_request(tmp_path: Path) -> None:
    """Standard output and standard error go to a full disk."""
    port = free_port()
    environment = {"ENVIRONMENT": "development", "AUTH": "dev", "PORT": str(port), **PLENTY}
    command = ["bash", "-c", f"exec {BIN / 'chat-broker'} serve >/dev/full 2>/dev/full"]
    async with program(command, environment, port=port, data_dir=tmp_path) as broker:
        async with signed_in(broker, "alice") as alice:
            room = await alice.room()
            for _ in range(20):
                await alice.say(room)
            assert (await alice.get("/rooms/none")).status_code == 404
        assert await broker.stop() == 0
