"""Nobody stays connected whose token is bad: by revocation, suspension, deletion, and races with all of them."""

import asyncio
from typing import Any

import pytest

from chat_broker_server.chat.models import UserChanges
from chat_broker_server.credentials.tokens import Claims
from chat_broker_server.realtime.limits import Limits
from tests.server.realtime.live_node import PID, LiveNode, running_node, until
from tests.server.realtime.socket_client import connected, opened


@pytest.mark.parametrize("code", ["token_revoked", "user_suspended", "user_deleted"])
async def test_closing_a_user_tells_and_closes_every_socket_of_theirs(
    node: LiveNode, code: str
) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    alices = [await node.socket(alice, room) for _ in range(5)]
    bobs = await node.socket(bob, room)
    receipt = await node.realtime.close_user(PID, alice.id, code)
    assert (receipt.sockets_closed, receipt.nodes_acked, receipt.nodes_total) == (5, 1, 1)
    for socket in alices:
        await socket.ends(within=1)
        assert socket.heard[-1][0] == "error"
        assert socket.heard[-1][1]["code"] == code
        assert socket.heard[-1][1]["reconnect"] is False
        assert socket.said_goodbye
    assert (await bobs.call("sendMessage", room.id, "I am still here"))["ok"]
    assert node.fact("sockets") == 1


async def test_closing_one_session_leaves_the_others(node: LiveNode) -> None:
    alice = await node.user("alice")
    one, other = await node.token(alice), await node.token(alice)
    claims = await node.tokens.check(one)
    async with connected(node.url, one) as first, connected(node.url, other) as second:
        receipt = await node.realtime.close_user(
            PID, alice.id, "token_revoked", session_id=claims.sid
        )
        assert receipt.sockets_closed == 1
        await first.ends()
        await second.quiet()


@pytest.mark.parametrize("round_", range(3))
async def test_a_revocation_during_the_handshake_is_not_outrun(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch, round_: int
) -> None:
    """Checked before the revocation, named after it: the socket must not live."""
    alice = await node.user("alice")
    token = await node.token(alice)
    read, go_on = asyncio.Event(), asyncio.Event()
    check = node.tokens.check

    async def slow(token: str) -> Claims:
        claims = await check(token)
        if not read.is_set():
            read.set()
            await go_on.wait()
        return claims

    monkeypatch.setattr(node.tokens, "check", slow)
    handshake = asyncio.create_task(_refusal(node, token))
    await read.wait()
    await node.tokens.revoke(PID, alice.id)
    receipt = await node.realtime.close_user(PID, alice.id, "token_revoked")
    assert receipt.sockets_closed == 0, "there was none yet"
    go_on.set()
    assert (await handshake)["code"] == "token_revoked"
    assert node.fact("sockets_authenticated") == 0


async def test_a_revocation_during_a_refresh_is_not_outrun(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await node.user("alice")
    socket = await node.socket(alice)
    fresh = await node.token(alice)
    read, go_on = asyncio.Event(), asyncio.Event()
    check = node.tokens.check

    async def slow(token: str) -> Claims:
        claims = await check(token)
        read.set()
        await go_on.wait()
        return claims

    monkeypatch.setattr(node.tokens, "check", slow)
    socket.ask("refreshToken", {"token": fresh})
    await read.wait()
    await node.tokens.revoke(PID, alice.id)
    await node.realtime.close_user(PID, alice.id, "token_revoked")
    go_on.set()
    await socket.ends()
    assert node.fact("sockets_authenticated") == 0


async def _refusal(node: LiveNode, token: str) -> Any:
    async with connected(node.url, token) as socket:
        assert socket.refused is not None, "it was let in"
        return socket.refused["data"]


async def test_many_handshakes_against_many_revocations(node: LiveNode) -> None:
    """Whoever is connected in the end has a token of the present generation."""
    alice = await node.user("alice")
    stop = False

    async def come() -> None:
        while not stop:
            async with connected(node.url, await node.token(alice)):
                await asyncio.sleep(0)

    comers = [asyncio.create_task(come()) for _ in range(4)]
    for _ in range(40):
        await node.tokens.revoke(PID, alice.id)
        await node.realtime.close_user(PID, alice.id, "token_revoked")
        generation = await node.tokens.revoke(PID, alice.id)
        held = [c.claims for c in node.realtime._sessions.connections if c.claims is not None]
        await node.realtime.close_user(PID, alice.id, "token_revoked")
        left = [c.claims for c in node.realtime._sessions.connections if c.claims is not None]
        assert all(claims.gen >= generation for claims in left), (held, left)
        await asyncio.sleep(0.01)
    stop = True
    await asyncio.gather(*comers)


@pytest.mark.parametrize("what", ["revoked", "suspended", "deleted", "session"])
async def test_a_lost_hint_is_healed_by_the_recheck(database_url: str, what: str) -> None:
    """Nobody told this node: it finds out by itself."""
    async with running_node(database_url, limits=Limits(recheck_seconds=0.2)) as node:
        alice, bob = await node.user("alice"), await node.user("bob")
        socket, bobs = await node.socket(alice), await node.socket(bob)
        match what:
            case "revoked":
                await node.tokens.revoke(PID, alice.id)
            case "suspended":
                await node.chat.update_user(PID, alice.id, UserChanges(status="suspended"))
            case "deleted":
                await node.chat.delete_user(PID, alice.id)
            case "session":
                (claims,) = [
                    c.claims
                    for c in node.realtime._sessions.connections
                    if c.claims and c.claims.sub == alice.id
                ]
                await node.tokens.revoke(PID, alice.id, claims.sid)
        await socket.ends(within=3)
        code = {"suspended": "user_suspended", "deleted": "user_deleted"}.get(what, "token_revoked")
        assert socket.payloads("error")[-1]["code"] == code
        await bobs.quiet()


async def test_a_client_may_leave_and_come_back_on_one_connection(node: LiveNode) -> None:
    """DISCONNECT and CONNECT again are the protocol's own; the second time somebody else may come."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    listener = await node.socket(bob, room)
    socket = await node.socket(alice, room)
    await socket.send("41")
    await until(lambda: node.fact("sockets_authenticated") == 1)
    await socket.send('421["sendMessage","%s","nobody says this"]' % room.id)  # noqa: UP031  # JSON is full of braces
    socket.sid = None
    token = await node.token(bob)
    await socket.send('40{"token":"%s"}' % token)  # noqa: UP031  # JSON is full of braces
    await socket.until(lambda: socket.sid)
    await node.chat.post(PID, room.id, bob.id, "hello")
    await listener.hears("message")
    await socket.quiet()
    assert socket.payloads("message") == [], "the room was alice's"
    assert len(listener.payloads("message")) == 1


async def test_a_second_connect_is_a_protocol_error(node: LiveNode) -> None:
    alice, bob = await node.user("alice"), await node.user("bob")
    socket = await node.socket(alice)
    await socket.send('40{"token":"%s"}' % await node.token(bob))  # JSON is full of braces
    assert (await socket.hears("error"))[0]["code"] == "protocol_error"
    (claims,) = [c.claims for c in node.realtime._sessions.connections]
    assert claims is not None
    assert claims.sub == alice.id


async def test_a_few_handshakes_and_no_more_on_one_connection(node: LiveNode) -> None:
    async with connected(node.url, "nonsense") as socket:
        for _ in range(4):
            await socket.send('40{"token":"nonsense"}')
        await socket.ends()


async def test_the_database_away_is_not_a_bad_token(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client is told to come back, not to stop; and nobody gets in meanwhile."""
    from chat_broker_server.database.open import unavailable

    token = await node.token(await node.user("alice"))

    async def away(_: str) -> Claims:
        raise unavailable("test")

    monkeypatch.setattr(node.tokens, "check", away)
    refused = await _refusal(node, token)
    assert (refused["code"], refused["reconnect"]) == ("database_unavailable", True)
    assert refused["retry_after"] == 1


async def test_a_bug_of_the_server_is_not_a_bad_token(
    node: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gets in by it, and nobody stays away for good because of it."""
    token = await node.token(await node.user("alice"))

    async def broken(_: str) -> Claims:
        raise RuntimeError("bug")

    monkeypatch.setattr(node.tokens, "check", broken)
    refused = await _refusal(node, token)
    assert (refused["code"], refused["reconnect"]) == ("internal_error", True)
    monkeypatch.undo()
    async with connected(node.url, token) as socket:
        assert socket.refused is None


async def test_nothing_is_left_of_connections_that_ended(node: LiveNode) -> None:
    """However they end: by the client, by the server, refused, or before they said anything."""
    alice, bob = await node.user("alice"), await node.user("bob")
    room = await node.room(alice, bob)
    for _ in range(5):
        await (await node.socket(alice, room)).close()
        (await node.socket(alice, room)).hang_up()
        await node.socket(bob, room)
        async with connected(node.url, "nonsense"), opened(node.url):
            pass
    await node.realtime.close_user(PID, bob.id, "token_revoked")
    await until(lambda: node.fact("sockets") == 0)
    library = node.realtime._sio
    await until(lambda: not library.eio.sockets)
    assert not library.manager.rooms
    assert not library.manager.pending_connect
    assert not library.manager.pending_disconnect
    assert not library.environ
    assert node.fact("rooms_live") == node.fact("sockets_authenticated") == 0
    assert node.realtime._presence.online((PID, room.id)) == 0
