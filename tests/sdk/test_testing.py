"""The Chat API in memory that the SDK brings along: it keeps the contract, and fails when told to."""

import asyncio
import queue
import sys
import time

import pytest

from chat_broker_sdk import (
    AuthenticationError,
    NetworkError,
    RateLimitError,
    ServerError,
    WebSocketError,
)
from chat_broker_sdk.conformance.__main__ import run
from chat_broker_sdk.testing import FakeChatApi
from tests.sdk.realtime.test_socket import until

pytest_plugins = ["pytester"]


async def test_the_fake_keeps_every_promise_that_it_has(fake_chat: FakeChatApi) -> None:
    findings = await run("", client=fake_chat.client())
    assert [each for each in findings if each.verdict in {"wrong", "lacks"}] == []
    assert [each for each in findings if each.area == "Socket.IO"]


async def test_the_fake_has_a_live_side_in_memory(
    fake_chat: FakeChatApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connected at once, and without the libraries of a real one."""
    monkeypatch.setitem(sys.modules, "socketio", None)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    client = fake_chat.client()
    ann = await client.users.ensure("1", username="ann")
    room = await client.rooms.create(name="Room", created_by=ann.id)
    token = await client.users.generate_token(ann.id)
    me = client.as_user(token.token)
    got: list[str] = []
    ends: list[str] = []
    me.socket.on_message(lambda message: got.append(message.content))
    me.socket.on_disconnect(ends.append)
    began = time.monotonic()
    await me.socket.connect(token.token)
    assert time.monotonic() - began < 0.5
    await client.messages.create(room.id, content="missed", user_id=ann.id)
    joined = await me.socket.join_room(room.id, since_seq=0)
    assert (joined.last_seq, joined.members_online, joined.has_more) == (1, 1, False)
    await me.socket.send_message(room.id, "over the socket")
    await client.messages.create(room.id, content="over REST", user_id=ann.id)
    await until(lambda: got == ["missed", "over the socket", "over REST"])
    fake_chat.disconnect("server_restarting")
    await until(lambda: ends == ["server_restarting"] and me.socket.connected)
    await client.messages.create(room.id, content="after", user_id=ann.id)
    await until(lambda: got[-1] == "after")
    fake_chat.disconnect("user_suspended")
    with pytest.raises(WebSocketError) as caught:
        await asyncio.wait_for(me.socket.wait(), 5)
    assert caught.value.code == "user_suspended"
    await me.aclose()


async def test_the_live_side_refuses_a_bad_token(fake_chat: FakeChatApi) -> None:
    client = fake_chat.client(jwt_token="made.up.token")
    with pytest.raises(WebSocketError) as caught:
        await client.socket.connect()
    assert caught.value.code == "token_invalid"


def test_the_live_side_serves_synchronous_code(fake_chat: FakeChatApi) -> None:
    with fake_chat.sync_client() as client:
        ann = client.users.ensure("1", username="ann")
        room = client.rooms.create(name="Room", created_by=ann.id)
        me = client.as_user(client.users.generate_token(ann.id).token)
        got: queue.Queue[str] = queue.Queue()
        me.socket.on_message(lambda message: got.put(message.content))
        me.socket.connect()
        me.socket.join_room(room.id)
        client.messages.create(room.id, content="hello", user_id=ann.id)
        assert got.get(timeout=5) == "hello"
        me.close()


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
    pytester.makeconftest('pytest_plugins = ["chat_broker_sdk.testing"]')
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
