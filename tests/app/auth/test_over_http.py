"""Sign-in over HTTP, on the fast path and over ASGI."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.app.auth.signing import AUDIENCE, ISSUER, SECRET, claims, secret_signer
from tests.app.brokers import API_KEY, Running, code_of, running

JWT = {
    "auth": ("jwt",),
    "auth_jwt_issuer": ISSUER,
    "auth_jwt_audience": (AUDIENCE,),
    "auth_jwt_secret": SECRET,
}
EVIL = {"origin": "https://evil.test", "sec-fetch-site": "cross-site"}
LISTED = "https://app.example.com"


@pytest.fixture(params=["fast path", "ordinary"])
def over_the_wire(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "fast path")


def app_token(*, typ: Any = "JWT", **changes: Any) -> str:
    """A token of the app's that is valid for five minutes, with *changes*."""
    now = int(time.time())
    return secret_signer().token(claims(**{"iat": now, "exp": now + 300, **changes}), typ=typ)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def minted(broker: Running, token: str) -> Any:
    answer = await broker.client.post("/chat/token", headers=bearer(token))
    assert answer.status_code == 200, answer.text
    return answer.json()


@asynccontextmanager
async def session_endpoint(
    answer: dict[str, Any], asked: list[str] | None = None
) -> AsyncIterator[str]:
    """An app whose session endpoint always sends *answer*; *asked* holds the requests."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps(answer).encode()
        question = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(question.decode("latin-1"))
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        writer.write(head.encode() + b"\r\nconnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/session"


@asynccontextmanager
async def forwarding(
    data_dir: Path, response: dict[str, Any], asked: list[str] | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """A broker in mode `forward`, in front of an app's `session_endpoint`."""
    headers = {"auth_forward_headers": ("Authorization",)}
    async with session_endpoint(response, asked) as url:
        forward = {"auth": ("forward",), "auth_forward_url": url}
        async with running(data_dir, **forward, **headers | settings) as broker:
            yield broker


# -- what a browser sends by itself -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "credential",
    [
        {"authorization": "Basic YWxpY2U6c2VjcmV0"},
        {"authorization": "Negotiate YIIabc"},
        {"authorization": "NTLM TlRMTVNTUAAB"},
        {"x-session": "abc"},
    ],
    ids=str,
)
async def test_another_sites_page_cannot_use_what_a_browser_or_proxy_adds(
    tmp_path: Path, over_the_wire: bool, method: str, credential: dict[str, str]
) -> None:
    async with forwarding(
        tmp_path,
        {"sub": "alice"},
        over_the_wire=over_the_wire,
        auth_forward_headers=("Authorization", "X-Session"),
        cors_origins=(LISTED,),
    ) as broker:
        for site in (EVIL, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            answer = await broker.client.request(method, "/chat/token", headers=credential | site)
            assert (answer.status_code, code_of(answer)) == (403, "csrf_failed"), site
        for site in ({}, {"origin": LISTED}, {"sec-fetch-site": "same-origin"}):
            answer = await broker.client.request(method, "/chat/token", headers=credential | site)
            assert answer.status_code == 200, (site, answer.text)
        by_hand = await broker.client.request(method, "/chat/token", headers=bearer("abc") | EVIL)
        assert by_hand.status_code == 200


# -- when a credential ends -------------------------------------------------------------------------


async def test_whoever_is_let_in_gets_a_token_that_ends_with_the_leeway(
    tmp_path: Path, over_the_wire: bool
) -> None:
    """A token ten seconds past `exp`, within the leeway, is accepted by rooms and token routes alike."""
    async with running(tmp_path, over_the_wire=over_the_wire, **JWT) as broker:
        end = int(time.time()) - 10
        late = app_token(exp=end, iat=end - 300)
        for _ in range(2):  # verified, and remembered
            rooms = await broker.client.get("/chat/rooms", headers=bearer(late))
            assert rooms.status_code == 200
            assert 17 <= (await minted(broker, late))["expires_in"] <= 20
        over = app_token(exp=end - 21, iat=end - 300)
        for path in ("/chat/rooms", "/chat/token"):
            answer = await broker.client.get(path, headers=bearer(over))
            assert (answer.status_code, code_of(answer)) == (401, "invalid_credentials")


async def test_instants_with_a_fraction_are_instants(tmp_path: Path, over_the_wire: bool) -> None:
    async with running(tmp_path, over_the_wire=over_the_wire, **JWT) as broker:
        now = int(time.time())
        whole = app_token(iat=now - 1 + 0.5, nbf=now - 1 + 0.5, exp=now + 100.5)
        assert 126 <= (await minted(broker, whole))["expires_in"] <= 130
    async with forwarding(
        tmp_path / "forward",
        {"sub": "alice", "exp": now + 100.25},
        over_the_wire=over_the_wire,
    ) as broker:
        assert 90 <= (await minted(broker, "abc"))["expires_in"] <= 100


# -- names of users ---------------------------------------------------------------------------------


async def test_the_apps_backend_names_those_whose_tokens_have_no_name(
    tmp_path: Path, over_the_wire: bool
) -> None:
    """A name is set at the first token or later; a token without a name does not clear it."""
    admin = {"authorization": "Bearer an-admin-key-for-tests-of-forty-characters"}
    async with running(
        tmp_path, over_the_wire=over_the_wire, **JWT, admin_key=admin["authorization"][7:]
    ) as broker:
        nameless = await minted(broker, app_token(sub="u2"))
        assert nameless["user"]["username"].startswith("user-")
        for sub, fields in (
            ("u1", {"username": "alice", "display_name": "Alice"}),
            ("u2", {"display_name": "Bob"}),
        ):
            put = await broker.client.put(
                f"/admin/users/external:{sub}", headers=admin, json=fields
            )
            assert put.status_code in {200, 201}, put.text
            for _ in range(2):
                user = (await minted(broker, app_token(sub=sub)))["user"]
                assert user["display_name"] == fields["display_name"]
        assert (await minted(broker, app_token(sub="u1")))["user"]["username"] == "alice"


async def test_a_name_that_comes_late_reaches_the_chat_user(
    tmp_path: Path, over_the_wire: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The userinfo endpoint was down at the user's first request."""
    monkeypatch.setattr("chat_broker.auth.jwt.authenticator.ASK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("chat_broker.auth.jwt.userinfo.ASK_AGAIN_SECONDS", 0.0)
    answer = {"error": "down"}
    async with (
        session_endpoint(answer) as url,
        running(tmp_path, over_the_wire=over_the_wire, **JWT, auth_jwt_userinfo=url) as broker,
    ):
        token = app_token(sub="u1")
        first = await minted(broker, token)
        assert first["user"]["display_name"] != "Alice"
        answer.clear()
        answer.update(sub="u1", name="Alice")
        second = await minted(broker, token)
        assert second["user"]["id"] == first["user"]["id"]
        assert second["user"]["display_name"] == "Alice"


# -- tokens of another purpose ----------------------------------------------------------------------


@pytest.mark.parametrize("typ", ["JWT", "logout+jwt", ...])
async def test_a_logout_token_is_no_bearer(tmp_path: Path, over_the_wire: bool, typ: Any) -> None:
    events = {"http://schemas.openid.net/event/backchannel-logout": {}}
    async with running(tmp_path, over_the_wire=over_the_wire, **JWT) as broker:
        token = app_token(typ=typ, events=events, jti="1", sid="s")
        for method, path in (("POST", "/chat/token"), ("GET", "/chat/rooms")):
            answer = await broker.client.request(method, path, headers=bearer(token))
            assert (answer.status_code, code_of(answer)) == (401, "invalid_credentials")


async def test_what_is_plainly_no_chat_token_is_shown_to_nobody(
    tmp_path: Path, over_the_wire: bool
) -> None:
    """Tokens of the app, valid or not, and every other kind of JWT are not sent to the Chat API."""
    async with running(
        tmp_path, over_the_wire=over_the_wire, **{**JWT, "auth": ("jwt", "dev")}
    ) as broker:
        chat_token = (await minted(broker, app_token()))["token"]
        dev = (await broker.client.post("/dev/login", json={"username": "a"})).json()["token"]
        broker.upstream.seen.clear()
        for other in (
            app_token(),
            app_token(typ="at+jwt"),
            app_token(typ=...),
            app_token(exp=1, typ=...),
            app_token(iss="https://elsewhere.example.com"),
            app_token(typ="logout+jwt"),
            dev,
            "x.y.z",
            "ak_0123456789ab_" + "x" * 43,
        ):
            answer = await broker.client.get("/chat/verify", headers=bearer(other))
            assert (answer.status_code, code_of(answer)) == (401, "token_invalid"), other
        assert broker.upstream.seen == []
        good = await broker.client.get("/chat/verify", headers=bearer(chat_token))
        assert good.status_code == 200


async def test_a_chat_token_is_verified_where_the_app_has_all_other_bearers(
    tmp_path: Path, over_the_wire: bool
) -> None:
    async with forwarding(
        tmp_path,
        {"sub": "alice"},
        over_the_wire=over_the_wire,
    ) as broker:
        chat_token = (await minted(broker, "abc"))["token"]
        good = await broker.client.get("/chat/verify", headers=bearer(chat_token))
        assert good.status_code == 200
        broker.upstream.seen.clear()
        for other in ("abc", app_token()):
            answer = await broker.client.get("/chat/verify", headers=bearer(other))
            assert (answer.status_code, code_of(answer)) == (401, "token_invalid")
        assert broker.upstream.seen == []


async def test_the_operators_keys_are_shown_to_nobody(tmp_path: Path, over_the_wire: bool) -> None:
    """An operator's key is sent neither to the app nor to the Chat API."""
    admin = "an-admin-key-for-tests-of-forty-characters"
    asked: list[str] = []
    async with forwarding(
        tmp_path,
        {"sub": "alice"},
        asked,
        over_the_wire=over_the_wire,
        admin_key=admin,
    ) as broker:
        broker.upstream.seen.clear()
        for key in (admin, API_KEY, "ak_0123456789ab_" + "x" * 43):
            answer = await broker.client.post("/chat/token", headers=bearer(key))
            assert (answer.status_code, code_of(answer)) == (401, "invalid_credentials")
            answer = await broker.client.get("/chat/verify", headers=bearer(key))
            assert (answer.status_code, code_of(answer)) == (401, "token_invalid")
        assert (asked, broker.upstream.seen) == ([], [])
        await minted(broker, "abc")
        assert len(asked) == 1


async def test_signing_out_works_for_whoever_has_used_up_their_writes(
    tmp_path: Path, over_the_wire: bool
) -> None:
    async with running(
        tmp_path, over_the_wire=over_the_wire, rate_write="2/minute", rate_token="2/minute"
    ) as broker:
        alice = await broker.sign_in("alice")
        tokens = [(await alice.post("/token")).json()["token"] for _ in range(2)]
        for _ in range(2):
            await alice.room()
        assert (await alice.post("/rooms", {"name": "x"})).status_code == 429
        assert (await alice.post("/token")).status_code == 429
        assert (await alice.delete("/token")).status_code == 204
        for token in tokens:
            answer = await broker.client.get("/chat/verify", headers=bearer(token))
            assert code_of(answer) == "token_revoked"
