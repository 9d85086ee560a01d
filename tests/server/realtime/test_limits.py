"""What one socket or one user may use, and that the others do not feel it."""

import asyncio
import time

import pytest

from chat_broker_server.realtime.limits import Limits
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.socket_client import connected


async def test_calls_over_the_rate_are_refused_and_the_socket_stays(node: LiveNode) -> None:
    alice = await node.user("alice")
    room = await node.room(alice)
    socket = await node.socket(alice, room)
    answers = await asyncio.gather(*[socket.ask("sendMessage", room.id, "x") for _ in range(60)])
    good = [answer for answer in answers if answer["ok"]]
    assert 28 <= len(good) <= 35, "a burst of thirty, and a little that came back meanwhile"
    assert {a["error"]["code"] for a in answers if not a["ok"]} == {"rate_limited"}
    await asyncio.sleep(0.3)  # three more by then
    assert (await socket.call("sendMessage", room.id, "later"))["ok"]


async def test_who_does_not_stop_is_cut_off(database_url: str) -> None:
    async with running_node(database_url, limits=Limits(refused_burst=10)) as node:
        socket = await node.socket(await node.user("alice"))
        for _ in range(60):
            await socket.emit("stopTyping", "x")
        await socket.ends()
        assert socket.payloads("error")[-1]["code"] == "slow_down"
        assert socket.payloads("error")[-1]["reconnect"] is True


async def test_one_call_at_a_time_in_order(node: LiveNode) -> None:
    """Twenty messages sent at once are twenty places in the order they were sent."""
    alice = await node.user("alice")
    room = await node.room(alice)
    socket = await node.socket(alice, room)
    running = most = 0
    post = node.chat.post

    async def counted(*arguments: object, **more: object) -> object:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await post(*arguments, **more)  # type: ignore[arg-type]
        finally:
            running -= 1

    node.chat.post = counted  # type: ignore[method-assign, assignment]
    answers = await asyncio.gather(
        *[socket.ask("sendMessage", room.id, f"m{number}") for number in range(20)]
    )
    assert [
        a["message"]["content"] for a in sorted(answers, key=lambda a: a["message"]["seq"])
    ] == [f"m{number}" for number in range(20)]
    assert most == 1


async def test_a_socket_joins_so_many_rooms(database_url: str) -> None:
    async with running_node(database_url, limits=Limits(rooms_per_socket=2)) as node:
        alice = await node.user("alice")
        one, two, three = [await node.room(alice) for _ in range(3)]
        socket = await node.socket(alice, one, two)
        assert (await socket.call("joinRoom", three.id))["error"]["code"] == "too_many_rooms"
        assert (await socket.call("joinRoom", two.id))["ok"], "joined already"
        await socket.call("leaveRoom", one.id)
        assert (await socket.call("joinRoom", three.id))["ok"]


async def test_a_user_has_so_many_sockets(database_url: str) -> None:
    async with running_node(database_url, limits=Limits(sockets_per_user=2)) as node:
        alice, bob = await node.user("alice"), await node.user("bob")
        first, _ = await node.socket(alice), await node.socket(alice)
        async with connected(node.url, await node.token(alice)) as third:
            assert third.refused is not None
            data = third.refused["data"]
            assert (data["code"], data["reconnect"], data["retry_after"]) == (
                "too_many_sockets",
                True,
                30,
            )
        await node.socket(bob)
        await first.close()
        await until(lambda: node.fact("sockets_authenticated") == 2)
        async with connected(node.url, await node.token(alice)) as third:
            assert third.sid


@pytest.mark.parametrize(
    "wrapped", [False, True], ids=["straight to the wire", "through the library"]
)
async def test_a_slow_reader_is_cut_off_and_nobody_else_feels_it(
    database_url: str, wrapped: bool
) -> None:
    limits = Limits(send_queue_bytes=300_000, cut_after=0.3, last_words=0.2)
    async with running_node(database_url, limits=limits, wrapped=wrapped) as node:
        alice, bob = await node.user("alice"), await node.user("bob")
        room = await node.room(alice, bob)
        good = await node.socket(alice, room)
        slow = await node.socket(bob, room)
        slow.stop_reading()
        slowest = 0.0
        sent = 0
        while not node.fact("slow_consumers_cut"):
            assert sent < 2000, "twenty megabytes, and still not cut off"
            began = time.monotonic()
            await node.chat.post(PID, room.id, alice.id, "x" * 8000)
            sent += 1
            await good.hears("message", sent)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1
        await until(lambda: node.fact("sockets") == 1)
        await node.chat.post(PID, room.id, alice.id, "after")
        assert (await good.hears("message", sent + 1))[-1]["content"] == "after"
        slow.hang_up()
