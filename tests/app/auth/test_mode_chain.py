"""The chain of modes: absent falls through, bad stops, two different credentials are refused."""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from chat_broker.auth.bearer import digest_of
from chat_broker.auth.dev import COOKIE as DEV_COOKIE
from chat_broker.auth.dev import DevSessions
from chat_broker.auth.errors import (
    AmbiguousCredentials,
    BadProxyHeaders,
    InvalidCredentials,
    ProviderUnavailable,
)
from chat_broker.auth.mode_chain import ModeChain, open_mode_chain
from chat_broker.settings import Settings
from tests.app.auth.signing import (
    AUDIENCE,
    ISSUER,
    NOW,
    SECRET,
    Clock,
    claims,
    ec_signer,
    request,
    rsa_signer,
    secret_signer,
)

JWT = {"auth_jwt_issuer": ISSUER, "auth_jwt_audience": (AUDIENCE,)}
HS256 = {**JWT, "auth_jwt_secret": SECRET}
INTROSPECTION = {
    "auth_introspection_url": "https://id.example.com/introspect",
    "auth_introspection_client_id": "broker",
    "auth_introspection_client_secret": "s3cret:of/broker",
    "auth_introspection_issuer": ISSUER,
}
FORWARD = {
    "auth_forward_url": "https://app.example.com/session",
    "auth_forward_cookies": ("sid", "sid2"),
    "auth_forward_headers": ("X-Tenant",),
}
HEADER = {
    "auth_header_trusted_proxies": ("10.0.0.0/8",),
    "auth_header_secret": "between-proxy-and-broker",
    "auth_header_name": "X-Forwarded-Name",
    "auth_header_email": "X-Forwarded-Email",
}


class Asked:
    """An app or provider that sends one response and records the requests."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[httpx.Request] = []

    def __call__(self, question: httpx.Request) -> httpx.Response:
        self.seen.append(question)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, httpx.Response):
            return self.answer
        return httpx.Response(200, json=self.answer)


class Opened:
    def __init__(self, chain: ModeChain, now: Clock, clock: Clock) -> None:
        self.chain, self.now, self.clock = chain, now, clock

    async def __call__(self, *headers: tuple[str, str], **more: Any) -> Any:
        return await self.chain(request(*headers, **more))

    def pass_time(self, seconds: float) -> None:
        self.now.at += seconds
        self.clock.at += seconds


@asynccontextmanager
async def opened(auth: str, provider: Any = None, **settings: Any) -> AsyncIterator[Opened]:
    now, clock = Clock(NOW), Clock(5000.0)
    whole = Settings(environment="development", auth=tuple(auth.split(",")), **settings)
    transport = httpx.MockTransport(provider) if provider is not None else None
    async with open_mode_chain(whole, transport=transport, now=now, clock=clock) as chain:
        yield Opened(chain, now, clock)


# -- jwt --------------------------------------------------------------------------------------------


async def test_a_good_token_is_a_principal() -> None:
    async with opened("jwt", **HS256) as auth:
        who = await auth(bearer=secret_signer().token(claims(name="Alice")))
        assert (who.issuer, who.subject, who.external_id) == (ISSUER, "user-1", "user-1")
        assert (who.name, who.expires_at, who.carrier) == ("Alice", NOW + 330, "bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_has_no_case(scheme: str) -> None:
    async with opened("jwt", **HS256) as auth:
        assert await auth(("authorization", f"{scheme} {secret_signer().token()}"))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Basic YTpi")],
        [("authorization", "Digest x")],
        [("authorization", "Bearer opaque-token")],
        [("authorization", "Bearer a.b")],
        [("authorization", "Bearer a.b.c.d.e")],
        [("cookie", "a=b")],
        [("cookie", "app_token=")],
    ],
)
async def test_nothing_for_jwt_is_absent(headers: list[tuple[str, str]]) -> None:
    async with opened("jwt", **HS256, auth_jwt_cookie="app_token") as auth:
        assert await auth(*headers) is None


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", "Bearer a b", "Bearer \u00e9", "Bearer ,", "Bearer a=b", "Bearer {}"],
)
async def test_a_malformed_bearer_is_bad_not_absent(value: str) -> None:
    async with opened("jwt", **HS256) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(("authorization", value))


async def test_two_authorization_headers_are_ambiguous() -> None:
    token = secret_signer().token()
    async with opened("jwt", **HS256) as auth:
        with pytest.raises(AmbiguousCredentials):
            await auth(
                ("authorization", f"Bearer {token}"), bearer=secret_signer().token(claims(sub="x"))
            )
        with pytest.raises(AmbiguousCredentials):
            await auth(("authorization", "Basic YTpi"), bearer=token)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.test"},
        {"aud": "other"},
        {"exp": NOW - 31},
        {"exp": ...},
        {"sub": ""},
        {"nbf": NOW + 31},
        {"iat": NOW + 31},
    ],
)
async def test_a_bad_token_is_refused(change: dict[str, Any]) -> None:
    async with opened("jwt", **HS256) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(bearer=secret_signer().token(claims(**change)))


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", ...])
async def test_a_logout_token_lets_nobody_in(typ: Any) -> None:
    events = {"http://schemas.openid.net/event/backchannel-logout": {}}
    async with opened("jwt", **HS256, auth_jwt_cookie="app_token") as auth:
        token = secret_signer().token(claims(events=events, jti="j1"), typ=typ)
        for offer in ({"bearer": token}, {}):
            with pytest.raises(InvalidCredentials, match="events"):
                await auth(*(() if offer else (("cookie", f"app_token={token}"),)), **offer)


async def test_a_chat_token_is_refused_even_under_our_own_key() -> None:
    async with opened("jwt", **HS256) as auth:
        with pytest.raises(InvalidCredentials, match="typ"):
            await auth(bearer=secret_signer().token(typ="chat+jwt"))


async def test_a_remembered_token_still_ends() -> None:
    async with opened("jwt", **HS256) as auth:
        token = secret_signer().token()
        for _ in range(3):
            assert await auth(bearer=token)
        auth.pass_time(329)
        assert await auth(bearer=token)  # within the leeway, verified anew
        auth.pass_time(1)
        with pytest.raises(InvalidCredentials, match="expired"):
            await auth(bearer=token)


async def test_a_remembered_token_does_not_make_another_spelling_good() -> None:
    async with opened("jwt", **HS256) as auth:
        token = secret_signer().token()
        await auth(bearer=token)
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        with pytest.raises(InvalidCredentials):
            await auth(bearer=token[:-1] + alphabet[alphabet.index(token[-1]) + 1])


async def test_a_remembered_token_falls_with_its_key() -> None:
    keys: list[Any] = [rsa_signer().jwk, rsa_signer("k2").jwk]
    provider = Asked({"keys": keys})
    async with opened("jwt", provider, **JWT, auth_jwt_jwks_url=f"{ISSUER}/keys") as auth:
        token = rsa_signer().token(claims(exp=NOW + 5000))
        assert await auth(bearer=token)
        assert await auth.chain.providers() == {"jwt": "ok"}
        del keys[0]
        auth.pass_time(301)
        with pytest.raises(InvalidCredentials):
            await auth(bearer=token)
        keys[0] = {**rsa_signer("k2").jwk, "kid": "k1"}  # another key under the old name
        auth.pass_time(301)
        with pytest.raises(InvalidCredentials, match="signature"):
            await auth(bearer=token)


async def test_a_provider_that_is_down_is_503_and_the_broker_starts() -> None:
    provider = Asked(httpx.ConnectError("down"))
    async with opened("jwt", provider, **JWT) as auth:
        assert await auth.chain.providers() == {"jwt": "missing"}
        with pytest.raises(ProviderUnavailable) as error:
            await auth(bearer=rsa_signer().token())
        assert 1 <= error.value.retry_after <= 30
        with pytest.raises(InvalidCredentials):  # no key could make this one good
            await auth(bearer=rsa_signer().token(claims(iss="https://evil.test")))
        assert await auth() is None
        assert len(provider.seen) == 1


async def test_keys_are_there_from_the_start() -> None:
    provider = Asked({"keys": [ec_signer().jwk]})
    async with opened("jwt", provider, **JWT, auth_jwt_jwks_url=f"{ISSUER}/keys") as auth:
        assert len(provider.seen) == 1
        assert await auth(bearer=ec_signer().token())
        assert len(provider.seen) == 1


async def test_algorithms_may_be_narrowed() -> None:
    provider = Asked({"keys": [ec_signer().jwk, rsa_signer("r").jwk]})
    url = f"{ISSUER}/keys"
    async with opened(
        "jwt", provider, **JWT, auth_jwt_jwks_url=url, auth_jwt_algorithms="ES256"
    ) as auth:
        assert await auth(bearer=ec_signer().token())
        with pytest.raises(InvalidCredentials, match="algorithm"):
            await auth(bearer=rsa_signer("r").token())
        assert len(provider.seen) == 1


async def test_a_pem_key_needs_no_network() -> None:
    async with opened("jwt", **JWT, auth_jwt_public_key=rsa_signer().pem) as auth:
        assert await auth(bearer=rsa_signer().token())
        with pytest.raises(InvalidCredentials):
            await auth(bearer=secret_signer(rsa_signer().pem).token())


async def test_the_cookie_may_carry_the_token() -> None:
    async with opened("jwt", **HS256, auth_jwt_cookie="app_token") as auth:
        token, other = secret_signer().token(), secret_signer().token(claims(sub="other"))
        who = await auth(("cookie", f"a=b; app_token={token}; c=d"))
        assert who.carrier == "cookie"
        assert (await auth(bearer=token)).carrier == "bearer"
        assert (await auth(("cookie", f"app_token={token}"), bearer=token)).carrier == "bearer"
        with pytest.raises(AmbiguousCredentials):
            await auth(("cookie", f"app_token={token}"), bearer=other)
        with pytest.raises(AmbiguousCredentials):
            await auth(("cookie", f"app_token={token}; app_token={other}"))
        with pytest.raises(AmbiguousCredentials):
            await auth(("cookie", f"app_token={token}"), ("cookie", f"app_token={other}"))
        assert await auth(("cookie", f"app_token={token}; app_token={token}"))
        for bad in ("junk", "a.b.c", f'"{token}"'):
            with pytest.raises(InvalidCredentials):
                await auth(("cookie", f"app_token={bad}"))
        assert await auth(("cookie", f"App_token={token}")) is None


async def test_one_subject_of_two_issuers_is_two_people() -> None:
    second = "https://login.example.org"
    issuers = json.dumps(
        [
            {"alias": "one", "issuer": ISSUER, "audience": AUDIENCE, "secret": SECRET},
            {
                "alias": "two",
                "issuer": second,
                "audience": ["x", "y"],
                "public_key": ec_signer().pem,
                "algorithms": ["ES256"],
                "typ": "at+jwt",
            },
        ]
    )
    async with opened("jwt", auth_jwt_issuers=issuers) as auth:
        one = await auth(bearer=secret_signer().token())
        two = await auth(bearer=ec_signer().token(claims(iss=second, aud="y"), typ="at+jwt"))
        assert (one.subject, one.external_id) == ("user-1", "one:user-1")
        assert (two.issuer, two.subject, two.external_id) == (second, "user-1", "two:user-1")
        for bad in (
            secret_signer().token(claims(iss=second, aud="y")),
            ec_signer().token(claims(), typ="at+jwt"),
            ec_signer().token(claims(iss=second, aud="y")),
        ):
            with pytest.raises(InvalidCredentials):
                await auth(bearer=bad)


# -- introspection ----------------------------------------------------------------------------------

ACTIVE = {"active": True, "sub": "user-1", "exp": NOW + 300, "preferred_username": "alice"}


async def test_an_opaque_token_is_introspected() -> None:
    provider = Asked(ACTIVE)
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        who = await auth(bearer="opaque")
        assert (who.issuer, who.external_id, who.username) == (ISSUER, "user-1", "alice")
        assert who.expires_at == NOW + 330
        (question,) = provider.seen
        assert question.method == "POST"
        assert question.content == b"token=opaque&token_type_hint=access_token"
        import base64

        pair = base64.b64decode(question.headers["authorization"].removeprefix("Basic ")).decode()
        assert pair == "broker:s3cret%3Aof%2Fbroker"


async def test_a_jwt_is_never_introspected() -> None:
    provider = Asked(ACTIVE)
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        assert await auth(bearer=secret_signer().token()) is None
    async with opened("introspection,jwt", provider, **INTROSPECTION, **HS256) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(bearer=secret_signer("x" * 32).token())
        assert (await auth(bearer="opaque")).external_id == "user-1"
        assert (await auth(bearer=secret_signer().token())).external_id == "user-1"  # one issuer
    assert len(provider.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"active": False},
        {"active": False, "sub": "user-1"},
        {**ACTIVE, "exp": NOW - 31},
        {**ACTIVE, "nbf": NOW + 31},
        {**ACTIVE, "sub": ""},
        {"active": True},
        {**ACTIVE, "iss": "https://evil.test"},
        {**ACTIVE, "token_use": "refresh_token"},
        {**ACTIVE, "typ": "Refresh"},
        {**ACTIVE, "events": {}},
    ],
)
async def test_an_inactive_token_is_refused(answer: Any) -> None:
    async with opened("introspection", Asked(answer), **INTROSPECTION) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(bearer="opaque")


NOT_AN_ANSWER = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"),
    httpx.ReadTimeout("slow"),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("cut"),
    httpx.Response(500, json=ACTIVE),
    httpx.Response(502),
    httpx.Response(503, json=ACTIVE),
    httpx.Response(301, headers={"location": "https://evil.test"}),
    httpx.Response(302, headers={"location": "/login"}),
    httpx.Response(307, headers={"location": "/login"}),
    httpx.Response(204),
    httpx.Response(201, json=ACTIVE),
    httpx.Response(404, json=ACTIVE),
    httpx.Response(429, json=ACTIVE),
    httpx.Response(200, text="<html>login</html>", headers={"content-type": "text/html"}),
    httpx.Response(200, text=json.dumps(ACTIVE), headers={"content-type": "text/plain"}),
    httpx.Response(200, text=json.dumps(ACTIVE)[:-5], headers={"content-type": "application/json"}),
    httpx.Response(200, text="", headers={"content-type": "application/json"}),
    httpx.Response(200, json=[]),
    httpx.Response(200, json=None),
    httpx.Response(200, json="user-1"),
    httpx.Response(200, json={**ACTIVE, "exp": "soon"}),
    httpx.Response(200, json={**ACTIVE, "exp": 1e300}),
    httpx.Response(200, json={**ACTIVE, "x": "y" * 60_000}),
    httpx.Response(
        200, text='{"active":true,"sub":"a","sub":"b"}', headers={"content-type": "application/json"}
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        *NOT_AN_ANSWER,
        httpx.Response(401),
        httpx.Response(403),
        {"active": "true", "sub": "user-1"},
        {"active": 1, "sub": "user-1"},
        {"active": None},
        {"sub": "user-1"},
        {},
    ],
    ids=str,
)
async def test_introspection_fails_closed(answer: Any) -> None:
    async with opened("introspection", Asked(answer), **INTROSPECTION) as auth:
        with pytest.raises(ProviderUnavailable):
            await auth(bearer="opaque")


async def test_an_answer_is_remembered_for_ten_seconds_and_never_for_minting() -> None:
    provider = Asked(ACTIVE)
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        for _ in range(5):
            await auth(bearer="opaque")
        assert len(provider.seen) == 1
        await auth(bearer="opaque", path="/chat/token", method="POST")
        await auth(bearer="opaque", path="/chat/token", method="POST")
        assert len(provider.seen) == 3
        provider.answer = {"active": False}
        auth.pass_time(9.9)
        await auth(bearer="opaque")
        auth.pass_time(0.2)
        with pytest.raises(InvalidCredentials):
            await auth(bearer="opaque")
        asked = len(provider.seen)
        with pytest.raises(InvalidCredentials):
            await auth(bearer="opaque")
        assert len(provider.seen) == asked
        with pytest.raises(InvalidCredentials):
            await auth(bearer="another")
        assert len(provider.seen) == asked + 1


async def test_a_revocation_seen_while_minting_counts_at_once() -> None:
    provider = Asked(ACTIVE)
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        await auth(bearer="opaque")
        provider.answer = {"active": False}
        for path in ("/chat/token", "/chat/rooms"):
            with pytest.raises(InvalidCredentials):
                await auth(bearer="opaque", path=path)


async def test_an_answer_is_not_remembered_past_the_tokens_end() -> None:
    provider = Asked({**ACTIVE, "exp": NOW + 3})
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        await auth(bearer="opaque")
        auth.pass_time(4)
        provider.answer = {"active": False}
        with pytest.raises(InvalidCredentials):
            await auth(bearer="opaque")


async def test_an_introspected_token_ends_with_the_leeway() -> None:
    """A credential and the chat token minted for it expire at the same second."""
    provider = Asked({**ACTIVE, "exp": NOW - 10.5})
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        assert (await auth(bearer="opaque")).expires_at == NOW - 11 + 30
        auth.pass_time(19)
        with pytest.raises(InvalidCredentials, match="expired"):
            await auth(bearer="opaque")


async def test_many_at_once_are_one_question() -> None:
    import asyncio

    provider = Asked(ACTIVE)
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        await asyncio.gather(*(auth(bearer="opaque") for _ in range(50)))
    assert len(provider.seen) == 1


async def test_the_breaker_opens_and_closes() -> None:
    provider = Asked(httpx.ConnectError("down"))
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        for number in range(20):
            with pytest.raises(ProviderUnavailable) as error:
                await auth(bearer=f"t{number}")
        assert len(provider.seen) == 5
        assert error.value.retry_after == 10
        auth.pass_time(10)
        with pytest.raises(ProviderUnavailable):
            await auth(bearer="one")
        with pytest.raises(ProviderUnavailable):
            await auth(bearer="two")
        assert len(provider.seen) == 6  # one may try
        auth.pass_time(10)
        provider.answer = ACTIVE
        assert await auth(bearer="three")
        assert await auth(bearer="four")


async def test_questions_that_found_no_free_connection_do_not_open_the_breaker() -> None:
    """Requests that were not sent do not count as failures of the provider."""
    provider = Asked(httpx.PoolTimeout("busy"))
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        for number in range(20):
            with pytest.raises(ProviderUnavailable):
                await auth(bearer=f"t{number}")
        provider.answer = ACTIVE
        assert await auth(bearer="good")


async def test_a_probe_that_found_no_free_connection_leaves_its_turn_to_the_next() -> None:
    """After a probe that was not sent, the next request probes the provider at once."""
    provider = Asked(httpx.ConnectError("down"))
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        for number in range(5):
            with pytest.raises(ProviderUnavailable):
                await auth(bearer=f"t{number}")
        auth.pass_time(10)
        provider.answer = httpx.PoolTimeout("busy")
        with pytest.raises(ProviderUnavailable):
            await auth(bearer="probe")
        provider.answer = ACTIVE
        assert await auth(bearer="next")


async def test_odd_answers_do_not_open_the_breaker() -> None:
    provider = Asked(httpx.Response(500))
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        for number in range(20):
            with pytest.raises(ProviderUnavailable):
                await auth(bearer=f"t{number}")
        assert len(provider.seen) == 20
        provider.answer = ACTIVE
        assert await auth(bearer="good")


async def test_an_audience_is_checked_when_there_is_one() -> None:
    provider = Asked({**ACTIVE, "aud": "other-api"})
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        assert await auth(bearer="opaque")
    async with opened(
        "introspection", provider, **INTROSPECTION, auth_introspection_audience="chat"
    ) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(bearer="opaque")
        provider.answer = ACTIVE
        with pytest.raises(InvalidCredentials):
            await auth(bearer="without")
        provider.answer = {**ACTIVE, "aud": ["chat"]}
        assert await auth(bearer="right")
    provider.answer = {**ACTIVE, "aud": "other-api"}
    async with opened("jwt,introspection", provider, **INTROSPECTION, **HS256) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(bearer="opaque")
        provider.answer = ACTIVE
        assert await auth(bearer="without")


def test_answers_of_two_endpoints_are_kept_apart() -> None:
    from chat_broker.auth.lookup import cache_key

    keys = {
        cache_key(*parts)
        for parts in itertools.product(("https://a", "https://b"), ("c", "d", ""), ("t", "u", "c"))
    }
    assert len(keys) == 18
    assert cache_key("a\0b", "c", "t") != cache_key("a", "b\0c", "t")
    assert b"secret-token" not in cache_key("a", "b", "secret-token")


async def test_an_oversized_token_is_not_even_sent() -> None:
    provider = Asked(ACTIVE)
    async with opened("introspection", provider, **INTROSPECTION) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(bearer="x" * 8193)
    assert provider.seen == []


# -- forward ----------------------------------------------------------------------------------------

SIGNED_IN = {"sub": "user-1", "name": "Alice", "email": "a@example.com"}


async def test_the_apps_session_is_asked_with_the_named_cookies_and_headers_alone() -> None:
    app = Asked(SIGNED_IN)
    async with opened("forward", app, **FORWARD) as auth:
        who = await auth(
            ("cookie", "tracking=1; sid=abc; theme=dark"),
            ("cookie", "sid2=d e"),
            ("x-tenant", "t1"),
            ("authorization", "Basic c2VjcmV0"),
            ("x-other", "y"),
            ("user-agent", "browser"),
        )
        assert (who.issuer, who.external_id, who.name, who.carrier) == (
            "forward",
            "user-1",
            "Alice",
            "cookie",
        )
        assert who.expires_at is None
        (question,) = app.seen
        assert question.method == "GET"
        assert question.headers["cookie"] == "sid=abc; sid2=d e"
        assert question.headers["x-tenant"] == "t1"
        assert "authorization" not in question.headers
        assert "x-other" not in question.headers
        assert "browser" not in question.headers["user-agent"]


@pytest.mark.parametrize(
    "headers", [[], [("cookie", "other=1")], [("cookie", "sid=")], [("cookie", "")]]
)
async def test_without_the_named_cookie_nobody_is_asked(headers: list[tuple[str, str]]) -> None:
    app = Asked(SIGNED_IN)
    async with opened("forward", app, **FORWARD) as auth:
        assert await auth(*headers) is None
    assert app.seen == []


@pytest.mark.parametrize("status", [401, 403])
async def test_not_signed_in_is_anonymous(status: int) -> None:
    app = Asked(httpx.Response(status, json=SIGNED_IN))
    async with opened("forward", app, **FORWARD) as auth:
        assert await auth(("cookie", "sid=abc")) is None
        assert await auth(("cookie", "sid=abc")) is None
        assert len(app.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        *NOT_AN_ANSWER,
        {},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 300},
        {"sub": "a\nb"},
        {"user": {"sub": "user-1"}},
        {"name": "Alice"},
    ],
    ids=str,
)
async def test_forward_fails_closed(answer: Any) -> None:
    async with opened("forward", Asked(answer), **FORWARD) as auth:
        with pytest.raises(ProviderUnavailable):
            await auth(("cookie", "sid=abc"))


async def test_the_fields_may_be_anywhere() -> None:
    app = Asked({"user": {"id": 42, "login": "alice"}})
    names = {"auth_claim_id": "user.id", "auth_claim_username": "user.login"}
    async with opened("forward", app, **FORWARD, **names) as auth:
        who = await auth(("cookie", "sid=abc"))
        assert (who.external_id, who.username) == ("42", "alice")


async def test_a_session_is_remembered_for_five_seconds_and_by_all_that_was_passed_on() -> None:
    app = Asked(SIGNED_IN)
    async with opened("forward", app, **FORWARD) as auth:
        for _ in range(3):
            await auth(("cookie", "sid=abc"))
        assert len(app.seen) == 1
        await auth(("cookie", "sid=abd"))
        await auth(("cookie", "sid=abc"), ("x-tenant", "t1"))
        await auth(("cookie", "sid=abc"), ("x-tenant", "t2"))
        await auth(("cookie", "sid2=abc"))
        assert len(app.seen) == 5
        auth.pass_time(5)
        app.answer = httpx.Response(401)
        assert await auth(("cookie", "sid=abc")) is None


@pytest.mark.parametrize(
    "cookie", ["sid=" + "x" * 9000, "sid=a\x01b", "sid=a\x7fb", "sid=\u00e9", "sid=a\tb"]
)
async def test_an_impossible_cookie_is_bad_and_not_sent(cookie: str) -> None:
    app = Asked(SIGNED_IN)
    async with opened("forward", app, **FORWARD) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(("cookie", cookie))
    assert app.seen == []


async def test_a_chat_token_is_not_shown_to_the_app() -> None:
    app = Asked(SIGNED_IN)
    passed = {**FORWARD, "auth_forward_headers": ("X-Tenant", "Authorization")}
    async with opened("forward", app, **passed) as auth:
        token = secret_signer().token(typ="chat+jwt")
        for header in (("authorization", f"Bearer {token}"), ("x-tenant", token)):
            with pytest.raises(InvalidCredentials, match="chat token"):
                await auth(header)
        assert app.seen == []
        assert await auth(bearer=secret_signer().token())


async def test_two_cookies_of_one_name_are_nobodys() -> None:
    async with opened("forward", Asked(SIGNED_IN), **FORWARD) as auth:
        with pytest.raises(AmbiguousCredentials):
            await auth(("cookie", "sid=mine; sid=planted"))
        with pytest.raises(AmbiguousCredentials):
            await auth(("x-tenant", "a"), ("x-tenant", "b"))


@pytest.mark.parametrize("fraction", [0, 0.0, 0.25])  # JavaScript: Date.now() / 1000
async def test_a_session_that_says_when_it_ends_ends(fraction: float) -> None:
    app = Asked({**SIGNED_IN, "exp": NOW + 2 + fraction})
    async with opened("forward", app, **FORWARD) as auth:
        assert (await auth(("cookie", "sid=abc"))).expires_at == NOW + 2
        auth.pass_time(2)
        assert await auth(("cookie", "sid=abc")) is None


@pytest.mark.parametrize(
    ("headers", "carrier"),
    [
        ([("authorization", "Bearer abc")], "bearer"),
        ([("authorization", "bearer abc")], "bearer"),
        ([("authorization", "Basic YTpi")], "header"),
        ([("authorization", "Digest username=a")], "header"),
        ([("authorization", "Negotiate YII")], "header"),
        ([("authorization", "NTLM TlRMTVNTUAAB")], "header"),
        ([("authorization", "Token abc")], "header"),
        ([("authorization", "BearerX abc")], "header"),
        ([("authorization", "abc")], "header"),
        ([("x-tenant", "t1")], "header"),
        ([("x-tenant", "Bearer abc")], "header"),
        ([("authorization", "Bearer abc"), ("x-tenant", "t1")], "header"),
        ([("authorization", "Bearer abc"), ("cookie", "sid=1")], "cookie"),
        ([("authorization", "Basic YTpi"), ("cookie", "sid=1")], "cookie"),
    ],
    ids=str,
)
async def test_only_a_bearer_is_sent_by_nobody_but_who_has_it(
    headers: list[tuple[str, str]], carrier: str
) -> None:
    """Only a bearer token is exempt from the CSRF rules: browsers send Basic by themselves, proxies add other headers."""
    passed = {**FORWARD, "auth_forward_headers": ("X-Tenant", "Authorization")}
    async with opened("forward", Asked(SIGNED_IN), **passed) as auth:
        assert (await auth(*headers)).carrier == carrier


# -- header -----------------------------------------------------------------------------------------

SHOWN = ("x-proxy-secret", "between-proxy-and-broker")


async def test_a_proxy_says_who_it_is() -> None:
    async with opened("header", **HEADER) as auth:
        who = await auth(
            SHOWN,
            ("x-forwarded-user", "u-1"),
            ("x-forwarded-name", "M\u00c3\u00bcller, J."),  # UTF-8, as bytes
            ("x-forwarded-email", "m@example.com"),
            peer="10.1.2.3",
        )
        assert (who.issuer, who.external_id, who.carrier) == ("header", "u-1", "header")
        assert (who.name, who.email, who.expires_at) == ("M\u00fcller, J.", "m@example.com", None)
        assert who.username == "u-1"
        mail = await auth(SHOWN, ("x-forwarded-user", "m@example.com"), peer="10.1.2.3")
        assert mail.username is None
        assert await auth(peer="10.1.2.3") is None


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "11.0.0.1", "9.255.255.255", "::1", "::ffff:11.0.0.1", "testclient", ""]
)
async def test_from_elsewhere_identity_headers_are_refused(peer: str) -> None:
    async with opened("header", **HEADER) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(
                SHOWN, ("x-forwarded-user", "u-1"), ("x-forwarded-for", "10.0.0.1"), peer=peer
            )
        with pytest.raises(InvalidCredentials):
            await auth(SHOWN, peer=peer)
        assert await auth(peer=peer) is None


async def test_a_mapped_address_is_the_address() -> None:
    async with opened("header", **HEADER) as auth:
        assert await auth(SHOWN, ("x-forwarded-user", "u-1"), peer="::ffff:10.0.0.1")


@pytest.mark.parametrize(
    "secret",
    [
        None,
        "",
        "wrong",
        "between-proxy-and-broke",
        "between-proxy-and-brokerr",
        "BETWEEN-PROXY-AND-BROKER",
        "\u00e9\u00ff",
    ],
)
async def test_without_the_secret_identity_headers_are_refused(secret: str | None) -> None:
    shown = [("x-proxy-secret", secret)] if secret is not None else []
    async with opened("header", **HEADER) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(*shown, ("x-forwarded-user", "u-1"), peer="10.0.0.1")


async def test_a_proxy_that_names_nobody_is_refused_and_not_passed_over() -> None:
    async with opened("header,jwt", **HEADER, **HS256) as auth:
        with pytest.raises(InvalidCredentials):
            await auth(SHOWN, peer="10.0.0.1")
        with pytest.raises(InvalidCredentials):
            await auth(SHOWN, ("x-forwarded-user", ""), peer="10.0.0.1")
        assert (
            await auth(bearer=secret_signer().token(), peer="10.0.0.1")
        ).external_id == "jwt:user-1"
        who = await auth(SHOWN, ("x-forwarded-user", "u"), peer="10.0.0.1")
        assert who.external_id == "header:u"


@pytest.mark.parametrize(
    "name",
    [
        "x_forwarded_user", "x-forwarded_user", "x_forwarded-user", "x.forwarded.user", "x-forwarded.user",
        "x-forwarded-user ", " x-forwarded-user", "X_Forwarded_User", "x_proxy_secret", "x-proxy.secret",
        "x_forwarded_name", "x-forwarded.email", "x-forwarded-user\t",
    ],
)  # fmt: skip
async def test_a_look_alike_header_is_refused_from_anybody(name: str) -> None:
    async with opened("header", **HEADER) as auth:
        for peer in ("10.0.0.1", "127.0.0.1"):
            with pytest.raises(BadProxyHeaders):
                await auth((name, "admin"), peer=peer)
            with pytest.raises(BadProxyHeaders):
                await auth(SHOWN, ("x-forwarded-user", "u-1"), (name, "admin"), peer=peer)


@pytest.mark.parametrize(
    "name", ["x-forwarded-user", "x-proxy-secret", "x-forwarded-name", "x-forwarded-email"]
)
async def test_a_repeated_identity_header_is_refused(name: str) -> None:
    async with opened("header", **HEADER) as auth:
        with pytest.raises(BadProxyHeaders):
            await auth((name, "a"), (name.upper(), "a"), peer="10.0.0.1")


@pytest.mark.parametrize(
    "user", ["a,b", "a, b", " a", "a ", "x" * 256, "a\x00b", "a\x7f", "\xff\xfe", "a\tb", "\u00c3"]
)
async def test_a_user_header_holds_one_plain_value(user: str) -> None:
    async with opened("header", **HEADER) as auth:
        with pytest.raises(BadProxyHeaders):
            await auth(SHOWN, ("x-forwarded-user", user), peer="10.0.0.1")


# -- dev --------------------------------------------------------------------------------------------


async def test_a_development_session_is_whoever_it_was_made_for() -> None:
    async with opened("dev", database_url="sqlite:///x.db") as auth:
        sessions = DevSessions("sqlite:///x.db", auth.now)
        session = sessions.create("al\u00efce.b")
        who = await auth(bearer=session)
        assert (who.issuer, who.external_id, who.username, who.carrier) == (
            "dev",
            "al\u00efce.b",
            "al\u00efce.b",
            "bearer",
        )
        assert (await auth(("cookie", f"{DEV_COOKIE}={session}"))).carrier == "cookie"
        assert await auth(bearer="other") is None
        assert await auth() is None
        with pytest.raises(AmbiguousCredentials):
            await auth(("cookie", f"{DEV_COOKIE}={sessions.create('bob')}"), bearer=session)
        name, expiry, mac = session.removeprefix("dev_").split(".")
        for bad in (
            f"dev_{name}.{int(expiry) + 1}.{mac}",
            f"dev_Ym9i.{expiry}.{mac}",
            f"dev_{name}.{expiry}.{mac[:-1]}",
            f"dev_{name}.{expiry}",
            "dev_",
            "dev_..",
            DevSessions("elsewhere", auth.now).create("alice"),
        ):
            with pytest.raises(InvalidCredentials):
                await auth(bearer=bad)
        with pytest.raises(InvalidCredentials):
            await auth(("cookie", f"{DEV_COOKIE}=junk"))
        auth.pass_time(24 * 3600)
        with pytest.raises(InvalidCredentials, match="expired"):
            await auth(bearer=session)


async def test_introspection_leaves_development_sessions_alone() -> None:
    provider = Asked(ACTIVE)
    async with opened(
        "introspection,dev", provider, **INTROSPECTION, database_url="sqlite:///x.db"
    ) as auth:
        session = DevSessions("sqlite:///x.db", auth.now).create("alice")
        assert (await auth(bearer=session)).external_id == "dev:alice"
        assert provider.seen == []
        assert (await auth(bearer="opaque")).external_id == "introspection:user-1"


# -- all of them ------------------------------------------------------------------------------------


async def test_bad_stops_and_absent_falls_through() -> None:
    """An invalid credential is refused, whatever modes come later."""
    app = Asked(SIGNED_IN)
    async with opened("jwt,forward", app, **HS256, **FORWARD) as auth:
        assert (await auth(("cookie", "sid=abc"))).external_id == "forward:user-1"
        assert (await auth(bearer=secret_signer().token())).external_id == "jwt:user-1"
        asked = len(app.seen)
        with pytest.raises(InvalidCredentials):
            await auth(bearer=secret_signer().token(claims(exp=1)))
        with pytest.raises(AmbiguousCredentials):
            await auth(("cookie", "sid=abc"), bearer=secret_signer().token(claims(exp=1)))
        assert len(app.seen) == asked


async def test_every_pair_of_credentials_is_ambiguous_whatever_the_order() -> None:
    """Header, bearer token, cookie and session in all combinations: one is verified, two are refused."""
    offers: dict[str, tuple[str, str]] = {
        "jwt": ("authorization", f"Bearer {secret_signer().token()}"),
        "forward": ("cookie", "sid=abc"),
        "header": ("x-forwarded-user", "u-1"),
        "dev": (
            "cookie",
            f"{DEV_COOKIE}={DevSessions('sqlite:///x.db', Clock(NOW)).create('alice')}",
        ),
    }
    settings = {**HS256, **FORWARD, **HEADER, "database_url": "sqlite:///x.db"}
    for order in (list(offers), list(reversed(offers))):
        provider = Asked(SIGNED_IN)
        async with opened(",".join(order), provider, **settings) as auth:
            for size in range(len(offers) + 1):
                for chosen in itertools.combinations(offers, size):
                    headers = [offers[mode] for mode in chosen]
                    if "header" in chosen:
                        headers.append(SHOWN)
                    if size > 1:
                        with pytest.raises(AmbiguousCredentials):
                            await auth(*headers, peer="10.0.0.1")
                        continue
                    who = await auth(*headers, peer="10.0.0.1")
                    assert (who.external_id.partition(":")[0] if who else None) == (
                        chosen[0] if chosen else None
                    )
        assert len(provider.seen) == 1


# -- the chain and what it has cached ----------------------------------------------------------------


@pytest.mark.parametrize("auth", ["jwt", "dev", "jwt,dev", "introspection,jwt", "jwt,forward"])
@pytest.mark.parametrize("cookie", [None, "app_token"])
async def test_a_cached_principal_is_whom_the_chain_finds(auth: str, cookie: str | None) -> None:
    """For every pair of credentials: `cached_principal` says what the chain says, or nothing."""
    settings = HS256 | INTROSPECTION | FORWARD | {"auth_jwt_cookie": cookie}
    settings = settings if "jwt" in auth else {}
    token, other, late = (
        secret_signer().token(claims(**change))
        for change in ({}, {"sub": "user-2"}, {"exp": NOW + 5})
    )
    cached = 0
    async with opened(auth, Asked(ACTIVE), **settings) as chain:

        async def whole(bearer: str, jar: str) -> Any:
            try:
                return await chain(*([("cookie", jar)] if jar else []), bearer=bearer)
            except (InvalidCredentials, AmbiguousCredentials) as error:
                return type(error)

        bearers = (token, other, late, "opaque", f"{token}x")
        jars = ("", "a=b", f"app_token={token}", f"app_token={other}", f"{DEV_COOKIE}=x", "sid=1")
        for _ in range(3):  # nothing is cached at first, then some of it, then some has expired
            for bearer, jar in itertools.product(bearers, jars):
                said = chain.chain.cached_principal(
                    digest_of("bearer", bearer.encode()), beside_cookies=bool(jar)
                )
                if said is not None:
                    cached += 1
                    assert said == await whole(bearer, jar), (bearer, jar)
                await whole(bearer, jar)
            chain.pass_time(40)
    assert bool(cached) == (auth in {"jwt", "jwt,dev", "introspection,jwt"})
