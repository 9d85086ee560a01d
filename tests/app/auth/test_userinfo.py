"""Names that an access token lacks are read from the userinfo endpoint; the identity never is."""

import asyncio
from typing import Any

import httpx
import pytest

from chat_broker.auth.errors import InvalidCredentials
from tests.app.auth.signing import ISSUER, NOW, claims, rsa_signer, secret_signer
from tests.app.auth.test_mode_chain import ACTIVE, HS256, INTROSPECTION, JWT, opened

ALICE = {"sub": "user-1", "name": "Alice", "preferred_username": "alice", "email": "a@example.com"}
ENDPOINT = f"{ISSUER}/userinfo"
ASKING = {**HS256, "auth_jwt_userinfo": ENDPOINT}


class Provider:
    """An issuer with keys, a discovery document and a userinfo endpoint whose claims are *said*."""

    def __init__(self, said: Any = ALICE) -> None:
        self.said = said
        self.asked: list[httpx.Request] = []
        self.document: dict[str, Any] = {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/keys",
            "userinfo_endpoint": ENDPOINT,
        }
        self.hold: asyncio.Event | None = None

    async def __call__(self, question: httpx.Request) -> httpx.Response:
        path = question.url.path
        if path.endswith("configuration"):
            return httpx.Response(200, json=self.document)
        if path == "/keys":
            return httpx.Response(200, json={"keys": [rsa_signer().jwk]})
        if path == "/introspect":
            return httpx.Response(
                200, json={**ACTIVE, "username": None, "preferred_username": None}
            )
        self.asked.append(question)
        if self.hold is not None:
            await self.hold.wait()
        said = self.said
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, httpx.Response) else httpx.Response(200, json=said)


def token(**changes: Any) -> str:
    return secret_signer().token(claims(**changes))


async def test_what_the_token_lacks_is_asked_for_once() -> None:
    provider = Provider()
    async with opened("jwt", provider, **ASKING) as auth:
        bearer = token()
        for path in ("/chat/rooms", "/chat/token", "/chat/token"):
            who = await auth(bearer=bearer, path=path)
            assert (who.username, who.name, who.email) == ("alice", "Alice", "a@example.com")
            assert (who.external_id, who.expires_at) == ("user-1", NOW + 330)
        (question,) = provider.asked
        assert str(question.url) == ENDPOINT
        assert question.method == "GET"
        assert question.headers["authorization"] == f"Bearer {bearer}"
        assert "cookie" not in question.headers
        # The next token of a session is not asked with, until a quarter of an hour has passed.
        assert (await auth(bearer=token(jti="2"))).name == "Alice"
        assert len(provider.asked) == 1
        auth.pass_time(900)
        later = token(jti="3", exp=NOW + 5000, iat=NOW + 900)
        provider.said = {**ALICE, "name": "Alice B."}
        assert (await auth(bearer=later)).name == "Alice B."
        assert len(provider.asked) == 2


async def test_the_token_itself_comes_first() -> None:
    provider = Provider()
    async with opened("jwt", provider, **ASKING) as auth:
        whole = token(name="From the token", preferred_username="own")
        assert (await auth(bearer=whole)).name == "From the token"
        assert provider.asked == []
        who = await auth(bearer=token(name="From the token"))
        assert (who.name, who.username) == ("From the token", "alice")


async def test_the_claims_may_be_called_otherwise() -> None:
    provider = Provider({"sub": "user-1", "nickname": "ally", "profile": {"shown": "A."}})
    names = {"auth_claim_username": "nickname", "auth_claim_name": "profile.shown"}
    async with opened("jwt", provider, **ASKING, **names) as auth:
        who = await auth(bearer=token())
        assert (who.username, who.name, who.external_id) == ("ally", "A.", "user-1")


async def test_without_the_setting_nobody_is_asked() -> None:
    provider = Provider()
    async with opened("jwt", provider, **JWT) as auth:
        assert (await auth(bearer=rsa_signer().token())).name is None
    assert provider.asked == []


async def test_a_bad_token_is_shown_to_nobody() -> None:
    provider = Provider()
    async with opened("jwt", provider, **ASKING) as auth:
        for bad in (token(exp=NOW - 60), token(aud="other"), token()[:-6] + "AAAAAA"):
            with pytest.raises(InvalidCredentials):
                await auth(bearer=bad)
    assert provider.asked == []


BROKEN = [
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    httpx.Response(500),
    httpx.Response(503),
    httpx.Response(429, headers={"retry-after": "60"}),
    httpx.Response(404, json=ALICE),
    httpx.Response(302, headers={"location": "https://evil.test"}),
    httpx.Response(200, text="<html>", headers={"content-type": "text/html"}),
    httpx.Response(200, text="e30.e30.x", headers={"content-type": "application/jwt"}),
    httpx.Response(200, json=[ALICE]),
    {**ALICE, "sub": "somebody-else"},
    {**ALICE, "sub": None},
    {"name": "Alice"},
    {**ALICE, "x": "y" * 60_000},
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
async def test_who_they_are_is_known_without_it(broken: Any) -> None:
    """Without a name the user still signs in; thirty seconds later the name is requested again."""
    provider = Provider(broken)
    async with opened("jwt", provider, **ASKING) as auth:
        bearer = token()
        for _ in range(3):
            who = await auth(bearer=bearer)
            assert (who.external_id, who.name, who.username) == ("user-1", None, None)
        assert len(provider.asked) == 1
        provider.said = ALICE
        auth.pass_time(31)
        assert (await auth(bearer=bearer)).name == "Alice"
        assert len(provider.asked) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_that_opens_no_profile_is_not_asked_with_again(status: int) -> None:
    """A token without the scope `openid`, or for another resource, is not tried again."""
    provider = Provider(httpx.Response(status))
    async with opened("jwt", provider, **ASKING) as auth:
        bearer = token()
        for _ in range(5):
            assert (await auth(bearer=bearer)).name is None
            auth.pass_time(50)
        assert len(provider.asked) == 1
        provider.said = ALICE
        other = token(jti="2", exp=NOW + 900, iat=NOW + 100)
        assert (await auth(bearer=other)).name == "Alice"


async def test_a_provider_that_is_down_is_asked_five_times_and_then_no_more_for_a_while() -> None:
    provider = Provider(httpx.ConnectError("refused"))
    async with opened("jwt", provider, **ASKING) as auth:
        for number in range(20):
            assert await auth(bearer=token(sub=f"user-{number}"))
        assert len(provider.asked) == 5


async def test_many_at_once_are_one_question() -> None:
    provider = Provider()
    provider.hold = asyncio.Event()
    async with opened("jwt", provider, **ASKING) as auth:
        bearer = token()
        calls = [asyncio.create_task(auth(bearer=bearer)) for _ in range(50)]
        await asyncio.sleep(0.05)
        calls[0].cancel()  # the first client disconnects
        provider.hold.set()
        found = await asyncio.gather(*calls[1:])
        assert {who.name for who in found} == {"Alice"}
        assert len(provider.asked) == 1


async def test_the_discovery_document_says_where() -> None:
    provider = Provider()
    async with opened("jwt", provider, **JWT, auth_jwt_userinfo="discovery") as auth:
        assert (await auth(bearer=rsa_signer().token())).name == "Alice"
    for elsewhere in (
        "https://evil.test/userinfo",
        "http://id.example.com/x",
        "https://169.254.169.254/",
        None,
    ):
        provider = Provider()
        provider.document["userinfo_endpoint"] = elsewhere
        async with opened("jwt", provider, **JWT, auth_jwt_userinfo="discovery") as auth:
            assert (await auth(bearer=rsa_signer().token())).name is None
        assert provider.asked == []


async def test_an_opaque_token_has_names_asked_for_too() -> None:
    provider = Provider()
    settings = {**INTROSPECTION, "auth_jwt_userinfo": "discovery"}
    async with opened("introspection", provider, **settings) as auth:
        for path in ("/chat/token", "/chat/rooms", "/chat/token"):
            who = await auth(bearer="opaque", path=path)
            assert (who.username, who.name) == ("alice", "Alice")
        assert len(provider.asked) == 1
    provider = Provider(httpx.Response(401))
    async with opened("jwt,introspection", provider, **JWT, **settings) as auth:
        for _ in range(5):
            assert (await auth(bearer="opaque", path="/chat/token")).name is None
        assert len(provider.asked) == 1
