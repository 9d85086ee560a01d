"""The SDK's conformance kit against the Chat API on every transport, and against faulty servers."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chat_broker_sdk import AsgiTransport, AsyncChatClient, DirectTransport, Request, Response
from chat_broker_sdk.conformance.__main__ import Finding, run, table
from chat_broker_sdk.testing import FakeChatApi
from tests.conftest import postgres_database
from tests.programs import run_command, running_server


@asynccontextmanager
async def server(folder: Path, **settings: str) -> AsyncIterator[tuple[str, str]]:
    """`chat-server serve` with a project in it: its URL and a key."""
    environment = {"DATA_DIR": str(folder), **settings}
    code, out, err = await run_command(
        "chat-server", "create-project", "--name", "conformance", environment=environment
    )
    assert code == 0, err
    async with running_server(folder, **settings) as program:
        yield program.url, out.strip().splitlines()[-1]


def wrong(findings: list[Finding]) -> list[str]:
    """What is wrong or lacking, apart from features that the server itself does not name."""
    return [
        f"{each.name}: {each.note}"
        for each in findings
        if each.verdict in {"wrong", "lacks"} and not each.note.startswith("no feature")
    ]


async def test_the_server_on_sqlite_keeps_every_promise(tmp_path: Path) -> None:
    async with server(tmp_path) as (url, key):
        findings = await run(url, key)
    assert wrong(findings) == []
    assert len(findings) >= 45


@pytest.mark.services("postgres")
async def test_the_server_on_postgres_keeps_every_promise(tmp_path: Path) -> None:
    async with (
        postgres_database() as database,
        server(tmp_path, CHAT_DATABASE_URL=database) as (url, key),
    ):
        findings = await run(url, key)
    assert wrong(findings) == []


@pytest.mark.parametrize("way", ["call", "asgi"])
async def test_the_embedded_server_keeps_every_promise_of_rest(tmp_path: Path, way: str) -> None:
    """As a function, which is how the broker uses it, and as an ASGI application."""
    from chat_broker_server import Settings, open_server

    key = "embedded-key-" + "k" * 32
    async with open_server(Settings(data_dir=tmp_path), embedded_key=key) as embedded:
        direct, asgi = DirectTransport(embedded.call), AsgiTransport(embedded.rest)
        transport = direct if way == "call" else asgi
        client = AsyncChatClient("http://chat", api_key=key, transport=transport)
        findings = await run("", client=client, sockets=False)
    assert wrong(findings) == []


class Without:
    """The fake Chat API with one fault: a transport that changes requests or responses."""

    def __init__(self, fake: FakeChatApi, **broken: Any) -> None:
        self.inner = AsgiTransport(fake)
        self.broken = broken

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109
        if "strip" in self.broken:
            kept = [each for each in request.headers if each[0] != self.broken["strip"]]
            request = Request(request.method, request.url, tuple(kept), request.body)
        if (
            (method := self.broken.get("no"))
            and request.method == method
            and "/rooms/" in request.url
        ):
            body = b'{"code":"not_implemented"}'
            return Response(501, [("content-type", "application/problem+json")], body)
        response = await self.inner.send(request, timeout=timeout)
        if old := self.broken.get("replace"):
            response.body = response.body.replace(*old)
        return response

    async def aclose(self) -> None: ...


async def judge(**broken: Any) -> dict[str, Finding]:
    fake = FakeChatApi()
    client = AsyncChatClient(
        "http://fake", api_key=fake.api_key, transport=Without(fake, **broken), retries=0
    )
    return {each.name: each for each in await run("", client=client, sockets=False)}


async def test_a_server_without_the_optional_calls_lacks_them_and_no_more() -> None:
    """501 for changing rooms, as of the hosted API, counts as missing, not as wrong."""
    found = await judge(no="PATCH")
    assert found["update"].verdict == "lacks"
    assert found["edit keeps the place and sets edited_at"].verdict == "lacks"
    assert found["create answers with the whole message"].verdict == "has"


async def test_features_that_a_server_does_not_name_are_not_offered_rather_than_wrong() -> None:
    fake = FakeChatApi(features=())
    findings = await run("", client=fake.client(), sockets=False)
    assert [each for each in findings if each.verdict == "wrong"] == []
    lacking = {each.note for each in findings if each.verdict == "lacks"}
    assert lacking == {f"no feature {name}" for name in FakeChatApi().store.features}
    assert "0 wrong" in table(findings)


async def test_a_named_feature_without_its_calls_is_wrong() -> None:
    found = await judge(replace=(b'"features": [', b'"features": ["reactions", '), no="PATCH")
    assert found["a member's own side is changed by itself alone"].verdict == "lacks"
    fake = FakeChatApi(features=("changes",))
    client = AsyncChatClient(
        "http://fake",
        api_key=fake.api_key,
        transport=Without(fake, replace=(b'"changes"', b'"changes", "mine"')),
    )
    findings = {each.name: each for each in await run("", client=client, sockets=False)}
    assert findings["a member's own side is changed by itself alone"].verdict == "wrong"


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        ({"strip": "Idempotency-Key"}, "Idempotency-Key: the same answer again; another body is 422"),
        ({"replace": (b"username_taken", b"taken")}, "a taken username is 409 username_taken"),
        ({"replace": (b'"has_more": true', b'"has_more": false')}, "list: newest first by page, cursors by seq"),
        ({"replace": (b'"role": "owner"', b'"role": "member"')}, "create answers with the whole room, its creator the owner"),
        ({"replace": (b'"status": "active"', b'"status": null')}, "create answers with the whole user"),
        ({"replace": (b'"rev": 2', b'"rev": 1')}, "changes are present states, each object once, by rev"),
        ({"replace": (b'"code": "changed"', b'"code": "conflict"')}, "an edit with an old if_rev is 409 changed"),
        ({"replace": (b'"has_before": true', b'"has_before": false')}, "messages around a seq, by id, and one alone"),
        ({"replace": (b'"from_seq": 2', b'"from_seq": 1')}, "a member's own side is changed by itself alone"),
        ({"replace": (b'"messages": 2', b'"messages": 3')}, "totals count what is unread, silenced rooms apart"),
        ({"replace": (b'"removed": []', b'"removed": ["x"]')}, "sync answers what differs, and nothing else"),
    ],
)  # fmt: skip
async def test_a_broken_promise_is_found(broken: dict[str, Any], name: str) -> None:
    intact = await judge()
    assert intact[name].verdict == "has"
    assert (await judge(**broken))[name].verdict == "wrong"


async def test_the_command_prints_a_table_and_says_by_its_exit_code(tmp_path: Path) -> None:
    async with server(tmp_path) as (url, key):
        command = [
            sys.executable,
            "-m",
            "chat_broker_sdk.conformance.__main__",
            "conformance",
            "--no-socket",
        ]
        good = await _run([*command, "--base-url", url], {"CHAT_API_KEY": key})
        bad = await _run([*command, "--base-url", url], {"CHAT_API_KEY": "wrong-key-canary"})
        none = await _run(command, {"CHAT_API_KEY": key})
    assert good.returncode == 0, good.stdout + good.stderr
    assert "0 wrong" in good.stdout
    assert key not in good.stdout + good.stderr
    assert bad.returncode == 2
    assert "wrong-key-canary" not in bad.stdout + bad.stderr
    assert none.returncode == 2


async def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    import asyncio

    def call() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return await asyncio.to_thread(call)


def test_a_table_has_one_line_a_check() -> None:
    text = table(
        [
            Finding("A", "one", "has"),
            Finding("A", "two", "lacks", "501"),
            Finding("B", "three", "wrong", "why"),
        ]
    )
    assert text.splitlines()[-1] == "1 kept, 1 not offered, 1 wrong"
    assert "WRONG  three  why" in text
