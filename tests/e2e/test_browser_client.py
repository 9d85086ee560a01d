"""The client that docs/frontend.md shows, in Chromium, through a bad hour: it comes back, or stops where it must.

The code is examples/browser/chat.js itself, with the official Socket.IO client, against the broker as a program.
"""

import asyncio
import json
import random
import re
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.stage import SETTINGS, stage, whole_stage
from tests.programs import ROOT, Program, free_port, running_broker

pytestmark = pytest.mark.services("node", "chromium")


@pytest.mark.parametrize("way", ["SIGTERM", "kill -9"])
async def test_a_restart_of_the_broker(way: str, tmp_path: Path) -> None:
    web, port = free_port(), free_port()
    settings = {**SETTINGS, "PORT": str(port), "CORS_ORIGINS": f"http://localhost:{web}"}
    async with AsyncExitStack() as stack:
        first: Program = await stack.enter_async_context(running_broker(tmp_path, **settings))
        play = await stack.enter_async_context(stage(port, web))
        await play.open()
        await play.say(3)
        await play.heard()
        sent = "(room) => { window.later = chat.send(room, '6').then(({ seq }) => seq); }"
        await (first.stop() if way == "SIGTERM" else first.kill())
        await play.run(sent, play.room)  # with nobody there: it waits
        await asyncio.sleep(1)
        await stack.enter_async_context(running_broker(tmp_path, **settings))
        await play.say(2)
        await play.run("() => dispatchEvent(new Event('online'))")
        assert await play.run("() => later", within=30) in {4, 5, 6}
        messages = (await play.call("bob", "GET", f"/rooms/{play.room}/messages"))["items"]
        expected = [[message["seq"], message["content"]] for message in reversed(messages)]
        assert len(expected) == 6
        assert await play.run("() => heard") == expected


async def test_a_revocation_stops_it_and_signing_in_again_brings_it_back() -> None:
    async with whole_stage() as play:
        await play.open()
        await play.say()
        await play.heard()
        await play.operate("POST", "/users/external:alice/revoke", reason="a lost phone")
        assert await play.stopped() == "token_revoked"
        assert play.count("GET /socket.io/ 101") == 1  # the server's last word is enough
        asked = len(play.proxy.seen)
        await play.say(2)
        await asyncio.sleep(2)
        assert len(play.proxy.seen) == asked  # it does not come back by itself
        again = "(room) => { chat.start(); return chat.join(room).then(() => true); }"
        assert await play.run(again, play.room)
        await play.heard()
        assert await play.run("(room) => chat.join(room).then(() => true)", play.room)


async def test_what_waits_when_it_stops_is_told() -> None:
    """A room that is being joined and a message that is to be sent do not wait for ever."""
    async with whole_stage() as play:
        await play.open()
        play.proxy.silent = True
        play.proxy.cut()
        waiting = """(room) => {
            const codes = [chat.send(room, "1"), chat.join("another")].map((one) => one.catch(({ code }) => code));
            chat.stop();
            return Promise.all(codes);
        }"""
        assert await play.run(waiting, play.room) == ["stopped", "stopped"]


@pytest.mark.parametrize(("status", "code"), [(401, "signed_out"), (403, "user_suspended")])
async def test_a_refused_refresh_stops_it(status: int, code: str) -> None:
    """401: to the app's sign-in. 403: banned. Nothing else is asked afterwards."""
    async with whole_stage(TOKEN_TTL="3") as play:
        await play.open()
        if status == 401:
            await play.run("() => { window.bearer = 'dev_over.1.x'; }")
        else:
            await play.operate("POST", "/users/external:alice/ban", reason="spam")
        assert await play.stopped() == code
        asked = len(play.proxy.seen)
        await asyncio.sleep(3)
        assert len(play.proxy.seen) == asked


async def test_a_refresh_that_is_refused_for_now_is_tried_again_when_the_server_says() -> None:
    async with whole_stage(TOKEN_TTL="6") as play:
        await play.open()
        play.proxy.answer_once("POST /chat/token", 503, "Retry-After: 3\r\n")
        play.proxy.answer_once("POST /chat/token", 502)
        await play.run("() => { window.states = statuses.length; }")
        await play.until("POST /chat/token 503")
        refused = time.monotonic()
        await play.say()
        await play.heard()  # the socket goes on with the token it has
        await play.until("POST /chat/token 502")
        assert time.monotonic() - refused > 2.8
        await play.until("POST /chat/token 200", 2)
        await play.say()
        await play.heard()
        assert play.count("GET /socket.io/ 101") == 1
        assert {status["state"] for status in await play.statuses()} == {"online"}


async def test_a_first_token_that_is_refused_for_now_and_cuts_of_the_network() -> None:
    async with whole_stage() as play:
        play.proxy.answer_once("POST /chat/token", 503, "Retry-After: 1\r\n")
        await play.open()
        for _ in range(3):
            play.proxy.cut()
            await play.say(3)
            await play.heard()
        assert play.count("POST /chat/token 200") == 1  # a cut costs no token,
        assert play.count("GET /chat/rooms") == 0  # and what was missed comes with joinRoom


async def test_more_is_missed_than_one_answer_holds() -> None:
    async with whole_stage(RATE_WRITE="100000/minute", RATE_IP="100000/minute") as play:
        await play.open()
        await play.run("() => chat.stop()")
        await play.say(450)
        await play.run("() => chat.start()")
        await play.say(5)  # while it fetches the others
        await play.heard()
        await play.run("() => chat.stop()")
        await play.say(450)
        await play.run("() => chat.start()")  # and nothing after them that would show a gap
        await play.heard()


async def test_a_message_that_ends_the_connection_is_not_sent_again() -> None:
    """Over 64 KiB: it is refused, and those behind it are sent."""
    async with whole_stage() as play:
        await play.open()
        send = """(room) => Promise.all(["x".repeat(70_000), "x".repeat(9_000), "1"].map((content) =>
            chat.send(room, content).then(({ seq }) => seq, ({ code }) => code)))"""
        assert await play.run(send, play.room) == ["message_too_large", "invalid_input", 1]
        play.said = 1
        await play.say()
        await play.heard()


async def test_two_tabs_of_one_user_hear_everything_and_sign_out_together() -> None:
    async with whole_stage() as play:
        await play.open("one")
        await play.open("two")
        await play.open("bob", who="bob")
        await play.say(5)
        for page in ("one", "two", "bob"):
            await play.heard(page)
        read = "(room) => chat.request('PUT', `/rooms/${room}/read`, { seq: 3 })"
        assert (await play.run("(room) => chat.markRead(room)", play.room, page="one"))[
            "unread"
        ] == 0
        assert (await play.run(read, play.room, page="two"))["last_read_seq"] == 5  # never back
        play.proxy.answer_once("DELETE /chat/token", 503)
        failed = "() => chat.signOut().then(() => 'done', ({ code }) => code)"
        assert await play.run(failed, page="one") == "http_503"
        for page in ("one", "two"):
            assert (
                await play.stopped(page) == "signed_out"
            )  # here at once, whatever the server does
        await play.run("() => chat.request('DELETE', '/token').then(() => true)", page="one")
        await play.say()
        await play.heard("bob")


async def test_signing_out_elsewhere_stops_it() -> None:
    """On another device: the server says so."""
    async with whole_stage() as play:
        await play.open("phone", profile="phone")
        await play.open("laptop", profile="laptop")
        await play.run("() => chat.signOut().then(() => true)", page="phone")
        assert await play.stopped("phone") == "signed_out"
        assert await play.stopped("laptop") == "token_revoked"


async def test_a_message_whose_acknowledgement_got_lost_is_posted_once() -> None:
    async with whole_stage() as play:
        await play.open()
        play.proxy.mute = True
        sent = "(room) => { window.sent = chat.send(room, '1').then(({ seq }) => seq); }"
        await play.run(sent, play.room)
        await play.posted(1)
        play.said = 1
        play.proxy.cut()
        play.proxy.mute = False
        assert await play.run("() => sent") == 1
        await play.say()
        await play.heard()


async def test_no_token_is_kept_where_others_could_read_it() -> None:
    """Neither the app's nor the chat's: not in storage, not in a cookie, not in an address, not in the console."""
    async with whole_stage(TOKEN_TTL="3") as play:
        await play.open()
        await play.until("POST /chat/token 200", 3)
        stored = await play.run(
            "() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href])"
        )
        assert json.loads(stored) == [{}, {}, "", f"{play.page_url}/client.html"]
        state = await play.chromium.call("storage")
        assert state["cookies"] == []
        assert not any(origin["localStorage"] for origin in state["state"]["origins"])
        assert await play.run("() => indexedDB.databases().then((all) => all.length)") == 0
        watched = await play.chromium.call("watched", page="alice")
        assert any("/socket.io/" in request for request in watched["requests"])
        for request in [*watched["requests"], *watched["errors"], *watched["console"]]:
            assert "eyJ" not in request
            assert play.bearers["alice"] not in request


async def test_another_user_who_signs_in_is_not_shown_the_first_ones_chat() -> None:
    """With a cookie, the app's user may change under a page."""
    async with whole_stage(TOKEN_TTL="3") as play:
        await play.open()
        await play.run("(bob) => { window.bearer = bob; }", play.bearers["bob"])
        assert await play.stopped() == "signed_out"


async def test_the_lines_of_the_readme_work_as_printed() -> None:
    """Only the address and the names of the app are filled in."""
    lines = next(
        block
        for block in re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        if "io(server.url" in block
    )
    async with whole_stage() as play:
        await play.chromium.call("open", page="alice", url=f"{play.page_url}/client.html")
        lines = lines.replace('"/chat/token"', f'"{play.proxy.url}/chat/token"')
        names = f"const appToken = {json.dumps(play.bearers['alice'])}, roomId = {json.dumps(play.room)};"
        await play.run(
            f"async () => {{ const {{ io }} = await import('socket.io-client'); {names} {lines} }}"
        )
        await play.say()
        deadline = time.monotonic() + 5
        while True:
            written = (await play.chromium.call("watched", page="alice"))["console"]
            if len(written) == 2 or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)
        assert written == ["alice: Hello!", "bob: 1"]


async def test_what_socket_io_tries_again_by_itself_and_what_not() -> None:
    """The table of the page: it opens lost connections again; a refusal and a farewell end it."""
    async with whole_stage() as play:
        await play.chromium.call("open", page="alice", url=f"{play.page_url}/client.html")
        token = (await play.call("alice", "POST", "/token"))["token"]
        begin = """async ({ url, tokens }) => {
            const { io } = await import("socket.io-client");
            window.sockets = Object.fromEntries(Object.entries(tokens).map(([name, token]) =>
                [name, io(url, { auth: { token }, transports: ["websocket"], forceNew: true })]));
            for (const socket of Object.values(sockets)) {
                socket.heard = [];
                for (const event of ["connect", "connect_error", "disconnect"])
                    socket.on(event, (about) => socket.heard.push([event, about?.data?.code ?? about?.message ?? about]));
            }
        }"""
        look = "() => Object.fromEntries(Object.entries(sockets).map(([name, { heard, active }]) => [name, { heard, active }]))"
        named = {"lost": token, "refused": "x.y.z"}
        await play.run(begin, {"url": play.proxy.url, "tokens": named})
        await asyncio.sleep(1)
        play.proxy.cut()
        await asyncio.sleep(4)
        seen = await play.run(look)
        assert seen["lost"]["heard"] == [
            ["connect", None],
            ["disconnect", "transport close"],
            ["connect", None],
        ]
        assert seen["refused"] == {"heard": [["connect_error", "token_invalid"]], "active": False}
        await play.operate("POST", "/users/external:alice/revoke", reason="a test")
        await asyncio.sleep(4)
        seen = (await play.run(look))["lost"]
        assert seen["heard"][3:] == [["disconnect", "io server disconnect"]]
        assert not seen["active"]


async def test_two_people_chat_in_the_example_page() -> None:
    """As docs/frontend.md begins: sign in by name, write, read, sign out."""
    async with whole_stage() as play:
        for name in ("carol", "dave"):
            url = f"{play.page_url}/?broker={play.proxy.url}"
            await play.chromium.call("open", page=name, url=url, profile=name)
            await play.chromium.call("fill", page=name, label="Your name", text=name)
            await play.chromium.call("press", page=name, button="Sign in")
            await play.chromium.call("shows", page=name, text="online")
            await play.chromium.call("hidden", page=name, label="Your name")
        for name, other in (("carol", "dave"), ("dave", "carol")):
            await play.chromium.call("fill", page=name, label="Message", text=f"hello, {other} <b>")
            await play.chromium.call("press", page=name, button="Send")
            for page in ("carol", "dave"):
                await play.chromium.call("shows", page=page, text=f"{name}: hello, {other} <b>")
        await play.chromium.call("press", page="carol", button="Sign out")
        await play.chromium.call("shows", page="carol", text="stopped: signed_out")
        for page in ("carol", "dave"):
            watched = await play.chromium.call("watched", page=page)
            assert watched["errors"] == []
        rooms = (await play.call("bob", "GET", "/rooms?scope=open"))["items"]
        assert [room["name"] for room in rooms] == ["General"]  # bob's, which both have found


@pytest.mark.timeout(180)
async def test_whatever_happens_each_message_is_there_once_for_everybody(tmp_path: Path) -> None:
    """Three tabs write all the time, while cuts, dead networks, refused tokens and kill -9 come at random."""
    chance = random.Random(20)  # the same trouble each time
    web, port, each = free_port(), free_port(), 50
    settings = {
        **SETTINGS,
        "PORT": str(port),
        "TOKEN_TTL": "4",
        "CORS_ORIGINS": f"http://localhost:{web}",
    }
    write = """({ name, room, each }) => {
        window.acknowledged = 0;
        for (let n = 0; n < each; n++)
            setTimeout(() => chat.send(room, `${name} ${n}`).then(() => { acknowledged += 1; }), 250 * n);
    }"""
    pages = {"one": "alice", "two": "alice", "bob": "bob"}
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(running_broker(tmp_path, **settings))
        play = await stack.enter_async_context(stage(port, web))
        for page, who in pages.items():
            await play.open(page, who=who, profile=page)
            await play.run(write, {"name": page, "room": play.room, "each": each}, page=page)
        for turn in range(12):
            match chance.choice(("cut", "silent", "refused", "nothing")):
                case "cut":
                    play.proxy.cut()
                case "silent":
                    play.proxy.silent = True
                    await asyncio.sleep(1)
                    play.proxy.cut()
                    play.proxy.silent = False
                case "refused":
                    play.proxy.answer_once("POST /chat/token", 503, "Retry-After: 1\r\n")
                    play.proxy.answer_once("POST /chat/token", 502)
            await asyncio.sleep(chance.random())
            if turn in {4, 8}:
                await broker.kill()
                broker = await stack.enter_async_context(running_broker(tmp_path, **settings))
        deadline = time.monotonic() + 60
        for page in pages:
            while await play.run("() => acknowledged", page=page) < each:
                assert time.monotonic() < deadline, await play.statuses(page)
                await asyncio.sleep(0.2)
        await play.call("bob", "POST", f"/rooms/{play.room}/messages", content="the end")
        path = f"/rooms/{play.room}/messages?after=0&limit=200"
        expected = [
            [one["seq"], one["content"]] for one in (await play.call("bob", "GET", path))["items"]
        ]
        assert [seq for seq, _ in expected] == list(range(1, len(pages) * each + 2))
        for page in pages:
            while (heard := await play.run("() => heard", page=page)) != expected:
                assert time.monotonic() < deadline, heard
                await asyncio.sleep(0.2)
            own = [content for _, content in expected if content.startswith(f"{page} ")]
            assert own == [
                f"{page} {n}" for n in range(each)
            ]  # in the order in which they were written
