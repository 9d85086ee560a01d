"""The API key, tokens and credentials appear in no response, log, repr or traceback."""

import base64
import copy
import hashlib
import io
import json
import logging
import pickle
import pprint
import traceback
import urllib.parse
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from chat_broker.cli.main import shown
from chat_broker.observability import logs
from chat_broker.settings import Settings
from chat_broker_sdk import NetworkError, Request, Response
from tests.app.brokers import API_KEY, running, settings

ADMIN_KEY = "admin-canary-4f1d9c0e7b6a5d3c2b1a0f9e8d7c"


def forms(secret: str) -> list[str]:
    raw = secret.encode()
    return [
        secret,
        secret[:12] if len(secret) > 40 else secret,
        base64.b64encode(raw).decode().rstrip("=")[:40],
        base64.urlsafe_b64encode(raw).decode().rstrip("=")[:40],
        urllib.parse.quote(secret, safe=""),
        raw.hex(),
        hashlib.sha256(raw).hexdigest(),
    ]


def leaked(text: str) -> list[str]:
    return [form for secret in (API_KEY, ADMIN_KEY) for form in forms(secret) if form in text]


async def everything(broker: Any) -> list[str]:
    """The responses of every route, successful ones and errors, hold no secret."""
    alice = await broker.sign_in("alice")
    room = await alice.room()
    message = (await alice.say(room))["id"]
    answers = [
        await alice.get("/token"), await alice.get("/me"), await alice.get("/rooms"), await alice.get(f"/rooms/{room}"),
        await alice.get(f"/rooms/{room}/members"), await alice.get(f"/rooms/{room}/messages"),
        await alice.patch(f"/rooms/{room}/messages/{message}", {"content": "y"}), await alice.get("/rooms/x"),
        await alice.post(f"/rooms/{room}/messages", {"content": "z", "reply_to": message, "mentions": ["external:alice"]}),
        await alice.post(f"/rooms/{room}/messages", {"content": "z", "mentions": ["external:nobody"]}), await alice.get("/mentions"),
        await alice.put("/direct", {"with": []}), await alice.put("/direct", {"with": ["external:nobody"]}),
        await alice.get("/rooms/external:x"), await alice.post(f"/rooms/{room}/members", {"users": ["external:nobody"]}),
        await alice.get(f"/rooms/{room}/members?ids=external:alice,external:nobody"),
        await alice.get("/presence?ids=external:alice,external:nobody"), await alice.get(f"/rooms/{room}/messages/x/receipts"),
        await alice.get("/me/settings"), await alice.get("/me/blocks"), await alice.get("/users?q=a"), await alice.put("/me/blocks/external:nobody"),
        await alice.put(f"/rooms/{room}/roles/guest/external:nobody"), await alice.patch(f"/rooms/{room}", {"settings": {"invites": API_KEY}}),
        await alice.post("/rooms", {"name": API_KEY[:10], "api_key": 1}), await alice.post("/rooms", content=b"{"),
        *[await broker.client.get(path) for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/x")],
        await broker.client.get("/chat/token"), await broker.client.get("/chat/verify", headers={"authorization": "Bearer x.y.z"}),
        await broker.client.get("/admin/status", headers={"authorization": f"Bearer {ADMIN_KEY}"}),
    ]  # fmt: skip

    def crash(request: Request) -> Response:
        raise RuntimeError(f"a bug near {len(request.headers)} headers")

    broker.upstream.answer = crash
    answers.append(await alice.post("/rooms", {"name": "x"}))
    assert answers[-1].status_code == 500
    for bad in (
        Response(500, [("x-echo", API_KEY)], API_KEY.encode()),
        Response(401, [], json.dumps({"code": "api_key_invalid", "detail": API_KEY}).encode()),
        Response(
            400,
            [],
            json.dumps(
                {"detail": API_KEY, "errors": [{"field": API_KEY, "message": API_KEY}]}
            ).encode(),
        ),
        Response(200, [], json.dumps({"id": "r", "name": "n", "x": API_KEY}).encode()),
    ):
        broker.upstream.answer = lambda _, bad=bad: bad
        answers.append(await alice.post("/rooms", {"name": "x"}))
        answers.append(await alice.get("/token"))
    return [answer.text + str(answer.headers) for answer in answers]


async def test_no_answer_and_no_log_line_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log at DEBUG, with failures of every kind, holds neither the key nor its encodings, digest or prefix."""
    out = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    try:
        with redirect_stdout(out), redirect_stderr(out):
            given = {"log_level": "DEBUG", "log_format": "json", "admin_key": ADMIN_KEY}
            logs.configure(settings(tmp_path, **given))
            async with running(tmp_path, **given) as broker:
                seen = await everything(broker)
                credential = (await broker.sign_in("alice")).client.headers["authorization"]
                token = json.loads(seen[0][: seen[0].rindex("}Headers") + 1])["token"]
    finally:
        structlog.reset_defaults()
        root.handlers[:], _ = before[0], root.setLevel(before[1])
    written = out.getvalue()
    assert "request.failed" in written
    assert leaked("\n".join(seen)) == []
    assert leaked(written) == []
    for private in (credential.removeprefix("Bearer "), token, "a bug near"):
        assert private not in "\n".join(seen[1:])
    for private in (credential.removeprefix("Bearer ")[:30], token[60:100]):
        assert private not in written


async def test_no_representation_of_the_parts_holds_a_secret(tmp_path: Path) -> None:
    """repr, pprint, vars, copy, pickle, and tracebacks that show local variables."""
    async with running(tmp_path, admin_key=ADMIN_KEY) as broker:
        kept = broker.app.state
        parts = [
            kept.settings,
            kept.upstream,
            broker.app.broker,
            broker.app.gate,
            kept.storage,
            kept.upstream.chat,
            kept.upstream.keys,
        ]
        for part in parts:
            texts = [repr(part), str(part), f"{part}", pprint.pformat(part)]
            with suppress(TypeError):
                texts.append(pprint.pformat(vars(part)))
            with suppress(Exception):
                texts.append(repr(copy.copy(part)))
            with suppress(Exception):
                texts.append(repr(pickle.loads(pickle.dumps(part))))  # noqa: S301 - our own bytes
            assert leaked("\n".join(texts)) == [], type(part)

        async def failing() -> str:
            try:
                await broker.app.broker.tokens.mint(_somebody())
            except Exception as error:  # noqa: BLE001 - whatever it is, it is formatted
                lines = traceback.TracebackException.from_exception(error, capture_locals=True)
                return "".join(lines.format())
            raise AssertionError("nothing failed")

        def refuse(_: Request) -> Response:
            raise NetworkError("gone")

        def bug(_: Request) -> Response:
            raise RuntimeError("bug")

        for broken in (
            refuse,
            bug,
            lambda _: Response(500),
            lambda _: Response(200, [], b"x"),
            lambda _: Response(401),
        ):
            broker.upstream.answer = broken
            text = await failing()
            assert leaked(text) == [], text


def _somebody() -> Any:
    from chat_broker.chat.principal import Principal

    return Principal("iss", "s", "s", username="s")


def test_the_settings_are_shown_without_their_secrets(tmp_path: Path) -> None:
    """check-config shows that a secret is set, and URLs without their password."""
    one = settings(
        tmp_path,
        admin_key=ADMIN_KEY,
        database_url="postgresql://user:pass-canary@db.example.com:5432/chat?sslmode=require&password=pass-canary",
        redis_url="redis://:pass-canary@cache:6379/0",
    )
    text = "\n".join(shown(getattr(one, name)) for name in Settings.model_fields)
    assert leaked(text) == []
    assert "pass-canary" not in text + repr(one)
    assert "postgresql://(hidden)@db.example.com:5432/chat" in text


def test_what_looks_like_a_credential_is_taken_out_of_any_text() -> None:
    for text in (
        f"key {API_KEY} used",
        "Authorization: Bearer abcdefgh.ijk",
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2ln",
        "postgresql://user:hunter2hunter2@db/x",
        "dev_YWxpY2U.1795589720.bde0j-ii3W2Q_1m9c9irE5",
    ):
        clean = logs.redact(text)
        assert "[hidden]" in clean
        for secret in ("canary", "abcdefgh", "c2ln", "hunter2", "bde0j"):
            assert secret not in clean
