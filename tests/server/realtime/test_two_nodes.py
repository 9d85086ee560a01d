"""Two nodes, one database, one Redis: to the people in a room they are one server."""

import asyncio
import pickle
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio

from chat_broker_server.chat.models import MineChanges, RoomChanges, UserChanges
from chat_broker_server.cluster.bus import RedisBus
from chat_broker_server.realtime.limits import Limits
from tests.programs import free_port, wait_for_port
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.manual_clock import ManualClock
from tests.server.realtime.socket_client import connected

pytestmark = pytest.mark.services("redis")

CHANNEL = "chat:nodes:1"
Pair = tuple[LiveNode, LiveNode]


class RedisServer:
    """A Redis of this test alone, to stop, freeze and start again."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self._directory)], stdout=subprocess.DEVNULL
        )
        wait_for_port(self.port)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def nodes(database_url: str, redis_server: RedisServer) -> AsyncIterator[Pair]:
    limits = Limits(heartbeat=0.5, recheck_seconds=1)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(
            running_node(database_url, limits=limits, redis_url=redis_server.url)
        )
        two = await stack.enter_async_context(
            running_node(database_url, limits=limits, redis_url=redis_server.url)
        )
        await until(lambda: one.fact("nodes") == two.fact("nodes") == 2, within=20)
        yield one, two


async def test_a_room_is_one_room_on_both_nodes(nodes: Pair) -> None:
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob)
    here, there = await one.socket(alice, room), await two.socket(bob, room)
    sent = await here.call("sendMessage", room.id, "hello ✓")
    assert await there.hears("message") == [sent["message"]]
    assert await here.hears("message") == [sent["message"]]
    await there.call("startTyping", room.id)
    await here.hears("userTyping")
    await two.chat.edit(PID, room.id, sent["message"]["id"], "edited", by=None)
    assert (await here.hears("messageUpdated"))[0]["content"] == "edited"
    await two.chat.update_room(PID, room.id, RoomChanges(name="new"))
    assert (await here.hears("roomUpdated"))[0]["name"] == "new"


async def test_the_own_side_is_told_and_hidden_on_both_nodes(nodes: Pair) -> None:
    """Whichever node the change was made on."""
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob)
    there = await two.socket(bob)
    await there.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    first = await one.chat.post(PID, room.id, alice.id, "one")
    await there.hears("message")
    await one.chat.update_mine(PID, room.id, bob.id, MineChanges(clear_history=True))
    (told,) = await there.hears("mine")
    assert (told["room_id"], told["mine"]["from_seq"]) == (room.id, 2)
    assert told["totals"] == {"rooms": 0, "messages": 0, "mentions": 0, "direct": 0}
    later = await one.chat.post(PID, room.id, alice.id, "two")
    for message in (first, later):
        await one.chat.edit(PID, room.id, message.id, "edited", by=None)
    (edited,) = await there.hears("messageUpdated")
    assert edited["seq"] == 2
    await one.chat.mark_read(PID, room.id, bob.id, 2)
    assert (await there.hears("mine", 2))[1]["mine"]["last_read_seq"] == 2


async def test_blocks_and_new_names_are_told_on_both_nodes(nodes: Pair) -> None:
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob)
    there = await two.socket(bob)
    await there.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    await one.chat.block(PID, bob.id, alice.id)
    assert await there.hears("mine") == [{"reload": True}]
    await one.chat.update_user(PID, alice.id, UserChanges(display_name="Alice"))
    (told,) = await there.hears("userUpdated")
    assert (told["id"], told["display_name"]) == (alice.id, "Alice")


async def test_who_is_online_is_known_on_both_nodes(
    database_url: str, redis_server: RedisServer
) -> None:
    """Told by the node where they are, and to those who watch on the other one; a dead node's users go after it."""
    clocks = ManualClock(), ManualClock()
    limits = Limits(heartbeat=0.2)
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(
                running_node(database_url, limits=limits, redis_url=redis_server.url, clock=clock)
            )
            for clock in clocks
        ]
        await until(lambda: one.fact("nodes") == two.fact("nodes") == 2, within=20)
        alice, bob, carol = [await one.user(name) for name in ("alice", "bob", "carol")]
        await one.room(alice, bob, carol)
        watching = await two.socket(alice)
        await watching.call("watchPresence", {"userIds": [bob.id, carol.id]})
        bobs = await one.socket(bob)
        (told,) = await watching.hears("presence")
        assert told["changes"] == [{"user_id": bob.id, "online": True}]
        clocks[1].advance(2)
        await bobs.close()
        await until(lambda: two.realtime._users.online._leaving)
        await one.socket(carol)
        await watching.hears("presence", 2)
        clocks[0].advance(16)
        clocks[1].advance(16)
        told = (await watching.hears("presence", 3))[2]
        assert [(each["user_id"], each["online"]) for each in told["changes"]] == [(bob.id, False)]
        assert (await two.realtime.presence(PID, [carol.id], None))[0].online is True
        one.realtime._nodes._bus.send = lambda _: None  # type: ignore[method-assign]  # dead, to the other
        await until(lambda: two.fact("nodes") == 1)
        assert (await two.realtime.presence(PID, [carol.id], None))[0].online is True
        clocks[1].advance(16)
        told = (await watching.hears("presence", 4))[3]
        assert [(each["user_id"], each["online"]) for each in told["changes"]] == [
            (carol.id, False)
        ]


async def test_who_is_online_is_learnt_again_after_an_outage(
    nodes: Pair, redis_server: RedisServer
) -> None:
    one, two = nodes
    alice = await one.user("alice")
    redis_server.stop()
    await until(lambda: str(one.fact("bus_state")).startswith("degraded"))
    await one.socket(alice)
    redis_server.start()
    await until(lambda: two.realtime._users.online.is_online((PID, alice.id)), within=20)


async def test_signals_reach_sockets_of_both_nodes(nodes: Pair) -> None:
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob)
    here, there = await one.socket(alice), await two.socket(bob)
    for socket in (here, there):
        await socket.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    await here.call("sendSignal", {"roomId": room.id, "name": "wave"})
    await one.chat.signal_room(PID, room.id, "bell", {"x": 1})
    await one.chat.signal_user(PID, bob.id, "toast", None)
    told = await there.hears("signal", 3)
    assert [(each["name"], each["room_id"], each["user_id"]) for each in told] == [
        ("wave", room.id, alice.id),
        ("bell", room.id, None),
        ("toast", None, None),
    ]
    assert [each["name"] for each in await here.hears("signal")] == ["bell"]


async def test_receipts_are_told_on_both_nodes(nodes: Pair, redis_server: RedisServer) -> None:
    """At once; without Redis as soon as the other node looks at the database."""
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob)
    for _ in range(2):
        await one.chat.post(PID, room.id, alice.id, "x")
    there = await two.socket(alice)
    await there.call("joinRoom", {"roomId": room.id, "sinceRev": 0})
    await one.chat.mark_read(PID, room.id, bob.id, 1)
    (told,) = await there.hears("receipt")
    assert (told["user_id"], told["read_seq"], told["delivered_seq"]) == (bob.id, 1, 1)
    redis_server.stop()
    await until(lambda: str(two.fact("bus_state")).startswith("degraded"))
    await one.chat.mark_read(PID, room.id, bob.id, 2)
    await there.until(
        lambda: any(
            (told["user_id"], told["read_seq"]) == (bob.id, 2) for told in there.payloads("receipt")
        )
    )


async def test_who_watches_hears_of_rooms_on_the_other_node(nodes: Pair) -> None:
    """Rooms that come and go, activity, and one's own side."""
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    there = await two.socket(bob)
    assert (await there.call("watchRooms", {}))["deltas"] == []
    room = await one.room(alice, bob)
    (delta,) = await there.hears("roomAdded")
    assert delta["room"]["id"] == room.id
    await one.chat.post(PID, room.id, alice.id, "hello")
    (activity,) = await there.hears("roomActivity")
    assert (activity["last_message"]["content"], activity["unread"]) == ("hello", 1)
    await one.chat.mark_read(PID, room.id, bob.id, 1)
    assert (await there.hears("mine"))[0]["mine"]["unread"] == 0
    await one.chat.leave(PID, room.id, bob.id)
    assert await there.hears("roomRemoved") == [{"room_id": room.id, "reason": "left"}]


async def test_who_watches_hears_within_ten_seconds_without_redis(
    nodes: Pair, redis_server: RedisServer
) -> None:
    """Each node compares the rooms that it tells with the database; who was removed hears nothing more."""
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    kept, lost = await one.room(alice, bob), await one.room(alice, bob, private=True)
    there, bot = await two.socket(bob), await two.socket(bob)
    await there.call("watchRooms", {})
    await bot.call("watchRooms", {"deliver": "all"})
    redis_server.stop()
    await until(lambda: str(two.fact("bus_state")).startswith("degraded"))
    await one.chat.remove_member(PID, lost.id, bob.id)
    come = await one.room(alice, bob)
    await one.chat.post(PID, kept.id, alice.id, "hello")
    await one.chat.update_mine(PID, kept.id, bob.id, MineChanges(pinned=True))
    await one.chat.block(PID, bob.id, (await one.user("carol")).id)
    for socket in (there, bot):
        await socket.until(lambda socket=socket: {"reload": True} in socket.payloads("mine"))
        assert (await socket.hears("roomRemoved"))[0]["room_id"] == lost.id
        assert (await socket.hears("roomAdded"))[0]["room"]["id"] == come.id
        await socket.until(lambda socket=socket: len(socket.payloads("mine")) == 2)
    assert (await there.hears("roomActivity"))[0]["room_id"] == kept.id
    assert (await bot.hears("message"))[0]["room_id"] == kept.id
    for room in (lost, come):
        await one.chat.post(PID, room.id, alice.id, "later")
    assert (await bot.hears("message", 2))[1]["room_id"] == come.id
    await there.hears("roomActivity", 2)
    assert [each["room_id"] for each in bot.payloads("message")] == [kept.id, come.id]
    heard = {each["room_id"] for each in there.payloads("roomActivity")}
    assert heard == {kept.id, come.id}


async def test_writers_on_both_nodes_are_heard_in_one_order(nodes: Pair) -> None:
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob)
    here, there = await one.socket(alice, room), await two.socket(bob, room)
    writing = [
        node.chat.post(PID, room.id, alice.id, f"{n}") for n in range(100) for node in (one, two)
    ]
    await asyncio.gather(*writing)
    for socket in (here, there):
        heard = await socket.hears("message", 200)
        assert [message["seq"] for message in heard] == list(range(1, 201))


async def test_states_of_one_message_are_merged_on_both_nodes(nodes: Pair) -> None:
    """In a burst each node tells the first at once, the last within a moment, and revs in order."""
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob)
    message = await one.chat.post(PID, room.id, alice.id, "0")
    sockets = [await one.socket(alice, room), await two.socket(bob, room)]
    for n in range(1, 101):
        await one.chat.edit(PID, room.id, message.id, str(n), by=None)
    for socket in sockets:
        await socket.until(
            lambda s=socket: (
                s.payloads("messageUpdated")[-1:] != []
                and s.payloads("messageUpdated")[-1]["rev"] == 100
            )
        )
        told = socket.payloads("messageUpdated")
        revs = [each["rev"] for each in told]
        assert revs == sorted(set(revs))
        assert revs[0] == 1
        assert told[0]["change"] == {"kind": "edited"}
        assert told[-1]["content"] == "100"
        assert len(told) < 50


async def test_members_online_counts_people_of_both_nodes_once(nodes: Pair) -> None:
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob)
    await one.socket(alice, room)
    await two.socket(alice, room)
    bobs = await two.socket(bob)

    async def online(expected: int) -> None:
        async with asyncio.timeout(5):
            while (await bobs.call("joinRoom", room.id))["members_online"] != expected:  # noqa: ASYNC110  # another node's news
                await asyncio.sleep(0.1)

    await online(2)
    await one.stack.aclose()
    await online(2)
    claims = [
        c for c in two.realtime._sessions.connections if c.claims and c.claims.sub == alice.id
    ]
    assert len(claims) == 1
    await two.realtime.close_user(PID, alice.id, "token_revoked")
    await online(1)


async def test_closing_a_user_reaches_both_nodes_and_counts_both(nodes: Pair) -> None:
    one, two = nodes
    alice = await one.user("alice")
    sockets = [await node.socket(alice) for node in (one, two, two)]
    receipt = await one.realtime.close_user(PID, alice.id, "user_suspended")
    assert (receipt.sockets_closed, receipt.nodes_acked, receipt.nodes_total) == (3, 2, 2)
    assert receipt.took_ms < 500
    for socket in sockets:
        await socket.ends(within=1)
        assert socket.payloads("error")[-1]["code"] == "user_suspended"


async def test_removal_on_one_node_evicts_on_the_other(nodes: Pair) -> None:
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob, private=True)
    alices, bobs = await one.socket(alice, room), await two.socket(bob, room)
    await one.chat.remove_member(PID, room.id, bob.id)
    await bobs.hears("userLeft")
    await one.chat.post(PID, room.id, alice.id, "a secret")
    await alices.hears("message")
    await bobs.quiet()
    assert bobs.payloads("message") == []
    await until(lambda: two.fact("rooms_live") == 0)


async def test_a_node_that_does_not_answer_is_not_waited_for_long(nodes: Pair) -> None:
    one, two = nodes
    alice = await one.user("alice")
    mine = await one.socket(alice)
    two.realtime._nodes.broadcast = lambda _: None  # type: ignore[method-assign]  # deaf ears, in a way
    receipt = await one.realtime.close_user(PID, alice.id, "token_revoked")
    assert (receipt.nodes_acked, receipt.nodes_total) == (1, 2)
    assert 900 <= receipt.took_ms < 1500
    await mine.ends(within=1)


async def test_a_node_that_left_is_not_counted(nodes: Pair, database_url: str) -> None:
    one, two = nodes
    await two.realtime.close()
    await until(lambda: one.fact("nodes") == 1)
    receipt = await one.realtime.close_user(PID, "somebody", "token_revoked")
    assert (receipt.nodes_acked, receipt.nodes_total) == (1, 1)


async def test_junk_on_the_channel_is_counted_and_nothing_else(
    nodes: Pair, redis_server: RedisServer, tmp_path: Path
) -> None:
    """A pickle would run code where it is loaded; nobody loads it here."""
    one, two = nodes
    alice = await one.user("alice")
    room = await one.room(alice)
    socket = await two.socket(alice, room)
    proof = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> object:
            return (proof.touch, ())

    junk = [
        pickle.dumps(Bomb()),
        pickle.dumps({"method": "emit", "event": "message", "data": "forged", "room": room.id}),
        b"\xff\xfe\x00",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"v":1,"node":"x","body":{"type":"unheard of"}}',
        b'{"v":2,"node":"x","body":{"type":"beat"}}',
        b'{"v":1,"node":"","body":{"type":"beat"}}',
        b'{"v":1,"node":"x","body":{"type":"beat"},"x":"' + b"y" * 300_000 + b'"}',
    ]
    client = redis.asyncio.Redis.from_url(redis_server.url)
    for message in junk:
        await client.publish(CHANNEL, message)
        await client.publish("socketio", message)
    await client.aclose()
    await until(lambda: two.fact("bus_junk") == len(junk))
    assert not proof.exists()
    assert two.fact("nodes") == 2
    await one.chat.post(PID, room.id, alice.id, "real")
    assert [m["content"] for m in await socket.hears("message")] == ["real"]


async def test_redis_gone_and_back_loses_no_message(nodes: Pair, redis_server: RedisServer) -> None:
    """Meanwhile each node goes on by itself, says that it is degraded, and learns the rest from the database."""
    one, two = nodes
    alice, bob = await one.user("alice"), await one.user("bob")
    room = await one.room(alice, bob)
    here, there = await one.socket(alice, room), await two.socket(bob, room)
    redis_server.stop()
    await until(lambda: str(one.fact("bus_state")).startswith("degraded"))
    for number in range(5):
        answer = await here.call("sendMessage", room.id, f"m{number}")
        assert answer["ok"]
    assert len(await here.hears("message", 5)) == 5
    # The recheck against the database brings them even without Redis.
    assert [m["seq"] for m in await there.hears("message", 5)] == [1, 2, 3, 4, 5]
    redis_server.start()
    await until(lambda: one.fact("bus_state") == two.fact("bus_state") == "ok", within=15)
    await here.call("sendMessage", room.id, "again together")
    heard = await there.hears("message", 6)
    assert [m["seq"] for m in heard] == [1, 2, 3, 4, 5, 6]


async def test_a_frozen_redis_is_noticed_and_revocation_works_without_it(
    nodes: Pair, redis_server: RedisServer
) -> None:
    """Connected, and silent: the other node finds out from the database."""
    one, two = nodes
    alice = await one.user("alice")
    other = await two.socket(alice)
    redis_server.signal(signal.SIGSTOP)
    try:
        await one.tokens.revoke(PID, alice.id)
        receipt = await one.realtime.close_user(PID, alice.id, "token_revoked")
        assert receipt.nodes_acked == 1
        await other.ends(within=10)
        assert other.payloads("error")[-1]["code"] == "token_revoked"
        await until(lambda: str(two.fact("bus_state")).startswith("degraded"), within=15)
    finally:
        redis_server.signal(signal.SIGCONT)
    await until(lambda: one.fact("bus_state") == two.fact("bus_state") == "ok", within=20)


async def test_a_node_starts_without_redis_and_joins_later(
    database_url: str, redis_server: RedisServer
) -> None:
    redis_server.stop()
    limits = Limits(heartbeat=0.2)
    async with running_node(database_url, limits=limits, redis_url=redis_server.url) as node:
        alice = await node.user("alice")
        room = await node.room(alice)
        socket = await node.socket(alice, room)
        assert (await socket.call("sendMessage", room.id, "alone"))["ok"]
        assert str(node.fact("bus_state")).startswith("degraded")
        redis_server.start()
        await until(lambda: node.fact("bus_state") == "ok", within=15)


async def test_flushing_redis_changes_nothing(nodes: Pair, redis_server: RedisServer) -> None:
    one, two = nodes
    alice = await one.user("alice")
    token = await one.token(alice)
    await one.tokens.revoke(PID, alice.id)
    client = redis.asyncio.Redis.from_url(redis_server.url)
    await client.flushall()
    await client.aclose()
    async with connected(two.url, token) as socket:
        assert socket.refused is not None
        assert socket.refused["data"]["code"] == "token_revoked"


async def test_a_node_goes_away_also_while_it_speaks(redis_server: RedisServer) -> None:
    """Whatever turn of the loop the end comes in: redis-py may swallow a cancellation."""
    for turns in range(30):
        bus = RedisBus(redis_server.url)
        await bus.start(lambda _: None, lambda: None)
        await until(lambda bus=bus: bus.state == "ok")
        bus.send(b"goodbye")
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await bus.close()
