"""The project's API key is replaced under load, and no request fails."""

import asyncio
import json

import pytest

from chat_broker.upstream.key_rotation import ProjectKeys, RotatingTransport
from chat_broker_sdk import AsyncChatClient, AuthenticationError, Request, Response


class ChatApi:
    """A server that accepts some keys, records requests, and responds after a pause."""

    def __init__(self, *good):
        self.good = set(good)
        self.seen = []
        self.paths = []

    async def send(self, request, *, timeout):  # noqa: ASYNC109 - the seam's argument
        await asyncio.sleep(0)
        headers = {name.lower(): str(value) for name, value in request.headers}
        self.seen.append(headers.get("x-api-key"))
        self.paths.append(f"{request.method} {request.url.rpartition('/v1')[2]}")
        if "authorization" in headers or headers.get("x-api-key") not in self.good:
            return Response(401, [("content-type", "application/json")], b"{}")
        body = {"id": "p1", "items": [], "name": "x", "username": "x", "content": ""}
        return Response(200, [("content-type", "application/json")], json.dumps(body).encode())

    async def aclose(self):
        pass


class Settings:
    """The operator's settings, which tests change at any time."""

    def __init__(self, key, following=None):
        self.key, self.following, self.reads = key, following, 0

    def __call__(self):
        self.reads += 1
        return self.key, self.following


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def client(api, settings, clock=None):
    keys = ProjectKeys(settings, clock=clock or Clock())
    transport = RotatingTransport(api, keys)
    return AsyncChatClient("http://127.0.0.1:1", api_key="first", transport=transport), keys


async def test_the_following_key_takes_over_and_the_old_one_is_left_alone():
    api = ChatApi("first", "second")
    chat, _ = client(api, Settings("first", "second"))
    await chat.users.list()
    assert set(api.seen) == {"first"}
    api.good = {"second"}
    await chat.users.list()
    api.seen.clear()
    for _ in range(5):
        await chat.users.list()
    assert api.seen == ["second"] * 5


async def test_a_refused_post_is_sent_again_once_with_the_new_key():
    api = ChatApi("first", "second")
    chat, _ = client(api, Settings("first", "second"))
    await chat.project()
    api.good, api.seen, api.paths = {"second"}, [], []
    await chat.users.create(username="a", external_user_id="a")
    assert api.seen == ["first", "second"]
    assert api.paths == ["POST /projects/p1/users"] * 2


async def test_a_401_has_the_settings_read_again():
    settings = Settings("first")
    api = ChatApi("first")
    chat, _ = client(api, settings)
    await chat.users.list()
    settings.key, api.good = "third", {"third"}
    await chat.users.list()
    assert api.seen[-1] == "third"


async def test_a_signal_has_the_settings_read_again():
    settings = Settings("first")
    api = ChatApi("first", "third")
    chat, keys = client(api, settings)
    settings.key = "third"
    assert keys.reread() is True
    assert keys.reread() is False
    await chat.users.list()
    assert set(api.seen) == {"third"}


async def test_no_call_of_many_fails_while_keys_change():
    settings = Settings("k0")
    api = ChatApi("k0")
    clock = Clock()
    chat, _ = client(api, settings, clock)
    failed = 0

    async def call():
        nonlocal failed
        try:
            await chat.users.list()
        except AuthenticationError:
            failed += 1

    for number in range(1, 20):
        before, after = f"k{number - 1}", f"k{number}"
        calls = [asyncio.create_task(call()) for _ in range(50)]
        await asyncio.sleep(0)
        settings.key, settings.following = before, after
        api.good = {before, after}
        clock.now += 2
        calls += [asyncio.create_task(call()) for _ in range(50)]
        await asyncio.sleep(0)
        api.good = {after}
        calls += [asyncio.create_task(call()) for _ in range(50)]
        await asyncio.gather(*calls)
        settings.key, settings.following = after, None
    assert failed == 0
    assert api.seen[-1] == "k19"


async def test_a_wrong_key_does_not_have_the_settings_read_for_every_call():
    settings = Settings("wrong", "wrong too")
    api = ChatApi("right")
    chat, _ = client(api, settings)
    for _ in range(20):
        with pytest.raises(AuthenticationError):
            await chat.users.list()
    assert settings.reads <= 3


async def test_what_was_refused_once_is_tried_again_when_all_else_fails():
    api = ChatApi("second")
    chat, _ = client(api, Settings("first", "second"))
    await chat.users.list()
    api.good = {"first"}
    await chat.users.list()
    assert api.seen[-1] == "first"


async def test_settings_that_cannot_be_read_change_nothing():
    api = ChatApi("first")
    settings = Settings("first")
    chat, keys = client(api, settings)

    def broken():
        raise ValueError("a secret: hunter2")

    keys._read = broken
    assert keys.reread() is False
    settings.key = None
    keys._read = settings
    assert keys.reread() is False
    await chat.users.list()


async def test_a_users_own_bad_token_changes_no_key():
    api = ChatApi("first")
    settings = Settings("first")
    chat, _ = client(api, settings)
    reads = settings.reads
    with pytest.raises(AuthenticationError):
        await chat.as_user("a.b.c").auth.verify()
    assert settings.reads == reads
    assert api.seen == [None]


async def test_keys_hide_themselves():
    sent = []

    class Recording(ChatApi):
        async def send(self, request, *, timeout):  # noqa: ASYNC109 - the seam's argument
            sent.append(request)
            return await super().send(request, timeout=timeout)

    keys = ProjectKeys(Settings("hunter2-first", "hunter2-second"))
    transport = RotatingTransport(Recording("hunter2-first"), keys)
    await transport.send(Request("GET", "http://x/v1", (("X-API-Key", "old"),)), timeout=1)
    assert sent[0].headers[0][1] == "hunter2-first"
    shown = repr(keys) + repr(vars(keys)) + repr(sent[0].headers) + repr(keys.present)
    assert "hunter2" not in shown
