"""Sign-in against a real identity provider: JWTs, opaque tokens, revocation, key rotation, outage."""

import asyncio
import random
import time
from typing import Any

import pytest

from chat_broker.auth.errors import InvalidCredentials, ProviderUnavailable
from chat_broker.auth.mode_chain import open_mode_chain
from chat_broker.settings import Settings
from tests.app.auth.identity_provider import (
    AUDIENCE,
    CLIENT_ID,
    CLIENT_SECRET,
    IdentityProvider,
    identity_provider,
)
from tests.app.auth.signing import Clock, b64, request

pytestmark = pytest.mark.services("node")


def settings_for(provider: IdentityProvider, auth: str, **more: Any) -> Settings:
    return Settings(
        auth=tuple(auth.split(",")),
        auth_jwt_issuer=provider.issuer,
        auth_jwt_audience=(AUDIENCE,),
        auth_introspection_url=f"{provider.issuer}/token/introspection",
        auth_introspection_client_id=CLIENT_ID,
        auth_introspection_client_secret=CLIENT_SECRET,
        **more,
    )


async def test_its_jwt_and_its_opaque_token_are_the_same_person() -> None:
    async with identity_provider() as provider:
        async with open_mode_chain(settings_for(provider, "jwt,introspection")) as auth:
            by_jwt = await auth(request(bearer=await provider.token("alice")))
            by_opaque = await auth(request(bearer=await provider.token("alice", "opaque")))
            assert by_jwt is not None
            assert by_opaque is not None
            assert (by_jwt.issuer, by_jwt.external_id) == (provider.issuer, "alice")
            assert (by_opaque.issuer, by_opaque.external_id) == (provider.issuer, "alice")
            assert 320 <= (by_opaque.expires_at or 0) - time.time() <= 331  # leeway included
            for bad in (
                await provider.token("alice", audience="https://other.example.com"),
                await provider.token("alice", "opaque", audience="https://other.example.com"),
                (await provider.token("alice"))[:-40] + "A" * 40,
                "never-issued",
            ):
                with pytest.raises(InvalidCredentials):
                    await auth(request(bearer=bad))
        async with open_mode_chain(settings_for(provider, "jwt", auth_jwt_typ="at+jwt")) as auth:
            assert await auth(request(bearer=await provider.token("alice")))
        async with open_mode_chain(settings_for(provider, "jwt", auth_jwt_typ="JWT")) as auth:
            with pytest.raises(InvalidCredentials):
                await auth(request(bearer=await provider.token("alice")))


async def test_its_userinfo_endpoint_says_what_to_call_them() -> None:
    """A token with access to userinfo gets a name. A JWT for a resource has none there, and signs in without a name."""
    async with identity_provider() as provider:
        settings = settings_for(provider, "jwt,introspection", auth_jwt_userinfo="discovery")
        async with open_mode_chain(settings) as auth:
            opens = await provider.token("alice", "profile")
            for path in ("/chat/token", "/chat/rooms", "/chat/token"):
                who = await auth(request(bearer=opens, path=path))
                assert who is not None
                assert (who.external_id, who.username) == ("alice", "alice")
                assert who.name == "alice of the provider"
            assert (await provider.hits())["/me"] == 1
            by_jwt = await auth(request(bearer=await provider.token("bob")))
            assert by_jwt is not None
            assert (by_jwt.external_id, by_jwt.name) == ("bob", None)
            assert (await provider.hits())["/me"] == 2


async def test_a_revoked_token_mints_nothing_more_and_reads_for_ten_seconds_at_most() -> None:
    clock = Clock(100.0)
    async with (
        identity_provider() as provider,
        open_mode_chain(settings_for(provider, "introspection"), clock=clock) as auth,
    ):
        token = await provider.token("alice", "opaque")
        assert await auth(request(bearer=token))
        await provider.revoke(token)
        assert await auth(request(bearer=token))  # remembered
        clock.at += 10
        with pytest.raises(InvalidCredentials):
            await auth(request(bearer=token))
        second = await provider.token("alice", "opaque")
        assert await auth(request(bearer=second, path="/chat/token"))
        await provider.revoke(second)
        with pytest.raises(InvalidCredentials):
            await auth(request(bearer=second, path="/chat/token"))


async def test_a_wrong_client_secret_is_our_fault_and_nobodys_401() -> None:
    async with identity_provider() as provider:
        settings = settings_for(provider, "introspection")
        wrong = settings.model_copy(update={"auth_introspection_client_id": "stranger"})
        async with open_mode_chain(wrong) as auth:
            with pytest.raises(ProviderUnavailable):
                await auth(request(bearer=await provider.token("alice", "opaque")))


async def test_nobody_is_refused_while_keys_rotate_under_load() -> None:
    """Key rotation under 200 requests a second: the new key is published, then signs, then the old one is withdrawn."""
    failures: list[BaseException] = []
    tokens: list[str] = []
    done = 0

    async with identity_provider() as provider:

        async def mint() -> None:
            while True:
                tokens.append(await provider.token(f"user-{len(tokens)}"))
                del tokens[:-40]
                await asyncio.sleep(0.02)

        async with open_mode_chain(settings_for(provider, "jwt")) as auth:

            async def ask() -> None:
                nonlocal done
                try:
                    assert await auth(request(bearer=random.choice(tokens)))
                except Exception as error:  # noqa: BLE001 -- whatever it is, it is counted
                    failures.append(error)
                done += 1

            minting = asyncio.create_task(mint())
            while not tokens:  # noqa: ASYNC110 - a test may poll
                await asyncio.sleep(0.01)
            started = time.monotonic()
            asking: list[asyncio.Task[None]] = []
            levers = [(1.0, True), (2.5, False)]
            while (now := time.monotonic() - started) < 5:
                if levers and now >= levers[0][0]:
                    await provider.rotate(publish_first=levers.pop(0)[1])
                asking += [asyncio.create_task(ask()) for _ in range(2)]
                await asyncio.sleep(0.01)
            await asyncio.gather(*asking)
            minting.cancel()
        hits = await provider.hits()
    assert failures == []
    assert done > 100  # about 900 on a machine with nothing else to do
    assert hits["/jwks"] <= 3


async def test_a_flood_of_unknown_keys_costs_the_provider_two_questions() -> None:
    async with identity_provider() as provider:
        async with open_mode_chain(settings_for(provider, "jwt")) as auth:
            good = await provider.token("alice")
            _, payload, signature = good.split(".")
            assert await auth(request(bearer=good))
            started = time.monotonic()
            refused = 0
            for number in range(10_000):
                head = b64(f'{{"alg":"RS256","typ":"at+jwt","kid":"k{number}"}}')
                try:
                    await auth(request(bearer=f"{head}.{payload}.{signature}"))
                except InvalidCredentials:
                    refused += 1
            assert time.monotonic() - started < 10
            assert refused == 10_000
            assert await auth(request(bearer=good))
        assert (await provider.hits())["/jwks"] <= 2


async def test_an_outage_is_survived_and_never_called_a_bad_token() -> None:
    clock = Clock(100.0)
    async with identity_provider() as provider:
        settings = settings_for(provider, "jwt,introspection")
        async with open_mode_chain(settings, clock=clock) as auth:
            early, late = await provider.token("alice"), await provider.token("bob")
            opaque = await provider.token("alice", "opaque")
            assert await auth(request(bearer=early))
            await provider.stop()
            clock.at += 3000
            assert await auth(request(bearer=early))
            assert await auth(request(bearer=late))  # another token under a known key
            assert await auth.providers() == {"jwt": "stale", "introspection": "silent"}
            with pytest.raises(ProviderUnavailable):
                await auth(request(bearer=opaque))
            clock.at += 700
            with pytest.raises(ProviderUnavailable):
                await auth(request(bearer=late))
            await provider.start()  # with a new key, as after a disaster
            clock.at += 30
            assert await auth(request(bearer=await provider.token("carol")))
            with pytest.raises(InvalidCredentials):
                await auth(request(bearer=early))
            assert await auth.providers() == {"jwt": "ok", "introspection": "ok"}
