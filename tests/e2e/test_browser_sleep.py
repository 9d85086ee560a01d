"""The client that docs/frontend.md shows, away for longer than its token lives and a ping may take.

What stands for a sleep: `SIGSTOP` of the renderers stops the page's timers and handlers, and the browser goes on holding
its connections, as for a frozen tab. `SIGSTOP` of the whole browser behind a network that passes nothing is a closed
lid: the socket is dead on return, and nothing says so. Both let the clock run on, so overdue timers fire at once; on
machines whose timers stand still in a sleep they do not, and for that the page's clock is put forward.
(`Page.setWebLifecycleState` freezes nothing in a visible page.)
"""

import asyncio

import pytest

from tests.e2e.stage import whole_stage

pytestmark = pytest.mark.services("node", "chromium")


@pytest.mark.timeout(180)
async def test_away_for_longer_than_a_token_lives_and_a_ping_may_take() -> None:
    """Three ways to be away, each with a browser of its own, at the same time: they mostly wait."""
    async with asyncio.TaskGroup() as together:
        together.create_task(a_tab_that_is_frozen_for_longer_than_its_token_lives())
        together.create_task(a_laptop_that_sleeps_and_wakes_up_to_a_dead_socket())
        together.create_task(a_network_that_is_gone_for_longer_than_a_ping_may_take())


async def a_tab_that_is_frozen_for_longer_than_its_token_lives() -> None:
    """Its socket is closed meanwhile (at the token's end, and 30 s of grace); afterwards nothing is missing."""
    async with whole_stage(TOKEN_TTL="3") as play:
        await play.open()
        await play.say(2)
        await play.heard()
        assert (await play.chromium.call("signal", name="SIGSTOP", only="--type=renderer"))[
            "stopped"
        ]
        before = play.count("POST /chat/token")
        for _ in range(12):
            await asyncio.sleep(3)
            await play.say()
        assert play.count("POST /chat/token") <= before + 1  # the page really stood still
        await play.chromium.call("signal", name="SIGCONT", only="--type=renderer")
        await play.heard()
        assert play.count("GET /socket.io/ 101") == 2
        await play.say()
        await play.heard()


async def a_laptop_that_sleeps_and_wakes_up_to_a_dead_socket() -> None:
    """Nothing says that the connection is gone: its age does."""
    async with whole_stage(TOKEN_TTL="3") as play:
        await play.open()
        await play.say()
        await play.heard()
        await play.chromium.call("signal", name="SIGSTOP")
        play.proxy.silent = True
        for _ in range(12):
            await asyncio.sleep(4)
            await play.say()
        play.proxy.abandon()
        play.proxy.silent = False
        await play.chromium.call("signal", name="SIGCONT")
        await play.heard(within=10)


async def a_network_that_is_gone_for_longer_than_a_ping_may_take() -> None:
    async with whole_stage(TOKEN_TTL="3") as play:
        await play.open("offline", profile="offline")
        await play.open("silent", profile="silent")
        unlimited = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        network = "Network.emulateNetworkConditions"
        await play.say()
        await play.chromium.call(
            "cdp", page="offline", method=network, parameters={"offline": True, **unlimited}
        )
        play.proxy.silent = True
        for _ in range(12):
            await asyncio.sleep(4)
            await play.say()
        await play.chromium.call(
            "cdp", page="offline", method=network, parameters={"offline": False, **unlimited}
        )
        play.proxy.silent = False
        for page in ("offline", "silent"):
            await play.heard(page, within=40)
            states = [status["state"] for status in await play.statuses(page)]
            assert "waiting" in states
            assert "stopped" not in states


async def test_timers_that_stood_still_in_a_sleep_are_not_trusted() -> None:
    """The clock is an hour on, no timer has fired, and the page is shown again: a new token, at once."""
    async with whole_stage() as play:
        skew = "Date.skew = 0; const now = Date.now; Date.now = () => now() + Date.skew;"
        await play.open(script=skew)
        assert play.count("POST /chat/token") == 1
        await play.run(
            "() => { Date.skew = 3600_000; document.dispatchEvent(new Event('visibilitychange')); }"
        )
        await play.say()
        await play.heard(within=5)
        assert play.count("POST /chat/token") == 2
        assert (
            play.count("GET /socket.io/ 101") == 2
        )  # the old one might be dead: so old is its last ping


async def test_a_tab_that_is_shown_again_soon_asks_whether_its_socket_is_alive() -> None:
    async with whole_stage() as play:
        await play.open()
        await play.run("() => document.dispatchEvent(new Event('visibilitychange'))")
        await play.say()
        await play.heard()
        assert play.count("GET /socket.io/ 101") == 1
        assert play.count("POST /chat/token") == 1
