"""The Chat API in memory that the SDK brings along: it keeps the contract, and fails when told to."""

import pytest

from chat_sdk import AuthenticationError, NetworkError, RateLimitError, ServerError
from chat_sdk.conformance import run
from chat_sdk.testing import FakeChatApi

pytest_plugins = ["pytester"]


async def test_the_fake_keeps_every_promise_that_it_has(fake_chat: FakeChatApi) -> None:
    findings = await run("", client=fake_chat.client(), sockets=False)
    assert [each for each in findings if each.verdict in {"wrong", "lacks"}] == []


async def test_faults_come_when_ordered_and_as_often(fake_chat: FakeChatApi) -> None:
    client = fake_chat.client(retries=0)
    await client.project()
    fake_chat.fail(429, code="slow_down", retry_after=3, on="GET .*/rooms")
    fake_chat.fail(500, times=2, on="GET .*/users")
    fake_chat.drop(on="POST")
    with pytest.raises(RateLimitError) as caught:
        await client.rooms.list()
    assert caught.value.retry_after == 3
    assert (await client.rooms.list()).total == 0
    for _ in range(2):
        with pytest.raises(ServerError):
            await client.users.list()
    assert (await client.users.list()).total == 0
    with pytest.raises(NetworkError):
        await client.users.create(username="ann", external_user_id="1")
    assert (await client.users.list()).total == 1, "the reply was lost, not the call"


async def test_tokens_expire_on_command_and_by_a_skewed_clock(fake_chat: FakeChatApi) -> None:
    client = fake_chat.client()
    ann = await client.users.ensure("1", username="ann")

    async def fresh() -> object:
        return client.as_user((await client.users.generate_token(ann.id, expires_in=60)).token)

    first = await fresh()
    await first.auth.verify()  # type: ignore[attr-defined]
    fake_chat.expire_tokens()
    second = await fresh()
    fake_chat.skew(61)
    for mine in (first, second):
        with pytest.raises(AuthenticationError) as caught:
            await mine.auth.verify()  # type: ignore[attr-defined]
        assert caught.value.code == "token_expired"


def test_it_is_a_pytest_plugin(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["chat_sdk.testing"]')
    pytester.makepyfile(
        """
        def test_mine(fake_chat):
            with fake_chat.sync_client() as client:
                client.users.create(username="ann", external_user_id="1")
            assert fake_chat.count("POST .*/users") == 1
            assert fake_chat.seen[-1].body["username"] == "ann"
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
